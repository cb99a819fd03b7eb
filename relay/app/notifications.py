"""Alerts, webhooks and spans in a running relay: what is told while somebody is named, and nothing of it otherwise."""

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from relay import log
from relay.app.reload import LiveSettings
from relay.config.settings import Settings
from relay.control.context import ControlContext
from relay.delivery.attempt import Attempts
from relay.delivery.events import MessageEvents
from relay.delivery.history import History
from relay.metrics import Metrics, WebhookFigures
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.sources import parse_source, read_source
from relay.store.cluster.identity import Place
from relay.store.cluster.leases import Lead
from relay.store.queue.outbox import Backlog
from relay.store.queue.queue import Queue
from relay.system.clock import utc_now
from relay.system.event_loop import TaskExitStack
from relay.system.files import free_space, in_file_thread

if TYPE_CHECKING:
    from relay.alerts.digest import Trouble
    from relay.alerts.watch import Watch
    from relay.webhooks.journal import Journal
    from relay.webhooks.requests import Requests
    from relay.webhooks.sender import Sender


_WAITING = ("queued", "unknown")
_COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def events_of(metrics: Metrics, environ: Mapping[str, str], closing: TaskExitStack) -> MessageEvents:
    """Return what tells of messages and accounts: with spans, where the environment names a collector for them."""
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if is_off or not any(environ.get(name) for name in _COLLECTORS):
        return MessageEvents(metrics)
    try:
        from relay.app.spans import Spans, TracedEvents  # noqa: PLC0415 - an optional library, and few want it
    except ImportError as error:
        log.warned(
            "no spans are made: the environment names a collector, and the library is not installed; "
            "install relay-submission[otel]",
            missing=error.name,
        )
        return MessageEvents(metrics)
    spans = Spans(environ)
    closing.push_async_callback(spans.aclose)
    return TracedEvents(metrics, spans=spans)


class AlertNotifications:
    """Lets the process that leads watch, and tell whom the settings name. `aclose` ends it."""

    def __init__(
        self,
        reloading: LiveSettings,
        attempts: Attempts,
        tokens: Tokens,
        node: str,
        wake: Callable[[], None],
        metrics: Metrics,
        context: Callable[[], ControlContext],
    ) -> None:
        self._context = context
        self._metrics = metrics
        self._reloading = reloading
        self._attempts = attempts
        self._tokens = tokens
        self._node = node
        self._wake = wake
        self._watch: Watch | None = None
        self._requests: Requests | None = None
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def follow(self, settings: Settings) -> None:
        """Tell the recipients of these settings from now on."""
        async with self._turn:
            if self._watch is None and settings.alerts and not self._is_closed:
                self._watch = await asyncio.to_thread(self._load)
            if self._watch is not None and not self._is_closed:
                await self._watch.follow(settings.alerts)

    async def aclose(self) -> None:
        """Tell nobody any more."""
        self._is_closed = True
        async with self._turn:
            if self._watch is not None:
                await self._watch.rest()
            if self._requests is not None:
                await self._requests.aclose()

    def _load(self) -> "Watch":
        """Load what watches: in a thread."""
        from relay.alerts.look import Sources  # noqa: PLC0415 - most relays tell nobody
        from relay.alerts.watch import Teller, Watch  # noqa: PLC0415

        attempts, queue = self._attempts, self._attempts.recorder.queue
        accounts = attempts.accounts
        sources = Sources(
            holds=accounts.holds,
            unreached=accounts.servers.unreached,
            oldest=self._oldest,
            certificate=lambda: self._reloading.certificate.expires if self._reloading.certificate else None,
            free=self._free,
        )
        teller = Teller(
            queue=queue,
            routing=attempts.routing,
            sources=sources,
            posts=self._posts,
            secret=self._secret,
            hostname=self._reloading.settings.effective_hostname,
            node=self._node,
            wake=self._wake,
        )
        return Watch(
            table=queue.troubles,
            teller=teller,
            sources=sources,
            tokens=self._tokens,
            settings=lambda: self._reloading.settings,
            lead=self._attempts.lead,
            metrics=self._metrics,
            examine=self._examine,
            clock=utc_now,
        )

    async def _examine(self) -> "list[Trouble]":
        from relay.alerts.digest import Trouble  # noqa: PLC0415
        from relay.control.tests.doctor import bad_findings  # noqa: PLC0415

        return [
            Trouble(
                kind="self-check",
                key=f"self-check {one.check} {one.server or ''} {' '.join(one.profiles[:1])}",
                title=f"{one.profile or one.server or 'several'}: {one.check}: {one.why}",
                group=f"the doctor finds {one.check} bad" + (f" at server {one.server}" if one.server else ""),
            )
            for one in await bad_findings(self._context())
        ]

    async def _posts(self) -> "Requests":
        if self._requests is None:
            self._requests = await asyncio.to_thread(_new_requests)
        return self._requests

    async def _oldest(self) -> datetime | None:
        found = await self._attempts.recorder.queue.oldest_by_state(_WAITING)
        return min(found.values(), default=None)

    def _free(self) -> int | None:
        try:
            return free_space(self._reloading.settings.state_dir)
        except OSError:
            return None

    async def _secret(self, source: str) -> str:
        return await read_source(parse_source(source), os.environ, self._reloading.settings.state_dir)


def _new_requests() -> "Requests":
    from relay.webhooks.requests import Requests  # noqa: PLC0415 - it takes half a second

    return Requests()


NAME = "webhook-events."
"""How the files of `relay.webhooks.journal` begin."""


class WebhookNotifications:
    """Lets the queue write what webhooks are to be told, and the process that leads tell them. `aclose` ends it.

    Only the first process of a relay may lead; the others load nothing of what tells them.
    """

    def __init__(self, queue: Queue, lead: Lead, metrics: Metrics, place: Place) -> None:
        self._place = place
        self._history: History | None = None
        self._journal: Journal | None = None
        self._queue = queue
        self._lead = lead
        self._metrics = metrics
        self._settings: Settings
        self._sender: Sender | None = None
        self._requests: Requests | None = None
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def follow(self, settings: Settings) -> None:
        """Tell the webhooks of these settings from now on."""
        async with self._turn:
            self._settings = settings
            self.write(settings)
            if self._sender is None and settings.webhooks and self._place.is_first and not self._is_closed:
                self._sender, self._requests = await asyncio.to_thread(self._load)
            if self._sender is not None and not self._is_closed:
                await self._sender.follow(settings.webhooks)

    async def begin(self, settings: Settings, history: History) -> None:
        """Let be written what webhooks are to be told, and first what a kill has left. Raises StoreError."""
        self._history = history
        if any(settings.state_dir.glob(f"{NAME}*")):
            await self._recover(settings)
        self.write(settings)

    async def _recover(self, settings: Settings) -> None:
        from relay.webhooks.journal import left_behind  # noqa: PLC0415

        place = self._place
        for path, events in (await in_file_thread(left_behind, settings.state_dir, place.index, place.total)).items():
            if found := await self._queue.outbox.add_missing(events):
                log.changed(what="events for webhooks that a kill had left", events=found)
            path.unlink(missing_ok=True)

    def write(self, settings: Settings) -> None:
        """Let be written from now on what the webhooks of these settings are to be told."""
        if not settings.webhooks:
            self._queue.subscribers = None
            return
        from relay.webhooks.journal import Journal  # noqa: PLC0415 - most relays have no webhook
        from relay.webhooks.subscriptions import Subscriptions  # noqa: PLC0415

        self._queue.subscribers = Subscriptions(settings.webhooks)
        if self._history is not None and self._journal is None:
            self._history.journal = self._journal = Journal(settings.state_dir, self._place.index)

    async def lead_changed(self) -> None:
        """Where the lead is no more ours: no request is under way when this returns."""
        if self._sender is not None and not self._lead.is_ours:
            await self.follow(self._settings)

    def figures(self) -> Mapping[str, WebhookFigures]:
        """Return what is not told, by the number of its webhook; nothing where another process tells it."""
        if self._sender is None or not self._lead.is_ours:
            return {}
        now, backlogs = utc_now(), self._sender.backlogs
        return {
            str(number): WebhookFigures(
                waiting=one.waiting,
                oldest_seconds=(now - one.oldest).total_seconds() if one.oldest else 0.0,
                kept_back=one.held,
            )
            for number, webhook in enumerate(self._settings.webhooks, 1)
            for one in [backlogs.get(webhook.url, Backlog())]
        }

    async def aclose(self) -> None:
        """Tell nobody any more; what is not told waits in the store."""
        self._is_closed = True
        async with self._turn:
            if self._sender is not None:
                await self._sender.rest()
            if self._requests is not None:
                await self._requests.aclose()
            if self._journal is not None:
                self._journal.close()

    def _load(self) -> "tuple[Sender, Requests]":
        """Load what sends, which takes half a second: in a thread."""
        from relay.webhooks.requests import Requests  # noqa: PLC0415
        from relay.webhooks.sender import Sender  # noqa: PLC0415

        requests = Requests()
        sender = Sender(
            outbox=self._queue.outbox,
            posts=requests,
            secret=self._secret,
            lead=self._lead,
            metrics=self._metrics,
        )
        return sender, requests

    async def _secret(self, source: str) -> str:
        return await read_source(parse_source(source), os.environ, self._settings.state_dir)
