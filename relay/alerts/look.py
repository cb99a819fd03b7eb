"""What needs a person just now: a look at accounts, servers, queue, authorizations, certificate and disk."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.alerts.digest import Trouble
from relay.delivery.holds import Unreached
from relay.directory.routing import Routing
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.secret import token_refs
from relay.store.queue.messages import HoldRow

_UNREACHED_AFTER = timedelta(minutes=5)
_EXPIRES_IN = (
    (timedelta(0), "has expired"),
    (timedelta(days=1), "expires within a day"),
    (timedelta(days=7), "expires within 7 days"),
    (timedelta(days=14), "expires within 14 days"),
)
# Of the room below which no mail is taken.
_FLOORS = 4
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a look looks. `oldest` returns when the oldest message came that waits for its next attempt."""

    holds: Callable[[], Sequence[HoldRow]]
    unreached: Callable[[datetime], Sequence[Unreached]]
    oldest: Callable[[], Awaitable[datetime | None]]
    certificate: Callable[[], datetime | None]
    free: Callable[[], int | None]


def held(holds: Sequence[HoldRow]) -> Iterator[Trouble]:
    """Yield a trouble for each hold."""
    for one in holds:
        account = f"{one.server}/{one.username}"
        who = f"account {account}" if not one.address else f"account {account} as {one.address}"
        yield Trouble(
            kind="account-held",
            key=f"account-held {account} {one.address}".rstrip(),
            title=f"{who} is held ({one.meaning}): {one.reason}",
            group=f"accounts of server {one.server} are held ({one.meaning})",
        )


def away(unreached: Sequence[Unreached], now: datetime) -> Iterator[Trouble]:
    """Yield a trouble for each server that nobody reaches, once that has lasted."""
    for one in unreached:
        if now - one.since >= _UNREACHED_AFTER:
            title = f"nobody gets through to server {one.server}: {one.why}"
            yield Trouble(kind="server-unreached", key=f"server-unreached {one.server}", title=title)


def old(oldest: datetime | None, now: datetime, seconds: float) -> Iterator[Trouble]:
    """Yield a trouble where mail has waited for so long."""
    if oldest is not None and (now - oldest).total_seconds() >= seconds:
        yield Trouble(kind="queue-old", key="queue-old", title=f"mail has waited since {oldest:%Y-%m-%d %H:%M} UTC")


def expiring(expires: datetime | None, now: datetime) -> Iterator[Trouble]:
    """Yield a trouble where the listeners' certificate ends within 14, 7 and 1 days; each is told anew."""
    for left, words in _EXPIRES_IN if expires is not None else ():
        if expires is not None and expires - now <= left:
            title = f"the certificate of the listeners {words} ({expires:%Y-%m-%d %H:%M} UTC)"
            yield Trouble(kind="certificate-expires", key="certificate-expires", title=title, stage=words)
            return


def full(free: int | None, floor: int) -> Iterator[Trouble]:
    """Yield a trouble where there is little room on the disk of the state folder."""
    if free is not None and free < _FLOORS * floor:
        stage = "full" if free < floor else "low"
        then = "no new mail is accepted" if free < floor else f"below {floor // _MIB} MiB no new mail is accepted"
        title = f"{free // _MIB} MiB are left on the disk of the state folder; {then}"
        yield Trouble(kind="disk-low", key="disk-low", title=title, stage=stage)


async def unauthorized(routing: Routing, tokens: Tokens) -> list[Trouble]:
    """Return a trouble for each account whose authorization is missing or refused. Raises StoreError."""
    found: dict[str, Trouble] = {}
    for ref in await asyncio.to_thread(lambda: [one for one in token_refs(routing.directory) if not one.source]):
        assert ref.token is not None
        account = f"{ref.token.server}/{ref.token.username}"
        state = await tokens.state(ref)
        if state.state in {"missing", "refused"} and account not in found:
            words = "has never been authorized" if state.state == "missing" else "is not authorized any more"
            said = f": {state.error}" if state.error else ""
            found[account] = Trouble(
                kind="token-expires",
                key=f"token-expires {account}",
                title=f"account {account} {words}{said}",
                group=f"accounts of server {ref.token.server} that are not authorized",
            )
    return list(found.values())


def looked(sources: Sources, now: datetime, *, floor: int) -> list[Trouble]:
    """Return what can be known without a look at the store."""
    return [
        *held(sources.holds()),
        *away(sources.unreached(now), now),
        *expiring(sources.certificate(), now),
        *full(sources.free(), floor),
    ]


def way_of(routing: Routing, holds: Sequence[HoldRow], unreached: Sequence[str]) -> tuple[str | None, bool]:
    """Return by whose way an alert leaves (None: the default server's), and whether that is in no trouble itself."""
    held_accounts = {(one.server, one.username) for one in holds}

    def is_well(server: str, username: str) -> bool:
        return server not in unreached and (server, username) not in held_accounts

    default = routing.default_route()
    if default is not None and is_well(default.account.server, default.account.username):
        return None, True
    for profile in (*routing.directory.channels.values(), *routing.directory.agents.values()):
        account = routing.directory.account_of(profile)
        if account is not None and is_well(account.server, account.username):
            return profile.name, True
    return None, False
