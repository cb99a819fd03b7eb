"""The sender: posts what the outbox has for each webhook, until the webhook has taken it.

One task a webhook, in the process that leads. It reads a few events at a time, keeps none of them, and looks at the
store again after each round: what is not told is in the outbox, whatever becomes of us. A webhook that takes nothing
costs one request now and then, however much waits for it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from relay import log
from relay.config.notification import Webhook
from relay.metrics import Metrics
from relay.secrets.sources import SecretUnavailable
from relay.store.cluster.leases import Lead, Unrivalled
from relay.store.db.errors import StoreError
from relay.store.queue.outbox import KEPT_HELD, KEPT_TOLD, Backlog, Outbox, Untold, WebhookState
from relay.system.clock import utc_now
from relay.webhooks.protocol import HELD_AFTER, Answer, event_pause, key_of, peak_pause, signed_headers, webhook_pause

# Events that are read at once, and requests that are under way at once, of one webhook.
_BATCH = 32
_AT_ONCE = 4
_IDLE_SECONDS = 0.5
_LEAD_SECONDS = 1.0
_TROUBLE_SECONDS = 5.0
_SECRET_SECONDS = 60.0
_COUNT_SECONDS = 10.0
_FORGET_SECONDS = 3600.0
# How old what is kept of the last success may be.
_STANDING_SECONDS = 60.0
_RATE_SECONDS = 0.2


class Posts(Protocol):
    """What posts an event (`relay.webhooks.requests.Requests`)."""

    async def post(self, url: str, headers: dict[str, str], body: bytes, /) -> Answer:
        """Post one event; raises nothing."""


@dataclass(slots=True)
class _Task:
    """One webhook and its task. The key is that of its secret, as it was read at `read_at` (seconds of our clock)."""

    webhook: Webhook
    number: int
    state: WebhookState
    kept_at: datetime | None = None
    key: bytes | None = None
    read_at: float = 0.0
    task: asyncio.Task[None] | None = None


class _Traffic:
    """How many messages a second this process handed over of late; `messages` returns how many in all."""

    def __init__(self, messages: Callable[[], int]) -> None:
        self._messages = messages
        self._at, self._before, self._last = time.monotonic(), messages(), 0.0

    def rate(self) -> float:
        now, messages = time.monotonic(), self._messages()
        if now - self._at >= _RATE_SECONDS:
            self._last = (messages - self._before) / (now - self._at)
            self._at, self._before = now, messages
        return self._last


@dataclass(slots=True, kw_only=True)
class Sender:
    """Tells webhooks. `follow` begins with those of relay.toml, or goes on with others; `aclose` ends it.

    `secret` returns what a `secret_from` names. Of several processes that use the store the one with the `lead` sends.
    `backlogs` is what was not told when that was last counted, by URL.
    """

    outbox: Outbox
    posts: Posts
    secret: Callable[[str], Awaitable[str]]
    lead: Lead = field(default_factory=Unrivalled)
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], datetime] = utc_now
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    backlogs: dict[str, Backlog] = field(default_factory=dict)
    _tasks: dict[str, _Task] = field(default_factory=dict)
    _upkeep: asyncio.Task[None] | None = None
    _traffic: _Traffic = field(init=False)

    def __post_init__(self) -> None:
        """Watch how much mail there is."""
        self._traffic = _Traffic(lambda: self.metrics.messages)

    async def follow(self, webhooks: Sequence[Webhook]) -> None:
        """Tell these webhooks from now on; what others still wait for is kept, should they come back."""
        await self.rest()
        for number, webhook in enumerate(webhooks, 1):
            told = self._tasks[webhook.url] = _Task(webhook, number, WebhookState(url=webhook.url))
            self.metrics.begin_webhook(str(number))
            told.task = asyncio.create_task(self._run(told), name=f"webhook {number}")
        if webhooks:
            self._upkeep = asyncio.create_task(self._look_after(), name="webhooks")

    async def rest(self) -> None:
        """Tell nobody until `follow`; no request is under way when this returns."""
        tasks = [one.task for one in self._tasks.values() if one.task is not None]
        tasks += [self._upkeep] if self._upkeep is not None else []
        self._tasks.clear()
        self._upkeep = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, told: _Task) -> None:
        is_known = False
        while True:
            pause = _LEAD_SECONDS
            try:
                if not self.lead.is_ours:
                    is_known = False
                else:
                    if not is_known:  # another may have told it meanwhile
                        states = await self.outbox.states()
                        told.state = states.get(told.webhook.url, told.state)
                        is_known = True
                    pause = await self._round(told)
            except StoreError as error:
                log.broken(str(error), webhook=told.webhook.place)
                pause = _TROUBLE_SECONDS
            except Exception:  # whatever it is, what waits must not wait for ever
                log.broken("the sender of webhooks met a fault of ours", webhook=told.webhook.place, exc_info=True)
                pause = _TROUBLE_SECONDS
            await self.sleep(pause)

    async def _round(self, told: _Task) -> float:
        """Tell a webhook some of what is due, and return after how many seconds to go on."""
        now, state = self.clock(), told.state
        if state.next_attempt is not None and state.next_attempt > now:
            left = (state.next_attempt - now).total_seconds()
            return min(left, _LEAD_SECONDS)  # the clock may be set, and the lead may go
        is_well = not state.failures
        due = await self.outbox.due(told.webhook.url, now, _BATCH if is_well else 1)
        if not due:
            return _IDLE_SECONDS
        try:
            key = await self._key(told)
        except (SecretUnavailable, ValueError) as error:
            await self._failed(told, Answer(reason=str(error)))
            return 0.0
        answered: list[tuple[Untold, Answer]] = []
        age = (now - due[0].at).total_seconds()

        async def tell(event: Untold) -> Answer:  # noted at once: others of its batch may be cancelled
            answer = await self._post(told, key, event)
            answered.append((event, answer))
            return answer

        try:
            for start in range(0, len(due), _AT_ONCE):
                some = due[start : start + _AT_ONCE]
                answers = await asyncio.gather(*map(tell, some))
                if all(answer.reason for answer in answers) or not self.lead.is_ours:
                    break
                await self.sleep(peak_pause(self._traffic.rate(), age, len(some)))
        finally:  # also where we are cancelled: what was told need not be told again
            settling = asyncio.ensure_future(self._settle(told, answered))
            try:
                await asyncio.shield(settling)
            except asyncio.CancelledError:
                await settling
                raise
        return 0.0

    async def _post(self, told: _Task, key: bytes, event: Untold) -> Answer:
        body = event.body.encode()
        headers = {
            "content-type": "application/json",
            "user-agent": "relay",
            **signed_headers(key, event.id, int(self.clock().timestamp()), body),
        }
        return await self.posts.post(told.webhook.url, headers, body)

    async def _settle(self, told: _Task, answered: Sequence[tuple[Untold, Answer]]) -> None:
        """Write down what came of some requests."""
        now, number = self.clock(), str(told.number)
        taken = [event.number for event, answer in answered if not answer.reason]
        if taken:
            await self.outbox.told(taken, now)
            self.metrics.webhook_told(number, len(taken))
        refused = [(event, answer) for event, answer in answered if answer.reason]
        for event, answer in refused:
            self.metrics.webhook_failed(number)
            is_over = now - event.at >= HELD_AFTER
            pause = timedelta(seconds=event_pause(event.attempts, self.chance()))
            await self.outbox.put_off(event.number, None if is_over else now + pause, answer.reason)
            if is_over:
                self._tell_held(told, 1, answer.reason)
        trouble = next((answer for _, answer in reversed(refused) if not answer.is_about_event), None)
        last_failed = bool(answered) and bool(answered[-1][1].reason)
        if trouble is not None and (last_failed or not taken):
            await self._failed(told, trouble, now if taken else told.state.delivered)
        elif answered:  # it answers, whatever it says of an event
            await self._answered(told, now, has_taken=bool(taken))

    async def _answered(self, told: _Task, now: datetime, *, has_taken: bool) -> None:
        before = told.state
        delivered = now if has_taken else before.delivered
        told.state = WebhookState(url=before.url, delivered=delivered)
        is_back = before.failures > 0
        is_stale = told.kept_at is None or (now - told.kept_at).total_seconds() >= _STANDING_SECONDS
        if is_back or is_stale:
            await self.outbox.put_state(told.state)
            told.kept_at = now
        if is_back:
            await self.outbox.make_due(told.webhook.url, now)
            log.changed(what="webhook", webhook=told.webhook.place, state="takes events again")

    async def _failed(self, told: _Task, answer: Answer, delivered: datetime | None = None) -> None:
        now, before = self.clock(), told.state
        failures = before.failures + 1
        seconds = max(webhook_pause(failures, self.chance()), answer.wait)
        told.state = replace(
            before,
            failures=failures,
            since=before.since or now,
            next_attempt=now + timedelta(seconds=seconds),
            reason=answer.reason,
            delivered=delivered or before.delivered,
        )
        if not before.failures or before.reason != answer.reason:
            log.warned("a webhook takes no events", webhook=told.webhook.place, reason=answer.reason)
        await self.outbox.put_state(told.state)
        if held := await self.outbox.hold_older(told.webhook.url, now - HELD_AFTER, answer.reason):
            self._tell_held(told, held, answer.reason)

    def _tell_held(self, told: _Task, events: int, reason: str) -> None:
        self.metrics.webhook_held(str(told.number), events)
        log.broken(
            "events for a webhook are held: it did not take them for three days; send them with: relay webhook replay",
            webhook=told.webhook.place,
            events=events,
            reason=reason,
        )

    async def _key(self, told: _Task) -> bytes:
        """Return the key of a webhook's secret, read once a minute. Raises SecretUnavailable, ValueError."""
        now = time.monotonic()
        if told.key is None or now - told.read_at >= _SECRET_SECONDS or told.state.failures:
            told.key, told.read_at = None, now
            told.key = key_of(await self.secret(told.webhook.secret_from))
        return told.key

    async def _look_after(self) -> None:
        """Count what waits, and forget what is old, for ever."""
        forget_at = 0.0
        while True:
            try:
                if self.lead.is_ours:
                    self.backlogs = await self.outbox.backlogs()
                    if time.monotonic() >= forget_at:
                        now, forget_at = self.clock(), time.monotonic() + _FORGET_SECONDS
                        await self.outbox.forget(told_before=now - KEPT_TOLD, all_before=now - KEPT_HELD)
                else:
                    self.backlogs = {}
            except StoreError as error:
                log.broken(str(error))
            await self.sleep(_COUNT_SECONDS)
