"""What is said of a key beside its type, in the model: what it may be, and how a form asks for it."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le

from relay.config.schema import Strict

Flag: TypeAlias = Annotated[bool, Strict()]
Count: TypeAlias = Annotated[int, Strict(), Ge(0)]
Number: TypeAlias = Annotated[int, Strict(), Ge(1)]
Port: TypeAlias = Annotated[int, Strict(), Ge(1), Le(65535)]

MACHINE_KEYS = frozenset({"password_from", "ca_file", "key_file"})
"""Keys that name files and programs of the machine. They are set there alone, not over pages and API."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a form asks for a key: it stands behind the key's meaning in its type. `column` heads it in a list.

    `is_exact`: what is typed is a technical name, which a browser must not correct.
    """

    label: str
    hint: str = ""
    column: str = ""
    placeholder: str = ""
    is_exact: bool = False

    @property
    def head(self) -> str:
        """The head of its column."""
        return self.column or self.label


TypedPassword: TypeAlias = Annotated[
    str, "The password itself works, with a warning; `relay secrets import` moves it to the vault."
]
PasswordSource: TypeAlias = Annotated[
    str,
    "Where the password comes from, if not from the vault: file:PATH, env:NAME, credential:NAME or command:LINE.",
]


def hint_of(table: type, key: str) -> Any:
    """Return the type of a key, with what stands beside it; "oauth.flow" is a key of a table inside."""
    outer, _, inner = key.partition(".")
    hint = _hints(table)[outer]
    return hint_of(plain_type(hint), inner) if inner else hint


@cache  # asked for every field of every form; a model never changes
def _hints(table: type) -> Mapping[str, Any]:
    return get_type_hints(table, include_extras=True)


def asked_of(table: type, key: str) -> Asked | None:
    """Return how a form asks for a key; None for one that no form asks for."""
    return next((extra for extra in get_args(hint_of(table, key)) if isinstance(extra, Asked)), None)


def default_of(table: type, key: str) -> Any:
    """Return what a key is where nobody says it; None where that is nothing, and for one that must be said."""
    outer, _, inner = key.partition(".")
    if inner:
        return default_of(plain_type(hint_of(table, outer)), inner)
    field = next(field for field in fields(table) if field.name == key)
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def is_needed(table: type, key: str) -> bool:
    """Whether a key has no default. One of a table inside is not needed, as the table is not."""
    known: Mapping[str, Any] = {field.name: field for field in fields(table)}
    return key in known and known[key].default is MISSING and known[key].default_factory is MISSING


def plain_type(hint: Any) -> Any:
    """Return the type that a hint speaks of, without its Annotated and its `| None`."""
    if get_origin(hint) is Annotated:
        return plain_type(get_args(hint)[0])
    if type(None) in get_args(hint):
        return plain_type(next(arg for arg in get_args(hint) if arg is not type(None)))
    return hint
