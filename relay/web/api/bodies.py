"""What the bodies of requests and answers have in common, their examples, and what the address of a request says."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, get_args, get_origin

from fastapi import Path
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, create_model

Item = TypeVar("Item")

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
VERSION = "5f1c2a9b7d3e4f60"
"""That of an entry, in examples."""


class Body(BaseModel):
    """A JSON object. `example` has the values that the examples of its fields do not give."""

    example: ClassVar[Mapping[str, Any]] = MappingProxyType({})


class Given(Body):
    """What is sent to us: a key that there is not is a fault, and no fault repeats a value."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Told(Body):
    """What is told as an operation has it: also a key that is not declared, and a test finds that."""

    model_config = ConfigDict(extra="allow")


class Page(Body, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    total: int = Field(description="How many match in all.", examples=[1])
    start: int = Field(description="The number of the first one here, from 0.", examples=[0])


class Done(Body):
    """It is done."""

    ok: bool = Field(True, examples=[True])


class Password(Given):
    """A password: one line of text. It is never shown again."""

    password: str = Field(min_length=1, examples=["correct horse battery staple"])


class MailPassword(Password):
    """A password with which mail logs in at its server. It is tried there first."""

    unchecked: StrictBool = Field(
        False, description="Keep it without trying it, or although the server refuses it.", examples=[False]
    )


class Invitation(Body):
    """A one-time link by which somebody sets the own passwords. It takes the place of the one before."""

    url: str = Field(examples=["https://relay.acmejets.example/welcome/EpHMf0kf732LBBJF-V_TeCxGa57Hzjb3wa9-aBk4tak"])
    expires: str = Field(examples=["2026-11-25T09:30:00Z"])


def example_of(kind: Any) -> Any:
    """Return the example of a body: of a model, or of a list of them. A key that has none is not in it."""
    if get_origin(kind) is list:
        return [example_of(get_args(kind)[0])]
    found: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        key = field.alias or name
        if key in kind.example:
            found[key] = kind.example[key]
        elif field.examples:
            found[key] = field.examples[0]
        elif _is_body(field.annotation):
            found[key] = example_of(field.annotation)
    return found


def _is_body(kind: Any) -> bool:
    if get_origin(kind) is list:
        return _is_body(get_args(kind)[0])
    return isinstance(kind, type) and issubclass(kind, Body)


def name_of(example: str) -> Any:
    """Return the type of a name in a path."""
    return Annotated[str, Path(pattern=NAME_PATTERN, description="Its name.", examples=[example])]


def _no_number(given: object) -> object:
    """Refuse seconds since 1970, which pydantic would take for a time."""
    if isinstance(given, str) and "T" not in given.upper():
        raise ValueError("a time is written as 2026-11-24T10:05:00Z")
    return given


Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_no_number)]


class Span(BaseModel):
    """A stretch of time."""

    since: Moment | None = Field(None, description="Not before this time.", examples=["2026-11-24T00:00:00Z"])
    until: Moment | None = Field(None, description="Before this time.", examples=["2026-11-25T00:00:00Z"])


class ListRange(BaseModel):
    """Which part of a list."""

    start: int = Field(0, ge=0, le=2**31, description="The number of the first one wanted, from 0.")
    limit: int = Field(50, ge=1, le=500, description="How many at most.")


class Listing(ListRange):
    """Which part of a list, in which order, and of whom."""

    sort: str = "name"
    descending: bool = Field(False, description="From the last to the first.")
    contains: str = Field(
        "", max_length=200, description="A text that one of their values has, without case.", examples=["acme"]
    )


class ProfileListing(Listing):
    """The same for channels."""

    server: str | None = Field(
        None, max_length=200, description="Only those who send through this server.", examples=["acmejets"]
    )
    password: Literal["set", "missing"] | None = Field(
        None, description="Only those whose password for the server is set, or is needed and missing."
    )


class AgentListing(ProfileListing):
    """The same for agents."""

    group: str | None = Field(None, max_length=200, description="Only those of this group.", examples=["sales"])
    role: str | None = Field(None, max_length=200, description="Only those with this role.", examples=["agent"])


def sorted_by(listing: type[Listing], record: type[BaseModel]) -> Any:
    """Return a listing that sorts by the keys of the records."""
    keys: Any = tuple(key for key in record.model_fields if key != "version")
    key: Any = Literal[keys]
    return create_model(
        f"{record.__name__}{listing.__name__}",
        __base__=listing,
        sort=(key, Field("name", description="The key to sort by.")),
    )
