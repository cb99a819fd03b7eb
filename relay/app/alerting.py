"""Alerts in a running relay: who is told while relay.toml names anybody, and nothing of it otherwise."""

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from relay.app.reload import LiveSettings
from relay.config.settings import Settings
from relay.control.context import ControlContext
from relay.delivery.attempt import Attempts
from relay.metrics import Metrics
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.sources import parse_source, read_source
from relay.system.clock import utc_now
from relay.system.files import free_space

if TYPE_CHECKING:
    from relay.alerts.digest import Trouble
    from relay.alerts.watch import Watch
    from relay.webhooks.requests import Requests

_WAITING = ("queued", "unknown")


class Alerting:
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
