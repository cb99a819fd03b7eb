"""The watch: looks every half minute for what needs a person, and tells whom relay.toml names, where we lead.

What somebody was told is kept in the store. A mail goes by our own queue; a webhook that does not take a message is
asked again at the next look.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from relay import log
from relay.alerts.digest import Digest, Memory, Trouble, rows_of
from relay.alerts.look import Sources, looked, old, unauthorized, way_of
from relay.alerts.messages import body_of, mail_of, summary_of, text_of
from relay.config.notification import Alert
from relay.config.settings import Settings
from relay.directory.routing import Routing
from relay.mail.address import Address, AddressError
from relay.metrics import Metrics
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.sources import SecretUnavailable
from relay.store.cluster.leases import Lead, Unrivalled
from relay.store.db.errors import StoreError
from relay.store.queue.queue import Queue
from relay.store.queue.troubles import ToldTrouble, TroubleTable
from relay.system.clock import utc_now
from relay.webhooks.protocol import Answer, key_of, signed_headers

_LOOK_SECONDS = 30.0
# How often authorizations are looked at, of which there may be very many.
_TOKENS_SECONDS = 600.0
# So long after a start a server of which nobody has heard may not have been tried yet.
_TRIED_SECONDS = 1800.0
_DOCTOR_SECONDS = 86400.0
_DOCTOR = "self-check"  # whom the store says when the doctor was here last

Examine = Callable[[], Awaitable[Sequence[Trouble]]]
"""The doctor's look at everything: what is bad."""


class Posts(Protocol):
    """What posts to a webhook (`relay.webhooks.requests.Requests`)."""

    async def post(self, url: str, headers: dict[str, str], body: bytes, /) -> Answer:
        """Post it; raises nothing."""


class Untold(Exception):
    """Somebody could not be told. The message says why."""


@dataclass(slots=True, kw_only=True)
class Teller:
    """Tells one recipient one thing, by mail or by a webhook."""

    queue: Queue
    routing: Callable[[], Routing]
    sources: Sources
    posts: Callable[[], Awaitable[Posts]]
    secret: Callable[[str], Awaitable[str]]
    hostname: str
    node: str
    wake: Callable[[], None] = lambda: None
    clock: Callable[[], datetime] = utc_now

    async def tell(self, alert: Alert, digest: Digest) -> None:
        """Tell a recipient. Raises Untold, StoreError."""
        if alert.address:
            await self.mail(alert.address, summary_of(digest), text_of(digest, self.node))
        else:
            await self.post(alert, body_of(digest, self.node, self.clock()))

    async def mail(self, address: str, subject: str, text: str) -> None:
        """Put a mail in the queue, by a way that is in no trouble itself where there is one. Raises Untold."""
        now, routing = self.clock(), self.routing()
        unreached = [one.server for one in self.sources.unreached(now)]
        profile, _ = await asyncio.to_thread(way_of, routing, self.sources.holds(), unreached)
        found = routing.directory.profile(profile) if profile is not None else None
        route = routing.route_of(found) if found is not None else routing.default_route()
        if route is None:
            raise Untold("there is no default server with an address that it could be sent from")
        try:
            to = Address.parse(address)
        except AddressError as error:
            raise Untold(str(error)) from None
        identity = route.identity
        news = mail_of(subject, text, to=to, identity=identity, profile=profile, hostname=self.hostname, now=now)
        await self.queue.add(news)
        self.wake()

    async def post(self, alert: Alert, body: bytes) -> None:
        """Post to a webhook. Raises Untold."""
        try:
            key = key_of(await self.secret(alert.secret_from))
        except (SecretUnavailable, ValueError) as error:
            raise Untold(str(error)) from None
        now = self.clock()
        id_ = f"alert-{int(now.timestamp() * 1_000_000):x}"
        headers = {"content-type": "application/json", "user-agent": "relay"}
        signed = signed_headers(key, id_, int(now.timestamp()), body)
        answer = await (await self.posts()).post(alert.to, {**headers, **signed}, body)
        if answer.reason:
            raise Untold(answer.reason)


@dataclass(slots=True, kw_only=True)
class Watch:
    """Looks and tells. `follow` begins with the recipients of relay.toml, or goes on with others; `rest` ends it.

    `untold` is why a recipient could not be told at the last try, by its `to`. `examine` is the doctor's look at
    everything, which somebody may want once a day.
    """

    table: TroubleTable
    teller: Teller
    sources: Sources
    tokens: Tokens
    settings: Callable[[], Settings]
    lead: Lead = field(default_factory=Unrivalled)
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    untold: dict[str, str] = field(default_factory=dict)
    _memories: dict[str, Memory] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _of_tokens: list[Trouble] = field(default_factory=list)
    _tokens_at: datetime | None = None
    examine: Examine | None = None
    _began: datetime | None = None
    _of_doctor: list[Trouble] | None = None  # None: he was not here since the start
    _doctor: asyncio.Task[None] | None = None

    async def follow(self, alerts: Sequence[Alert]) -> None:
        """Tell these recipients from now on."""
        await self.rest()
        self._memories = {one.to: self._memories.get(one.to, Memory()) for one in alerts}
        if alerts:
            self._task = asyncio.create_task(self._run(tuple(alerts)), name="alerts")

    async def rest(self) -> None:
        """Tell nobody until `follow`."""
        tasks = [one for one in (self._task, self._doctor) if one is not None]
        self._task = self._doctor = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, alerts: Sequence[Alert]) -> None:
        while True:
            try:
                if self.lead.is_ours:
                    await self.look(alerts)
            except StoreError as error:
                log.broken(str(error))
            except Exception:  # whatever it is, the next look may go well
                log.broken("the watch for alerts met a fault of ours", exc_info=True)
            await self.sleep(_LOOK_SECONDS)

    async def look(self, alerts: Sequence[Alert]) -> None:
        """Look once, and tell who is to be told. Raises StoreError."""
        now = self.clock()
        self._began = self._began or now
        troubles = await self._troubles(now)
        await self.table.keep([*(one.to for one in alerts), _DOCTOR])
        told: dict[str, dict[str, ToldTrouble]] = {one.to: {} for one in alerts}
        for row in await self.table.all():
            told.setdefault(row.recipient, {})[row.key] = row
        if any("self-check" in alert.on for alert in alerts):
            self._call_doctor(told.get(_DOCTOR, {}), now)
        for alert in alerts:
            mine = [one for one in troubles if one.kind in alert.on]
            mine += self._not_known_yet(mine, told[alert.to], now)
            memory = self._memories.setdefault(alert.to, Memory())
            digest = memory.look(mine, told[alert.to], now)
            if digest.is_empty:
                continue
            try:
                await self.teller.tell(alert, digest)
            except Untold as error:
                self.metrics.alerted(is_told=False)
                if self.untold.get(alert.to) != str(error):
                    log.broken("an alert cannot be told", to=alert.place, reason=str(error))
                self.untold[alert.to] = str(error)
                continue
            self.untold.pop(alert.to, None)
            self.metrics.alerted(is_told=True)
            over = [one.key for one in digest.over]
            await self.table.put(alert.to, rows_of(alert.to, digest, told[alert.to], now), over)
            memory.note(now)
            log.changed(what="alert", to=alert.place, told=summary_of(digest))

    def _not_known_yet(
        self, troubles: Sequence[Trouble], told: Mapping[str, ToldTrouble], now: datetime
    ) -> list[Trouble]:
        """Return what was told before a start, and of which nobody can know yet whether it is over."""
        assert self._began is not None
        kinds = {"self-check"} if self._of_doctor is None else set[str]()
        if (now - self._began).total_seconds() < _TRIED_SECONDS:
            kinds.add("server-unreached")
        known = {one.key for one in troubles}
        return [
            Trouble(kind=row.kind, key=key, title=row.title, stage=row.stage)
            for key, row in told.items()
            if row.kind in kinds and key not in known
        ]

    def _call_doctor(self, told: Mapping[str, ToldTrouble], now: datetime) -> None:
        """Let the doctor look where the last time is a day ago; he takes minutes where there are many accounts."""
        last = told.get(_DOCTOR)
        is_due = last is None or (now - last.told).total_seconds() >= _DOCTOR_SECONDS
        if self.examine is not None and is_due and (self._doctor is None or self._doctor.done()):
            self._doctor = asyncio.create_task(self._let_examine(self.examine, now), name="self-check")

    async def _let_examine(self, examine: Examine, now: datetime) -> None:
        try:
            found = {one.key: one for one in await examine()}
            mark = ToldTrouble(
                recipient=_DOCTOR, key=_DOCTOR, kind="self-check", title="", stage="", since=now, told=now
            )
            await self.table.put(_DOCTOR, [mark], ())
        except StoreError as error:
            log.broken(str(error))
        except Exception:  # whatever it is, he comes again
            log.broken("the daily self-check met a fault of ours", exc_info=True)
            await self.sleep(_DOCTOR_SECONDS / 24)
        else:
            self._of_doctor = list(found.values())

    async def _troubles(self, now: datetime) -> list[Trouble]:
        settings = self.settings()
        if self._tokens_at is None or (now - self._tokens_at).total_seconds() >= _TOKENS_SECONDS:
            self._tokens_at = now
            self._of_tokens = await unauthorized(self.teller.routing(), self.tokens)
        return [
            *looked(self.sources, now, floor=settings.delivery.free_space),
            *old(await self.sources.oldest(), now, settings.delivery.warn_after),
            *self._of_tokens,
            *(self._of_doctor or ()),
        ]
