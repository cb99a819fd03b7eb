"""A collector of OpenTelemetry: takes spans by OTLP over HTTP, and keeps them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.peers.system import LOOPBACK


class Collector:
    """Where spans go. `status` is what it answers with."""

    def __init__(self) -> None:
        self.status = 200
        self.requests = 0
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.url = ""

    def of(self, id_: str) -> dict[str, Span]:
        """Return the spans of a message by their names; those of attempts with their number."""
        found = {}
        for span in self.spans:
            facts = facts_of(span)
            if facts["relay.message.id"] == id_:
                found[f"{span.name} {facts['relay.attempt']}" if "relay.attempt" in facts else span.name] = span
        return found

    def take(self, octets: bytes) -> None:
        """Keep what was exported."""
        self.requests += 1
        if self.status != 200:
            return
        for resource in ExportTraceServiceRequest.FromString(octets).resource_spans:
            self.services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]


def facts_of(span: Span) -> dict[str, Any]:
    """Return the attributes of a span."""
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(kept.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        kept.url = f"http://{LOOPBACK}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
