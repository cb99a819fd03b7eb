"""Tables: all channels or agents as CSV, and such a table taken back."""

from typing import Any

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
    unchanged: int = Field(description="How many rows change nothing.", examples=[0])
    faults: list[SheetFault]
    version: str = Field(description="Of what it does, for `expected`.", examples=[_VERSION])
    done: bool = Field(examples=[False])


def add_routes(routes: APIRouter) -> None:
    """Add the routes of tables."""
    for noun in (CHANNELS, AGENTS):
        _add_sheet(Subject(routes, noun.tag), noun)


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
