"""Spans of OpenTelemetry: a submission and its attempts in the trace of the client, over a kill; mail without them."""

import signal
from collections.abc import Iterator

import pytest

from tests.peers.collector import Collector, collector, facts_of
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import wait_until

YOU, OTHER = "you@customer.example", "later@customer.example"
TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"traceparent: 00-{TRACE}-{ABOVE}-01\r\n".encode()
SUPPORT = "support@acmejets.example"
SETTINGS = {"delivery": {"mode": "auto", "retry": ["1s"], "patience": "10s"}}


@pytest.fixture
def upstream() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture
def spans() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture
def relay(upstream: Recorder) -> Iterator[Relay]:
    with relay_process(one_channel(open_server(upstream.port)), SETTINGS, starts=False) as relay:
        yield relay


def start(relay: Relay, url: str) -> None:
    relay.start(
        "env", f"OTEL_EXPORTER_OTLP_ENDPOINT={url}", "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_EXPORTER_OTLP_TIMEOUT=1"
    )


def submit(relay: Relay, recipient: str, fields: bytes = b"") -> str:
    """Submit a message; return its id."""
    with relay.connect() as client:
        client.say("EHLO client.test")
        reply = client.submit(SUPPORT, recipient, fields + b"Subject: hello\r\n\r\nhello\r\n")
    assert reply.startswith("250 "), reply
    # The history is written behind.
    wait_until(lambda: relay.ask("messages", "list", "--to", recipient), "the message in the history")
    return str(relay.ask("messages", "list", "--to", recipient)[0]["id"])


def test_submission_and_attempt_are_in_the_trace_of_the_client(
    relay: Relay, upstream: Recorder, spans: Collector
) -> None:
    start(relay, spans.url)
    id_ = submit(relay, YOU, TRACEPARENT)
    wait_until(lambda: len(spans.of(id_)) == 2, "both spans")
    submission, attempt = spans.of(id_)["submission"], spans.of(id_)["attempt 1"]
    assert {submission.trace_id.hex(), attempt.trace_id.hex()} == {TRACE}
    assert (submission.parent_span_id.hex(), attempt.parent_span_id) == (ABOVE, submission.span_id)
    assert submission.start_time_unix_nano < attempt.end_time_unix_nano <= submission.end_time_unix_nano
    assert spans.services == {"relay"}
    facts = facts_of(submission)
    assert (facts["relay.ending"], facts["relay.profile"], facts["smtp.reply.code"]) == ("delivered", "support", 250)
    assert facts_of(attempt)["relay.server"] == "acmejets"
    assert not any("customer.example" in str(facts_of(span)) for span in spans.spans), "no recipients"
    assert TRACEPARENT in upstream.messages[-1]


def test_attempts_after_a_kill_are_below_the_same_submission(
    relay: Relay, upstream: Recorder, spans: Collector
) -> None:
    upstream.replies[f"RCPT TO:<{OTHER}>"] = b"451 4.3.0 later\r\n"
    start(relay, spans.url)
    id_ = submit(relay, OTHER)
    wait_until(lambda: {"submission", "attempt 1"} <= set(spans.of(id_)), "the first attempt")
    relay.signal(signal.SIGKILL)
    assert relay.process is not None
    relay.process.wait()
    del upstream.replies[f"RCPT TO:<{OTHER}>"]
    start(relay, spans.url)
    wait_until(lambda: relay.ask("messages", "show", id_)["state"] == "delivered", "delivery")
    last = f"attempt {relay.ask('messages', 'show', id_)['attempts'][-1]['number']}"
    wait_until(lambda: last in spans.of(id_), "the last attempt")
    found = spans.of(id_)
    submission = found.pop("submission")
    assert submission.parent_span_id == b""
    assert {(one.trace_id, one.parent_span_id) for one in found.values()} == {(submission.trace_id, submission.span_id)}
    first = found["attempt 1"]
    assert (first.status.code, first.status.message) == (2, "451 4.3.0 later")
    assert facts_of(first)["relay.meaning"] == "temporary"
    assert found[last].status.code == 0


def test_a_collector_that_takes_nothing_costs_no_mail(relay: Relay, upstream: Recorder, spans: Collector) -> None:
    spans.status = 500
    start(relay, spans.url)
    for number in range(3):
        submit(relay, f"you{number}@customer.example")
    assert len(upstream.messages) == 3
    wait_until(lambda: spans.requests > 0, "an export")
    wait_until(lambda: '"logger":"opentelemetry.' in relay.log.replace(': "', ':"'), "a line about it")
    assert relay.stop() == 0
