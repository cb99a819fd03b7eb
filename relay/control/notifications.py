"""The operations on alerts and webhooks: who is told of what, how webhooks answer, tests, and what is told again."""

import json
import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from relay.alerts.messages import mail_of
from relay.config.notification import Alert, Webhook
from relay.control.context import ControlContext
from relay.control.messages.find import read_time
from relay.control.messages.records import rfc3339
from relay.control.operation import Access, Operation
from relay.control.refused import NotFound, Refused
from relay.control.results import AlertRecord, Replayed, ToldRecord, WebhookRecord
from relay.control.tests.results import StepRecord
from relay.mail.address import Address, AddressError
from relay.secrets.sources import SecretUnavailable, parse_source, read_source
from relay.store.queue.outbox import KEPT_TOLD, Backlog, WebhookState
from relay.system.clock import utc_now
from relay.webhooks.protocol import key_of, signed_headers

_TEXT = "This is a test of relay at {}: whoever reads it is told when something needs a person.\n"


class AlertOperations:
    """What can be asked about alerts, and done with them."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "alert.list": Operation(self.list_),
            "alert.test": Operation(self.test, is_stream=True, access=Access.ADMIN),
        }

    async def list_(self) -> list[AlertRecord]:
        """Return who is told, in the order of relay.toml, and of what they were told that is not over."""
        rows = await self._parts.queue.troubles.all()
        return [
            AlertRecord(
                number=number,
                to=alert.place,
                on=alert.on,
                troubles=[
                    ToldRecord(kind=row.kind, title=row.title, since=rfc3339(row.since), told=rfc3339(row.told))
                    for row in rows
                    if row.recipient == alert.to
                ],
            )
            for number, alert in enumerate(self._parts.settings.alerts, 1)
        ]

    async def test(self, *, number: int) -> AsyncIterator[StepRecord]:
        """Tell somebody that this is a test: a mail goes into the queue, a webhook is posted to."""
        alert = self._find(number)
        yield await (self._mail(alert) if alert.address else self._post(alert))

    async def _mail(self, alert: Alert) -> StepRecord:
        parts = self._parts
        route = parts.directory.routing().default_route()
        if route is None:
            return StepRecord(step="mail", ok=False, detail="there is no default server with an address to send from")
        try:
            to = Address.parse(alert.address)
        except AddressError as error:
            return StepRecord(step="mail", ok=False, detail=str(error))
        news = mail_of(
            "a test",
            _TEXT.format(parts.settings.effective_node),
            to=to,
            identity=route.identity,
            profile=None,
            hostname=parts.settings.effective_hostname,
            now=utc_now(),
        )
        await parts.queue.add(news)
        await parts.queue_actions.retry([news.message.id], None)
        said = f"queued as {news.message.id}; see relay messages show {news.message.id}"
        return StepRecord(step="mail", ok=True, detail=said)

    async def _post(self, alert: Alert) -> StepRecord:
        folder = self._parts.settings.state_dir
        try:
            key = key_of(await read_source(parse_source(alert.secret_from), os.environ, folder))
        except (SecretUnavailable, ValueError) as error:
            return StepRecord(step="secret", ok=False, detail=str(error))
        # Loaded with the first request: it takes half a second.
        from relay.webhooks.requests import Requests  # noqa: PLC0415

        now, requests = utc_now(), Requests()
        data = {"node": self._parts.settings.effective_node}
        body = json.dumps({"type": "relay.test", "timestamp": rfc3339(now), "data": data}).encode()
        signed = signed_headers(key, f"test-{int(now.timestamp() * 1_000_000):x}", int(now.timestamp()), body)
        try:
            answer = await requests.post(alert.to, {"content-type": "application/json", **signed}, body)
        finally:
            await requests.aclose()
        return StepRecord(step="post", ok=not answer.reason, detail=answer.reason or f"{alert.place} took it")

    def _find(self, number: int) -> Alert:
        alerts = self._parts.settings.alerts
        if not 1 <= number <= len(alerts):
            there = f"they are numbered 1 to {len(alerts)}" if alerts else "relay.toml names none"
            raise NotFound(f"there is no alert {number}; {there}, see: relay alert list")
        return alerts[number - 1]


class WebhookOperations:
    """What can be asked about webhooks, and done with them."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "webhook.list": Operation(self.list_),
            "webhook.test": Operation(self.test, is_stream=True, access=Access.ADMIN),
            "webhook.replay": Operation(self.replay, is_change=True),
        }

    async def list_(self) -> list[WebhookRecord]:
        """Return the webhooks of relay.toml, in their order."""
        outbox = self._parts.queue.outbox
        backlogs, states = await outbox.backlogs(), await outbox.states()
        return [
            _record(number, one, backlogs.get(one.url, Backlog()), states.get(one.url))
            for number, one in enumerate(self._parts.settings.webhooks, 1)
        ]

    async def test(self, *, number: int) -> AsyncIterator[StepRecord]:
        """Post one event of the type relay.test to a webhook, and say what became of each step."""
        webhook = self._find(number)
        try:
            secret = await read_source(parse_source(webhook.secret_from), os.environ, self._parts.settings.state_dir)
            key = key_of(secret)
        except (SecretUnavailable, ValueError) as error:
            yield StepRecord(step="secret", ok=False, detail=str(error))
            return
        yield StepRecord(step="secret", ok=True, detail=f"{len(key)} octets")
        # Loaded with the first request: it takes half a second.
        from relay.webhooks.requests import Requests  # noqa: PLC0415

        now, requests = utc_now(), Requests()
        data = {"webhook": number, "node": self._parts.status().node}
        body = json.dumps({"type": "relay.test", "timestamp": rfc3339(now), "data": data}).encode()
        id_ = f"test-{int(now.timestamp() * 1_000_000):x}"
        headers = {"content-type": "application/json", "user-agent": "relay"}
        signed = signed_headers(key, id_, int(now.timestamp()), body)
        try:
            answer = await requests.post(webhook.url, {**headers, **signed}, body)
        finally:
            await requests.aclose()
        yield StepRecord(step="post", ok=not answer.reason, detail=answer.reason or f"{webhook.place} took it")

    async def replay(self, *, since: str, number: int | None = None) -> Replayed:
        """Let one webhook, or all, be told again what happened since a time (RFC 3339), and what is held since then."""
        moment = read_time(since, "since")
        assert moment is not None
        webhooks = self._parts.settings.webhooks if number is None else (self._find(number),)
        if not webhooks:
            raise Refused("relay.toml names no webhook; write one: [[webhook]] (docs/webhooks.md)")
        now = utc_now()
        told = await self._parts.queue.outbox.replay([one.url for one in webhooks], moment, now)
        if not told and _is_too_old(moment, now):
            raise Refused(
                "what was told is kept for three days, and nothing since then is to be told again", key="since"
            )
        return Replayed(events=told)

    def _find(self, number: int) -> Webhook:
        webhooks = self._parts.settings.webhooks
        if not 1 <= number <= len(webhooks):
            there = f"they are numbered 1 to {len(webhooks)}" if webhooks else "relay.toml names none"
            raise NotFound(f"there is no webhook {number}; {there}, see: relay webhook list")
        return webhooks[number - 1]


def _record(number: int, webhook: Webhook, backlog: Backlog, state: WebhookState | None) -> WebhookRecord:
    known = state or WebhookState(url=webhook.url)
    return WebhookRecord(
        number=number,
        url=webhook.place,
        events=webhook.events,
        profiles=webhook.profiles,
        state="failing" if known.failures else "ok" if known.delivered else "new",
        waiting=backlog.waiting,
        oldest=rfc3339(backlog.oldest),
        held=backlog.held,
        failures=known.failures,
        since=rfc3339(known.since),
        next_attempt=rfc3339(known.next_attempt),
        reason=known.reason,
        delivered=rfc3339(known.delivered),
    )


def _is_too_old(moment: datetime, now: datetime) -> bool:
    return now - moment > KEPT_TOLD + timedelta(minutes=1)
