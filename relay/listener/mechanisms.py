"""The SASL mechanisms of AUTH: what is asked, and what the answers must be (RFC 4954, RFC 4616, RFC 5802).

Each mechanism is a function of a Talk, which asks the client, and of the Logins, which know the passwords; neither
base64 nor the network is seen here.

SECURITY: a password is a plain local value on its way to Logins. It is in no exception, reply or log.
"""

import re
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from relay.directory.client import Login
from relay.listener import replies
from relay.listener.commands import CommandFault
from relay.listener.ports import Logins

# No name is that long (an address has at most 254 octets), and it is kept: in the log, and where failures are counted.
_MOST_OF_A_NAME = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Talk(Protocol):
    """One exchange with a client, as a mechanism sees it."""

    async def ask(self, challenge: bytes) -> bytes:
        """Send a challenge and return the response. Raises CommandFault where there is none."""

    def claim(self, name: str) -> None:
        """Take note of whose login it is to be, before anything is checked. Raises CommandFault if that may not be."""


Mechanism: TypeAlias = Callable[[Talk, Logins], Coroutine[Any, Any, Login | None]]
"""Runs one exchange; None where name or password is wrong. Raises CommandFault for an answer that is none."""


async def plain(talk: Talk, logins: Logins) -> Login | None:
    """RFC 4616: everything in one message."""
    name, password = read_plain(await talk.ask(b""))
    talk.claim(name)
    return await logins.check(name, password)


async def login(talk: Talk, logins: Logins) -> Login | None:
    """LOGIN (draft-murchison-sasl-login): two questions, whose words some clients look for."""
    name = _text(await talk.ask(b"Username:"))[:_MOST_OF_A_NAME]
    password = _text(await talk.ask(b"Password:"))
    talk.claim(name)
    return await logins.check(name, password)


async def scram_sha_256(talk: Talk, logins: Logins) -> Login | None:
    """RFC 7677, without channel binding: the password stays with the client."""
    from relay.listener.scram import ScramExchange  # noqa: PLC0415  2 MB, for those who log in so

    exchange = ScramExchange(await talk.ask(b""))
    talk.claim(exchange.name)
    found, verifier = await logins.verifier(exchange.name)
    signature = exchange.check(await talk.ask(exchange.challenge(verifier)))
    if found is None or signature is None:
        return None
    # RFC 4954 section 4: 235 carries no data, so the signature goes out as a challenge with an empty response.
    if await talk.ask(signature):
        raise CommandFault(replies.bad_login_response("the last response of SCRAM is empty"))
    return found


def read_plain(response: bytes) -> tuple[str, str]:
    """Return name and password of a PLAIN response. Raises CommandFault."""
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise CommandFault(replies.bad_login_response("PLAIN is identity NUL name NUL password"))
    identity, name, password = (_text(part) for part in parts)
    if identity not in {"", name}:
        raise CommandFault(replies.FOREIGN_IDENTITY)
    return name[:_MOST_OF_A_NAME], password


def _text(octets: bytes) -> str:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise CommandFault(replies.bad_login_response("name and password are UTF-8")) from None
    if _CONTROL.search(text):
        raise CommandFault(replies.bad_login_response("name and password hold no control characters"))
    return text


# In the order in which EHLO names them.
MECHANISMS: Mapping[bytes, Mechanism] = MappingProxyType(
    {b"PLAIN": plain, b"LOGIN": login, b"SCRAM-SHA-256": scram_sha_256}
)
MECHANISM_NAMES = b" ".join(MECHANISMS).decode()
