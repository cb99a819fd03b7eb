"""Catches up with what the other workers change: once a second, and at once where one of them says so.

What they changed stands in the store and in the directory's file; here it is taken into memory.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

from relay import log
from relay.delivery.holds import Accounts, Slowness
from relay.delivery.server_health import ServerHealth, Unreached
from relay.listener.login_failures import LoginFailures
from relay.secrets.sources import SecretUnavailable
from relay.store.db.errors import StoreError
from relay.upstream.outcome import Phase
from relay.workers.guessing import Guessing
from relay.workers.line import Message
from relay.workers.siblings import LOOK, Siblings

_SECONDS = 1.0
_FAILURE, _PAUSE, _REACH = "login failure", "pause", "reach"
_LISTENERS, _PAGES = "listeners", "pages"


class CatchingUp:
    """Takes each of `looks` once a second, for as long as `run` goes on."""

    def __init__(self, siblings: Siblings, looks: Sequence[Callable[[], Awaitable[object]]]) -> None:
        self._siblings = siblings
        self._looks = looks
        self._wake = asyncio.Event()
        siblings.on(LOOK, lambda _, message: self._wake.set())  # noqa: ARG005

    async def run(self) -> None:
        """Look for ever, where there is anybody to catch up with."""
        while self._siblings.are_there:
            self._wake.clear()
            for look in self._looks:
                try:
                    await look()
                except (StoreError, SecretUnavailable) as error:
                    log.broken(f"what other workers changed is not known: {error}")
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    await self._wake.wait()


def share_pauses(siblings: Siblings, accounts: Accounts) -> None:
    """Let a pause that one worker's account has to make be made by all."""

    def tell(scope: str, pause: Slowness | None) -> None:
        facts = asdict(pause) | {"until": pause.until.isoformat()} if pause else None
        siblings.tell(_PAUSE, scope=scope, pause=facts)

    def heard(_: int, message: Message) -> None:
        facts: dict[str, Any] | None = message["pause"]
        pause = Slowness(**facts | {"until": datetime.fromisoformat(facts["until"])}) if facts else None
        accounts.follow_pause(message["scope"], pause)

    accounts.on_pause = tell
    siblings.on(_PAUSE, heard)


def share_server_health(siblings: Siblings, servers: ServerHealth) -> None:
    """Let all workers know which servers nobody gets through to."""

    def tell(server: str, unreached: Unreached | None) -> None:
        moments = {"since": unreached.since.isoformat(), "last": unreached.last.isoformat()} if unreached else {}
        siblings.tell(_REACH, server=server, unreached=asdict(unreached) | moments if unreached else None)

    def heard(_: int, message: Message) -> None:
        facts: dict[str, Any] | None = message["unreached"]
        if facts is None:
            servers.follow(message["server"], None)
            return
        moments = {key: datetime.fromisoformat(facts[key]) for key in ("since", "last")}
        servers.follow(message["server"], Unreached(**facts | moments | {"phase": Phase(facts["phase"])}))

    servers.on_change = tell
    siblings.on(_REACH, heard)


def shared_failures(siblings: Siblings, limit: int, guessing: Guessing | None = None) -> LoginFailures:
    """Return bad logins at the listeners, which all workers count together; the first tells and hears other relays."""

    def tell_siblings(key: str, is_failure: bool) -> None:
        siblings.tell(_FAILURE, key=key, is_failure=is_failure)

    def tell_relays(key: str, is_failure: bool) -> None:
        if guessing is not None:
            guessing.tell(_LISTENERS, key, is_failure=is_failure)

    def tell(key: str, is_failure: bool) -> None:
        tell_siblings(key, is_failure)
        tell_relays(key, is_failure)

    failures = LoginFailures(limit, tell=tell)

    def heard_here(_: int, message: Message) -> None:
        failures.heard(message["key"], is_failure=message["is_failure"])
        tell_relays(message["key"], message["is_failure"])

    def heard_elsewhere(key: str, is_failure: bool) -> None:
        failures.heard(key, is_failure=is_failure)
        tell_siblings(key, is_failure)

    siblings.on(_FAILURE, heard_here)
    if guessing is not None:
        guessing.join(_LISTENERS, heard_elsewhere)
    return failures


def page_failures(limit: int, guessing: Guessing | None = None) -> LoginFailures:
    """Return bad logins at the pages, which all relays at a database count together."""
    if guessing is None:
        return LoginFailures(limit)
    failures = LoginFailures(limit, tell=lambda key, is_failure: guessing.tell(_PAGES, key, is_failure=is_failure))
    guessing.join(_PAGES, lambda key, is_failure: failures.heard(key, is_failure=is_failure))
    return failures
