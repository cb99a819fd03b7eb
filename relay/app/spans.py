"""Spans of OpenTelemetry: one for a submission, and one for each attempt below it. Imported where they are wanted.

A message with a `traceparent` field (W3C Trace Context) belongs to that trace, and keeps the field on its way; any
other one begins a trace. The ids of a message's spans are made from its id, so all attempts find their submission, in
whatever process and after whatever restart they are made.

A thread of the library exports what is made here; what it cannot export is lost, and it says so in the log.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from relay import __version__, log
from relay.delivery.events import Ending, Journey, MessageEvents, Tried
from relay.mail.reply import Reply
from relay.mail.trace import traceparent_of
from relay.system.fault_barrier import guards_itself, tell_fault
from relay.upstream.outcome import Outcome

_END_SECONDS = 2.0  # for the last spans to leave
_NANO = 1_000_000_000


class _Ids(IdGenerator):
    """The ids of the span that is made next. Spans are made in the event loop alone."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class Spans:
    """Makes spans. Where they go, the environment says (opentelemetry.io/docs/specs/otel/configuration)."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        has_name = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        named = {} if has_name else {"service.name": "relay"}
        resource = Resource.create({"service.version": __version__, **named})
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("relay", __version__)

    async def aclose(self) -> None:
        """Export what is left, for a few seconds at most: a collector that is away must not hold up the end."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=end, name="spans", daemon=True).start()
        try:
            await asyncio.wait_for(ended.wait(), _END_SECONDS)
        except TimeoutError:
            log.warned("the last spans were not exported: the collector does not answer")

    def submission(self, journey: Journey) -> None:
        """Make the span of a submission, which ends now: its client has the reply."""
        route, now = journey.route, time.time_ns()
        facts = {
            "relay.message.id": journey.arrival.id,
            "relay.message.size": journey.size,
            "relay.client": journey.client.name,
            "relay.profile": route.profile.name if route and route.profile else None,
            "relay.server": route.server.name if route else None,
            "relay.ending": str(journey.ending),
            "smtp.reply.code": journey.reply.code,
        }
        why = None if journey.ending in {Ending.DELIVERED, Ending.QUEUED} else journey.reply
        parent, times = _context_of(journey.traceparent), (now - int(journey.seconds * _NANO), now)
        self._make("submission", SpanKind.SERVER, (journey.arrival.id, 0), parent, times, facts, why)

    def attempt(self, tried: Tried, outcome: Outcome, now: datetime) -> None:
        """Make the span of an attempt, which ends now, below that of its submission."""
        message, attempt, failure = tried.message, tried.attempt, outcome.first_failure
        reply = failure.reply if failure else outcome.accepted
        facts = {
            "relay.message.id": message.id,
            "relay.profile": message.profile,
            "relay.server": attempt.server,
            "relay.attempt": attempt.number,
            "relay.meaning": str(failure.meaning) if failure else None,
            "relay.phase": str(failure.phase) if failure else None,
            "server.address": outcome.host or None,
            "tls.protocol.version": outcome.tls.version if outcome.tls else None,
            "smtp.reply.code": reply.code if reply else None,
        }
        parent = self._submission_of(message.id, _context_of(traceparent_of(tried.content.header)))
        times = _nano(attempt.started), _nano(now)
        why = failure.reply if failure else None
        self._make("attempt", SpanKind.CLIENT, (message.id, attempt.number), parent, times, facts, why)

    def _make(
        self,
        name: str,
        kind: SpanKind,
        of: tuple[str, int],
        parent: Context,
        times: tuple[int, int],
        facts: Mapping[str, Any],
        why: Reply | None,
    ) -> None:
        """Make a span of a message, by its id, and of an attempt, by its number."""
        self._ids.trace_id, self._ids.span_id = _ids(*of)
        known = {key: value for key, value in facts.items() if value is not None}
        span = self._tracer.start_span(name, parent, kind, known, start_time=times[0])
        if why is not None:
            span.set_status(Status(StatusCode.ERROR, str(why)))
        span.end(times[1])

    def _submission_of(self, id_: str, above: Context) -> Context:
        """Return the context of a submission's span, which another process may have made."""
        trace_id, span_id = _ids(id_, 0)
        given = get_current_span(above).get_span_context()
        if given.is_valid:
            trace_id, flags = given.trace_id, given.trace_flags
        else:
            chosen = self._provider.sampler.should_sample(None, trace_id, "submission").decision
            is_sampled = chosen is Decision.RECORD_AND_SAMPLE
            flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
        return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, True, flags)), Context())


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedEvents(MessageEvents):
    """Tells what happens to messages and accounts, and makes spans of submissions and attempts."""

    is_traced: ClassVar[bool] = True
    spans: Spans

    @guards_itself
    def submitted(self, journey: Journey) -> None:
        """A client has its reply to a message."""
        MessageEvents.submitted(self, journey)
        try:
            self.spans.submission(journey)
        except Exception:  # whatever it is, the client has its reply
            tell_fault("TracedEvents.submitted")

    @guards_itself
    def attempted(self, tried: Tried, outcome: Outcome, clock: Callable[[], datetime]) -> None:
        """An attempt ended now, well or not."""
        MessageEvents.attempted(self, tried, outcome, clock)
        try:
            self.spans.attempt(tried, outcome, clock())
        except Exception:  # as above
            tell_fault("TracedEvents.attempted")


def _context_of(traceparent: str) -> Context:
    """Return the context that a client's field names; an empty one for none, and for one that is malformed."""
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def _ids(id_: str, number: int) -> tuple[int, int]:
    """Return the ids of a message's own trace, and of one of its spans: 0 is the submission, others are attempts."""
    trace, span = sha256(id_.encode()).digest(), sha256(f"{id_}/{number}".encode()).digest()
    return int.from_bytes(trace[:16], "big") or 1, int.from_bytes(span[:8], "big") or 1


def _nano(moment: datetime) -> int:
    return int(moment.timestamp() * _NANO)
