"""The backup of a server: when it takes over, which mail goes by it, and when the server has its mail again.

THE RULE, for each server with `backup`, from what is known of it (`relay.delivery.holds.ServerHealth`):

- It is *away* when `_ATTEMPTS` in a row, over at least `_AWAY_AFTER`, ended before a login could be tried. A server
  that refuses, whatever it refuses, is there.
- Mail of a server that is away goes by its backup, or by the backup of that one where it is away, too; but only if it
  leaves with the same identity there, as an account that is not held, and the server of that account wants no login or
  has a secret of its own for it. All other mail waits for the server, as it does without a backup.
- A server that failed once is probed every `_SUSPECT_EVERY`, so that little traffic takes no longer; one that is away
  once in `_AWAY_EVERY`. A probe is a connection up to EHLO: no login, no message. Any attempt counts as one.
- One that gets further ends it: mail goes by the server again.

SECURITY: no secret is given to a server that it was not set for. A profile with an account of its own has a secret for
its own server alone, so its mail goes by a backup that wants no login, or waits.

The process that learns of a server tells the others of its machine; each node learns by itself. Nothing is stored:
after a restart a server is there until it is not.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from relay.delivery.events import MessageEvents
from relay.delivery.holds import Accounts, Unreached
from relay.directory.directory import Directory
from relay.directory.model import Account, Server
from relay.directory.routing import Route
from relay.secrets.resolver import SecretResolver
from relay.secrets.secret import secret_ref
from relay.upstream.outcome import Failure

_ATTEMPTS = 3
_AWAY_AFTER = 60.0  # seconds, as the others
_SUSPECT_EVERY = 20.0
_AWAY_EVERY = 60.0


def is_away(unreached: Unreached | None) -> bool:
    """Whether a server cannot be reached for so long that its backup takes over."""
    if unreached is None or unreached.times < _ATTEMPTS:
        return False
    return (unreached.last - unreached.since).total_seconds() >= _AWAY_AFTER


def is_probe_due(unreached: Unreached, now: datetime) -> bool:
    """Whether it is time to look if a server is back."""
    return (now - unreached.last).total_seconds() >= (_AWAY_EVERY if is_away(unreached) else _SUSPECT_EVERY)


def by_backup(route: Route, servers: Directory) -> Route | None:
    """Return a route by the backup of its server; None where there is none, or mail would leave as somebody else."""
    server, backup = route.server, servers.servers.get(route.server.backup)
    if backup is None:
        return None
    if route.override:
        if backup.internal:
            return None
        account = Account(backup.name, route.account.username)
    else:
        if server.identity is None or backup.identity is None or backup.identity.key != server.identity.key:
            return None
        account = Account(backup.name, backup.username)
    reason = f"{route.reason}; '{server.name}' cannot be reached, so it goes by its backup '{backup.name}'"
    return replace(route, server=backup, account=account, reason=reason)


@dataclass(slots=True, kw_only=True)
class Backups:
    """The backups of one relay's servers. `directory` returns the directory in effect.

    `reach` tries whether a server is there; None: nobody probes, and attempts alone say.
    """

    directory: Callable[[], Directory]
    secrets: SecretResolver
    accounts: Accounts
    events: MessageEvents
    clock: Callable[[], datetime]
    reach: Callable[[Server], Awaitable[Failure | None]] | None = None
    _probes: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def way(self, route: Route) -> Route:
        """Return the route by which mail leaves now: this one, or that by a backup. For servers with `backup` only."""
        known = self.accounts.servers.known
        if not is_away(known.get(route.server.name)):
            return route
        directory, there = self.directory(), route
        while (found := by_backup(there, directory)) is not None:
            if not is_away(known.get(found.server.name)):
                return found if self._may_go(found) else route
            there = found
        return route

    def taken_over(self) -> dict[str, str]:
        """Return which server sends the mail of which ones that are away, by their names."""
        known, servers = self.accounts.servers.known, self.directory().servers
        taken = {}
        for name in [name for name, unreached in list(known.items()) if is_away(unreached)]:
            server = servers.get(name)
            while server is not None and is_away(known.get(server.name)):
                server = servers.get(server.backup)
            if server is not None:
                taken[name] = server.name
        return taken

    def note(self, server: Server, failure: Failure | None) -> None:
        """Take note of how an attempt, or a probe, at a server ended, and tell the log where its backup takes over."""
        servers = self.accounts.servers
        was = is_away(servers.known.get(server.name))
        servers.note(server.name, failure, self.clock)
        unreached = servers.known.get(server.name)
        if server.backup and is_away(unreached) != was:
            self.events.away(server, unreached.why if unreached is not None else "")

    def look(self) -> None:
        """Begin the probes that are due. Cheap where every server is there."""
        servers, now = self.directory().servers, self.clock()
        for name, unreached in list(self.accounts.servers.known.items()):
            server = servers.get(name)
            if server is None or not server.backup or name in self._probes or self.reach is None:
                continue
            if is_probe_due(unreached, now):
                task = self._probes[name] = asyncio.create_task(self._probe(server))
                task.add_done_callback(lambda _, name=name: self._probes.pop(name))  # type: ignore[misc]

    async def stop(self) -> None:
        """End the probes that are under way."""
        tasks = list(self._probes.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, server: Server) -> None:
        assert self.reach is not None
        self.note(server, await self.reach(server))

    def _may_go(self, route: Route) -> bool:
        """Whether an account may send now, with a secret that was set for its server."""
        hold = self.accounts.hold_of(route.account, route.identity)
        if hold is not None and (hold.address or not self.accounts.is_probing(route.account)):
            return False
        ref = secret_ref(route.server, route.profile, override=route.override)
        return ref is None or (not route.override and self.secrets.is_set(ref))
