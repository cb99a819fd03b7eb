"""Checks who logs in at Relay: the port `Logins` of `relay.listener.ports`.

The record of a login is read from the store at every login, so that a password which was set or removed counts at
once, whoever did it. While the store is away the record counts that was read last. Hashes are made in two threads of
their own, off the event loop. Logins that were right a moment ago are remembered, so that software which logs in for
every message costs no hash each time.

SECURITY: a name that is nobody's, a name without a login password and a wrong password take the same steps: one look
at the store, one hash. What is remembered shortens right logins only.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from relay.directory.client import Login, login_of
from relay.directory.index import login_key
from relay.directory.routing import Routing
from relay.secrets.login_password import (
    LoginRecord,
    PasswordHash,
    Verifier,
    fake_verifier,
    is_hash_of,
    login_owner,
    nobodys_hash,
    parse_record,
    prepare,
)
from relay.secrets.master_key import MasterKeyError
from relay.secrets.secret import Secret
from relay.secrets.sources import SecretUnavailable
from relay.secrets.vault import SecretRefused, Vault
from relay.system.process import in_short_turns

_THREADS = 2
# More than these wait longer than a client should, and hold a session each.
_MOST_WAITING = 64
_NOBODY = login_owner("")  # nobody's name is empty


class TooManyLogins(SecretUnavailable):
    """Too many passwords wait to be checked. That is a client's doing and no trouble of ours."""


class Logins:
    """Who can log in. `routing` returns the routing of the directory as it is now."""

    def __init__(
        self, vault: Vault, routing: Callable[[], Routing], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._vault = vault
        self._routing = routing
        self._remembered = RememberedLogins(clock)
        self._threads = ThreadPoolExecutor(_THREADS, "login")
        self._waiting = 0
        self._nobodys_hash = nobodys_hash()
        self._has_read = False

    async def check(self, name: str, password: str) -> Login | None:
        """Return whose name and password these are, None where they are nobody's.

        Raises SecretUnavailable where that cannot be told now, and what the store raises.
        """
        login = login_of(self._routing(), name)
        kept = await self._kept(login)
        if login is not None and kept is not None and self._remembered.knows(login.name, password, kept.version):
            return login
        record = await self._record(login.name if login else "", kept)
        is_right = await self._in_thread(password, record.hash if record else self._nobodys_hash)
        if login is None or kept is None or not is_right:
            return None
        self._remembered.keep(login.name, password, kept.version)
        return login

    async def verifier(self, name: str) -> tuple[Login | None, Verifier]:
        """Return whose name it is, and what checks a SCRAM exchange; no password fits that of a name that is nobody's.

        Raises SecretUnavailable, and what the store raises.
        """
        login = login_of(self._routing(), name)
        record = await self._record(login.name if login else "", await self._kept(login))
        if login is not None and record is not None:
            return login, record.verifier
        return None, fake_verifier(self._fake_key, login_key(name))

    async def fits(self, owner: str, whose: str, password: str) -> bool:
        """Tell whether a password is the one of the record that an owner has in the vault: one hash in any case.

        Raises SecretUnavailable where that cannot be told now, and what the store raises.
        """
        kept = await self._latest(owner)
        record = await self._record(whose, kept)
        is_right = await self._in_thread(password, record.hash if record else self._nobodys_hash)
        return is_right and record is not None

    def close(self) -> None:
        """End the threads. Nobody may be waiting for them any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def _fake_key(self) -> bytes:
        """The same after a restart, as what a name has in the vault is, and known to us alone."""
        return self._vault.secret_of("verifiers of names that are nobody's").version.encode()

    async def _kept(self, login: Login | None) -> Secret | None:
        return await self._asked(self._vault.latest_known, login_owner(login.name) if login else _NOBODY)

    async def _latest(self, owner: str) -> Secret | None:
        return await self._asked(self._vault.latest, owner)

    @staticmethod
    async def _asked(ask: Callable[[str], Awaitable[Secret | None]], owner: str) -> Secret | None:
        try:
            return await ask(owner)
        except MasterKeyError as error:  # another process changed the key, and the new one is not at hand
            raise SecretUnavailable(str(error)) from None

    async def _record(self, name: str, kept: Secret | None) -> LoginRecord | None:
        if kept is None:
            return None
        if not self._has_read:  # the first one loads what reads them
            record, self._has_read = await in_short_turns(parse_record, kept.value, name), True
            return record
        return parse_record(kept.value, name)

    async def _in_thread(self, password: str, hash_: PasswordHash) -> bool:
        if self._waiting >= _MOST_WAITING:
            raise TooManyLogins(f"{self._waiting} logins wait for their password to be checked; try again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _is_right, password, hash_)
        finally:
            self._waiting -= 1


def _is_right(password: str, hash_: PasswordHash) -> bool:
    try:
        prepared = prepare(password)
    except SecretRefused:
        is_hash_of(hash_, "")  # what can be nobody's password takes as long
        return False
    return is_hash_of(hash_, prepared)


_MOST_ENTRIES = 1000
_KEPT_SECONDS = 600.0


class RememberedLogins:
    """Marks of names with their passwords. Each holds for 10 minutes and for one version of the login's record.

    SECURITY: a mark is an HMAC under a key that this process alone has and never writes. A password that was changed
    or removed has another version or none, so its mark fits no more.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._entries: dict[bytes, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def knows(self, name: str, password: str, version: str) -> bool:
        """Tell whether this password was right for this name and version."""
        mark = self._mark(name, password)
        kept, until = self._entries.get(mark, ("", 0.0))
        if kept == version and self._clock() < until:
            return True
        self._entries.pop(mark, None)
        return False

    def keep(self, name: str, password: str, version: str) -> None:
        """Remember that a password was right; where there are too many, the oldest goes."""
        mark = self._mark(name, password)
        self._entries.pop(mark, None)
        if len(self._entries) >= _MOST_ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[mark] = (version, self._clock() + _KEPT_SECONDS)

    def _mark(self, name: str, password: str) -> bytes:
        text = f"{len(name)}:{name}{password}"  # with the length, or "ab" + "c" would be "a" + "bc"
        return hmac.digest(self._key, text.encode(errors="surrogatepass"), "sha256")
