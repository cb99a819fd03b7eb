"""Names and passwords of those who sign in to the pages, with limits as at the listener."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable

from relay import log
from relay.control.actor import Actor, Role, Way
from relay.control.context import ControlContext
from relay.control.refused import Refused, Unavailable
from relay.directory.client import Client
from relay.listener.login_failures import WINDOW, LoginFailures, failure_key, pause_after
from relay.mail.address import without_case
from relay.mail.reply import clean_text
from relay.secrets.authentication import Logins, TooManyLogins
from relay.secrets.login_password import admin_owner, login_owner
from relay.secrets.master_key import MasterKeyError
from relay.secrets.sources import SecretUnavailable
from relay.store.db.errors import StoreError
from relay.store.people.access import Administrator

_BUSY_SECONDS = 5


class TooMany(Refused):
    """Nobody may try a password from there now. `seconds` is after how long it is worth another try."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class SignIn:
    """Checks a name with a password. `first_pause` (seconds) is how long the answer to a third failure waits.

    `failures`: where several relays count them together.
    """

    def __init__(
        self, parts: ControlContext, logins: Logins, first_pause: float, failures: LoginFailures | None = None
    ) -> None:
        self._parts = parts
        self._logins = logins
        self._failures = failures or LoginFailures(parts.settings.limits.login_failures)
        self._first_pause = first_pause

    async def check(self, name: str, password: str, peer: str) -> Actor | None:
        """Return who it is: an administrator or viewer, else an agent; None for nobody. Raises TooMany, Refused."""
        return await self._counted(name, peer, lambda: self._who(name, password, peer))

    async def confirm(self, actor: Actor, password: str, peer: str) -> bool:
        """Whether an agent who is signed in knows the login password. Raises TooMany, Refused."""

        async def who() -> Actor | None:
            return actor if await self._logins.fits(login_owner(actor.name), actor.name, password) else None

        return await self._counted(actor.name, peer, who) is not None

    async def _counted(self, name: str, peer: str, who: Callable[[], Awaitable[Actor | None]]) -> Actor | None:
        client = _client(peer)
        key = failure_key(client, name)
        self._failures.limit = self._parts.settings.limits.login_failures
        self._check_bar(key)
        try:
            actor = await who()
        except TooManyLogins:
            raise TooMany("too many people sign in just now; try again in a moment", _BUSY_SECONDS) from None
        except (SecretUnavailable, StoreError, MasterKeyError) as error:
            log.broken(f"a sign-in could not be checked: {error}")
            raise Unavailable("nobody can sign in just now; relay's log says why") from None
        # SECURITY: asked again, because others from there may have failed while this one was being checked.
        self._check_bar(key)
        if actor is None:
            log.refused(what="sign-in", name=clean_text(name)[:200], peer=peer)
            await asyncio.sleep(pause_after(self._failures.add(key)) * self._first_pause)
        elif client.is_trusted:
            self._failures.forget(key)
        return actor

    async def _who(self, name: str, password: str, peer: str) -> Actor | None:
        """SECURITY: one hash whatever the name is, so that the time tells nobody which names there are."""
        person = named(await self._parts.people.administrators.all(), name)
        if person is not None:
            if not await self._logins.fits(admin_owner(person.name), person.name, password):
                return None
            return Actor(name=person.name, role=Role(person.role), way=Way.PAGE, peer=peer)
        login = await self._logins.check(name, password)
        if login is None or login.name not in self._parts.directory.routing().directory.agents:
            return None
        return Actor(name=login.name, role=Role.AGENT, way=Way.PAGE, peer=peer)

    def _check_bar(self, key: str) -> None:
        if self._failures.is_barred(key):
            minutes = round(WINDOW / 60)
            raise TooMany(f"too many passwords were wrong; try again in {minutes} minutes", round(WINDOW))


def named(people: list[Administrator], name: str) -> Administrator | None:
    """Return who has a name: exactly, or without case where that is one alone."""
    exact = [person for person in people if person.name == name]
    alike = exact or [person for person in people if without_case(person.name) == without_case(name)]
    return alike[0] if len(alike) == 1 else None


def _client(peer: str) -> Client:
    """Return who asks as the listener's failures count it: behind a loopback address may be a proxy for many people."""
    try:
        is_loopback = ipaddress.ip_address(peer).is_loopback
    except ValueError:
        is_loopback = not peer  # a unix socket; else a proxy has passed on what is not an address
    return Client(peer, peer, (), is_trusted=is_loopback)
