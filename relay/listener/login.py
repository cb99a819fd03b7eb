"""AUTH: one exchange between a client and the logins, and what too many wrong ones bring (RFC 4954)."""

from collections.abc import Awaitable, Callable

from aiosmtpd.smtp import AuthResult

from relay import log
from relay.directory.client import Client
from relay.listener import replies
from relay.listener.commands import LONGEST_RESPONSE, CommandFault, decode_response
from relay.listener.connection import Connection, LineTooLong
from relay.listener.failures import LoginFailures, failure_key, pause_after
from relay.listener.mechanisms import Mechanism
from relay.listener.ports import Logins
from relay.listener.telling import DoorTelling
from relay.mail.reply import Reply, clean_text
from relay.secrets.logins import TooManyLogins
from relay.secrets.sources import SecretUnavailable
from relay.store.errors import StoreError


class LoginDesk:
    """Takes the logins of all sessions of one relay, so that failures count over all of its listeners.

    `first_pause` (seconds) is how long the answer to the third failure waits; each further one waits twice as long.
    """

    def __init__(self, logins: Logins, failures: LoginFailures, telling: DoorTelling, first_pause: float) -> None:
        self._logins = logins
        self._failures = failures
        self._telling = telling
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
        talk = _Talk(connection, initial, lambda name: self._check_bar(client, name))
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
        # crowd that asks at the same moment would have more answers than the limit.
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
        self._telling.login_refused(client.name, clean_text(name), reply)
        return AuthResult(success=False, handled=False, auth_data=reply)


class _Barred(Exception):
    """Too many logins from there have failed; no more are checked now."""


class _Talk:
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
