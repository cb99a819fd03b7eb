"""Tables: all channels or agents as CSV, and such a table taken back."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field, StrictBool

from relay.web.api.bodies import Body, Given
from relay.web.api.endpoint import Asking, Media, Subject
from relay.web.api.nouns import AGENTS, CHANNELS, Noun

_VERSION = "cbd3552dbbe9c2a7"


class Sheet(Given):
    """A table as CSV."""

    text: str = Field(
        description="The first line names the columns: `name`, keys of the entry in any order, and `password` for "
        "email passwords. A column that is missing leaves its values alone, an empty cell restores the default; lists "
        "are separated by `;`.",
        examples=["name,address,group\njane,jane@acmejets.example,sales\nbob,bob@,sales\n"],
    )
    confirm: StrictBool = Field(False, description="Do it. With one fault nothing is done at all.", examples=[False])
    expected: str | None = Field(
        None, description="`version` of what was shown: 412 where it would do something else by now."
    )


class SheetFault(Body):
    """What is wrong in a line."""

    line: int = Field(examples=[3])
    key: str = Field(examples=["address"])
    message: str = Field(examples=["'' is no domain"])


class SheetChange(Body):
    """What a table changes of one entry: old and new, by key."""

    name: str = Field(examples=["jane"])
    keys: dict[str, list[Any]] = Field(examples=[{"group": ["flights", "sales"]}])


class SheetResult(Body):
    """What a table adds and changes, and whether that is done."""

    rows: int = Field(examples=[2])
    adds: list[str] = Field(examples=[["bob"]])
    changes: list[SheetChange]
    passwords: list[str] = Field(description="Whose email password the table sets.", examples=[["bob"]])
    unchanged: int = Field(description="How many rows change nothing.", examples=[0])
    faults: list[SheetFault]
    version: str = Field(description="Of what it does, for `expected`.", examples=[_VERSION])
    done: bool = Field(examples=[False])


class PasswordNames(Given):
    """Whose passwords are tried."""

    names: list[str] | None = Field(None, description="Left out: all.", examples=[["jane", "bob"]])


class Tried(Body):
    """Whose password does not work, or is not known to, and the server's words, or ours."""

    name: str = Field(examples=["bob"])
    state: Literal["refused", "unknown"] = Field(examples=["refused"])
    detail: str = Field(examples=["acmejets refuses this password for bob@acmejets.example: 535 5.7.8 Wrong"])


class PasswordTrial(Body):
    """How far the passwords are tried, and which do not work."""

    started: str | None = Field(description="null: none since Relay started.", examples=["2026-11-24T09:30:00Z"])
    running: bool = Field(examples=[False])
    total: int = Field(description="How many passwords there are to try.", examples=[2])
    tried: int = Field(examples=[2])
    works: int = Field(examples=[1])
    refused: int = Field(description="How many the servers refuse.", examples=[1])
    unknown: int = Field(description="How many could not be tried.", examples=[0])
    items: list[Tried] = Field(description="Those that do not work or could not be tried, at most 1,000.")


def add_routes(routes: APIRouter) -> None:
    """Add the routes of tables."""
    for noun in (CHANNELS, AGENTS):
        _add_sheet(Subject(routes, noun.tag), noun)
        _add_trial(Subject(routes, noun.tag), noun)


def _add_sheet(subject: Subject, noun: Noun) -> None:
    example = Media("text/csv", f"name,address\r\n{noun.new.example['name']},{noun.new.example['address']}\r\n")

    @subject.request(
        f"GET {noun.path}.csv",
        f"{noun.word}.export",
        example,
        summary=f"Export all {noun.tag} as CSV",
        description="With every key that is no table, and without passwords.",
    )
    async def export(caller: Asking) -> Response:
        sheet = await caller.run(f"{noun.word}.export")
        return Response(sheet["text"], media_type=example.type)

    @subject.request(
        f"POST {noun.path}.csv",
        f"{noun.word}.import",
        SheetResult,
        409,
        412,
        summary=f"Import {noun.tag} from CSV",
        description="A known name is a change, another one an addition. Nothing changes until `confirm`.",
    )
    async def import_sheet(caller: Asking, body: Sheet) -> Any:
        return await caller.run(f"{noun.word}.import", text=body.text, confirm=body.confirm, expected=body.expected)


def _add_trial(subject: Subject, noun: Noun) -> None:
    @subject.request(
        f"POST {noun.path}.csv/passwords",
        f"{noun.word}.passwords-try",
        PasswordTrial,
        409,
        status=202,
        summary=f"Try the email passwords of {noun.tag}",
        description="Each by one login at its server, in the background: no message is sent. Those without an account "
        "of their own are left out. It takes the place of a run that is not over yet.",
    )
    async def begin(caller: Asking, body: PasswordNames) -> Any:
        return await caller.run(f"{noun.word}.passwords-try", names=body.names)

    @subject.request(
        f"GET {noun.path}.csv/passwords",
        f"{noun.word}.passwords-tried",
        PasswordTrial,
        summary=f"Show how far the passwords of {noun.tag} are tried",
    )
    async def tried(caller: Asking) -> Any:
        return await caller.run(f"{noun.word}.passwords-tried")
