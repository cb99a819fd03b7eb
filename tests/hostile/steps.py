"""What must happen next in a session, as the book says it; and what is known of the relay and its clients."""

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

ANY: Final = "any"  # what the book cannot know, because it followed the server


@dataclass(frozen=True, slots=True)
class Expect:
    """A reply must come now, with one of these codes. `is_enhanced`: if it is no 3xx, it bears an enhanced code."""

    codes: frozenset[str]
    is_enhanced: bool = True


@dataclass(frozen=True, slots=True)
class NeedInput:
    """Nothing more happens until the client says more."""


@dataclass(frozen=True, slots=True)
class NeedTls:
    """The client must begin TLS now."""


Step: TypeAlias = Expect | NeedInput | NeedTls
Play: TypeAlias = Generator[Step, tuple[str, ...], None]
"""Yields what must happen; is sent the reply, all its lines, after an Expect."""


@dataclass(frozen=True, slots=True)
class Message:
    """What must have reached `Acceptance`."""

    sender: str | None
    recipients: tuple[str, ...]
    content: bytes
    protocol: str
    login: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the relay is like."""

    security: str = "none"
    is_trusted: bool = True
    auth: str = "optional"
    passwords: tuple[tuple[str, str], ...] = ()
    message_size: int = 4000
    recipients: int = 3
    errors: int = 20
    login_failures: int = 5


@dataclass
class Book:
    """One relay as its clients see it: what lasts longer than a connection."""

    rules: Rules
    messages: list[Message] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
