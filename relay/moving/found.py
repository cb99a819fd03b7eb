"""What the files of another program say, before it is written as entries of the directory. Values without I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from relay.mail.address import Address, AddressError

_NO_PASSWORD = re.compile("[\x00-\x1f\x7f\ufffd]")  # the last stands for what could not be read


class Place(NamedTuple):
    """Where a thing stands: a file, and the line in it from 1; 0 is the whole file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Note(NamedTuple):
    """What is not taken over, or not as it was, and what to do about it."""

    place: Place
    message: str


class Suggestion(NamedTuple):
    """A key of relay.toml that the files speak of, its value as TOML writes it, and why."""

    key: str
    value: str
    message: str


@dataclass(frozen=True, slots=True)
class Login:
    """Whom to log in as, and with what: a password, which shows itself nowhere, or where one comes from."""

    username: str
    password: str = field(default="", repr=False)
    password_from: str = ""

    @property
    def usable_password(self) -> str:
        """The password, "" where it has octets in it that are no UTF-8 or no text at all."""
        return "" if _NO_PASSWORD.search(self.password) else self.password


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server by its endpoint. `keys` are those of directory.toml beside login and address; `login` is its own."""

    host: str
    port: int
    keys: Mapping[str, Any]
    place: Place
    login: Login | None = None
    address: str = ""

    @property
    def identity(self) -> str:
        """The address of its own account's mail, as it compares; "" where there is none."""
        return address_key(self.address or (self.login.username if self.login else ""))


@dataclass(frozen=True, slots=True)
class FoundSender:
    """Who sends: an address or, as "@domain", all of one; through which server (a key of `Found.servers`), as whom.

    `leaves_as` is the address, or "@domain", that the mail leaves with.
    """

    address: str
    server: str
    leaves_as: str
    place: Place
    login: Login | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found. `default` is the key of the server for whoever has none of their own."""

    servers: Mapping[str, FoundServer]
    senders: tuple[FoundSender, ...]
    default: str | None = None
    notes: tuple[Note, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()


class CannotRead(Exception):
    """A file cannot be used at all. The message is one sentence with its name."""


def address_key(text: str) -> str:
    """Return how an address, or "@domain", compares; "" for what is none."""
    try:
        if text.startswith("@"):
            return f"@{Address.parse(f'x{text}').domain_key}"
        return Address.parse(text).key
    except AddressError:
        return ""
