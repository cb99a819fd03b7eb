"""Whether spans are made at all: as the environment says, and where their library is installed."""

import sys

import pytest

from relay.app.notifications import events_of
from relay.delivery.events import MessageEvents
from relay.metrics import Metrics
from relay.system.event_loop import TaskExitStack
from tests.peers.rows import each_row
from tests.peers.told import capture_logs

COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@each_row(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**COLLECTOR, "OTEL_SDK_DISABLED": "True"},
        {**COLLECTOR, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
async def test_without_a_collector_there_are_no_spans(environ: dict[str, str]) -> None:
    async with TaskExitStack() as closing:
        events = events_of(Metrics(), environ, closing)
    assert type(events) is MessageEvents


async def test_a_library_that_is_missing_is_told_once_and_mail_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "relay.app.spans", None)
    with capture_logs() as lines:
        async with TaskExitStack() as closing:
            events = events_of(Metrics(), COLLECTOR, closing)
    assert type(events) is MessageEvents
    (line,) = lines
    assert line["what"].endswith("; install relay-submission[otel]")
