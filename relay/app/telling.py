"""Webhooks in a running relay: what is told of messages while relay.toml names any, and nothing of it otherwise."""

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from relay.config.settings import Settings
from relay.metrics import Metrics, WebhookFigures
from relay.secrets.sources import parse_source, read_source
from relay.store.cluster.leader_lease import Lead
from relay.store.queue.outbox import Backlog
from relay.store.queue.queue import Queue
from relay.system.clock import utc_now

if TYPE_CHECKING:
    from relay.webhooks.requests import Requests
    from relay.webhooks.sender import Sender


class Telling:
    """Lets the queue write what webhooks are to be told, and the process that leads tell them. `aclose` ends it.

    One that never leads (`may_lead`) loads nothing of what tells them.
    """

    def __init__(self, queue: Queue, lead: Lead, metrics: Metrics, *, may_lead: bool) -> None:
        self._may_lead = may_lead
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
            if self._sender is None and settings.webhooks and self._may_lead and not self._is_closed:
                self._sender, self._requests = await asyncio.to_thread(self._load)
            if self._sender is not None and not self._is_closed:
                await self._sender.follow(settings.webhooks)

    def write(self, settings: Settings) -> None:
        """Let be written from now on what the webhooks of these settings are to be told."""
        if not settings.webhooks:
            self._queue.subscribers = None
            return
        from relay.webhooks.subscriptions import Subscriptions  # noqa: PLC0415 - most relays have no webhook

        self._queue.subscribers = Subscriptions(settings.webhooks)

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
