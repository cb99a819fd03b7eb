"""AUTH: the mechanisms, one exchange between a client and the logins, and what too many wrong ones bring (RFC 4954).

What is asked, and what the answers must be, is in RFC 4616 (PLAIN) and RFC 5802 (SCRAM). Each mechanism is a function
of a Talk, which asks the client, and of the Logins, which know the passwords; neither base64 nor the network is there.

SECURITY: a password is a plain local value on its way to Logins. It is in no exception, reply or log.
"""

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from aiosmtpd.smtp import AuthResult

from relay import log
from relay.directory.client import Client, Login
from relay.listener import replies
from relay.listener.commands import LONGEST_RESPONSE, CommandFault, decode_response
from relay.listener.connection import Connection, LineTooLong
from relay.listener.events import ListenerEvents
from relay.listener.login_failures import LoginFailures, failure_key, pause_after
from relay.listener.ports import Logins
from relay.mail.reply import Reply, clean_text
from relay.secrets.authentication import TooManyLogins
from relay.secrets.sources import SecretUnavailable
from relay.store.db.errors import StoreError

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


class Authenticator:
    """Takes the logins of all sessions of one relay, so that failures count over all of its listeners.

    `first_pause` (seconds) is how long the answer to the third failure waits; each further one waits twice as long.
    """

    def __init__(self, logins: Logins, failures: LoginFailures, events: ListenerEvents, first_pause: float) -> None:
        self._logins = logins
        self._failures = failures
        self._events = events
        self._first_pause = first_pause

    async def log_in(
        self,
        connection: Connection,
        client: Client,
        mechanism: Mechanism,
        initial: bytes | None,
        pause: Callable[[float], Awaitable[None]],
    ) -> AuthResult:
        """Run one exchange; `initial` is the decoded initial response.

        Return aiosmtpd's result, whose data is the login, or the reply that refuses it.

        `pause` waits so many seconds, or until the client has left. Raises CommandFault where the client does not keep
        to the protocol, and ClientLeft.
        """
        talk = _Exchange(connection, initial, lambda name: self._check_bar(client, name))
        try:
            login = await mechanism(talk, self._logins)
        except _Barred:
            return self._refused(client, talk.name, replies.TOO_MANY_LOGIN_FAILURES)
        except TooManyLogins:
            return self._refused(client, talk.name, replies.NO_LOGINS_NOW)
        except (SecretUnavailable, StoreError) as error:
            log.broken(f"a login could not be checked: {error}")
            return self._refused(client, talk.name, replies.NO_LOGINS_NOW)
        key = failure_key(client, talk.name)
        # SECURITY: asked again, because others from there may have failed while this one was being checked. Else a
        # burst of logins at the same moment would get more answers than the limit.
        if self._failures.is_barred(key):
            return self._refused(client, talk.name, replies.TOO_MANY_LOGIN_FAILURES)
        if login is None:
            return await self._failed(client, talk.name, pause)
        if client.is_trusted:
            # Elsewhere failures count by address alone: one good login there must not pay for guessing others.
            self._failures.forget(key)
        return AuthResult(success=True, auth_data=login)

    async def _failed(self, client: Client, name: str, pause: Callable[[float], Awaitable[None]]) -> AuthResult:
        key = failure_key(client, name)
        count = self._failures.add(key)
        reply = replies.TOO_MANY_LOGIN_FAILURES if self._failures.is_barred(key) else replies.LOGIN_FAILED
        refused = self._refused(client, name, reply)
        await pause(pause_after(count) * self._first_pause)
        return refused

    def _check_bar(self, client: Client, name: str) -> None:
        if self._failures.is_barred(failure_key(client, name)):
            raise _Barred

    def _refused(self, client: Client, name: str, reply: Reply) -> AuthResult:
        self._events.login_refused(client.name, clean_text(name), reply)
        return AuthResult(success=False, handled=False, auth_data=reply)


class _Barred(Exception):
    """Too many logins from there have failed; no more are checked now."""


class _Exchange:
    """One exchange over the wire."""

    def __init__(self, connection: Connection, initial: bytes | None, check: Callable[[str], None]) -> None:
        self.name = ""
        self._connection = connection
        self._initial = initial
        self._check = check

    async def ask(self, challenge: bytes) -> bytes:
        """Return the initial response to the first question, if there is one; else what the client answers."""
        if self._initial is not None:
            initial, self._initial = self._initial, None
            return initial
        self._connection.send(replies.challenge(challenge))
        try:
            line = await self._connection.line(LONGEST_RESPONSE)
        except LineTooLong:
            raise CommandFault(replies.LINE_TOO_LONG) from None
        return decode_response(line)

    def claim(self, name: str) -> None:
        """Keep the name for the log. Raises _Barred."""
        self.name = name
        self._check(name)
