"""What the bodies of requests and answers have in common, and their examples in the description."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")

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
