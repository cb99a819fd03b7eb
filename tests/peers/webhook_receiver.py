"""A program that takes webhooks, as a customer's would: it verifies each with the library of Standard Webhooks, writes
it to its ledger, and answers then. It is run as a process of its own, and can be killed at any moment.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.peers.system import LOOPBACK, answers, free_port, wait_until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Where a relay posts its events, and what arrived there. It is not running until `start`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.ledger = folder / f"events.{self.port}"
        # The status that it answers with where this file is there, in place of taking events.
        self.refusing = folder / f"refusing.{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}/hooks/relay?key=1"

    @property
    def table(self) -> dict[str, Any]:
        """The table of relay.toml that names it; the secret is in the environment of nobody."""
        secret = self.ledger.with_name("secret")
        secret.write_text(SECRET + "\n")
        return {"url": self.url, "secret_from": f"file:{secret}"}

    def start(self) -> None:
        """Start it, and wait until it listens."""
        argv = [sys.executable, "-P", "-m", __name__, str(self.port), str(self.ledger), str(self.refusing)]
        self._process = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
        wait_until(lambda: answers(self.port), "the receiver of webhooks")

    def kill(self) -> None:
        """Kill it, whatever it does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def lines(self) -> list[dict[str, Any]]:
        """What it took, in the order in which it came: {id, event}. A line that a kill has cut was not answered."""
        if not self.ledger.exists():
            return []
        whole = self.ledger.read_text().split("\n")[:-1]
        return [json.loads(line) for line in whole]

    def events(self, message: str = "") -> list[dict[str, Any]]:
        """The events that it took, of one message (its subject) or all, each once."""
        once = {line["id"]: line["event"] for line in self.lines()}
        return [event for event in once.values() if message in {"", event["data"]["subject"]}]

    def types(self, message: str) -> list[str]:
        """What it was told of a message, by its subject, without the word message."""
        return [event["type"].removeprefix("message.") for event in self.events(message)]


@contextmanager
def webhook_receiver(folder: Path, *, starts: bool = True) -> Iterator[Receiver]:
    """A receiver with its files in a folder."""
    receiver = Receiver(folder)
    if starts:
        receiver.start()
    try:
        yield receiver
    finally:
        receiver.kill()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        refusing = Path(sys.argv[3])
        if refusing.exists():
            self._answer(int(refusing.read_text()))
            return
        try:
            event = Webhook(SECRET).verify(body, dict(self.headers))
        except WebhookVerificationError:
            self._answer(401)
            return
        line = json.dumps({"id": self.headers["webhook-id"], "event": event}) + "\n"
        with Path(sys.argv[2]).open("ab", buffering=0) as ledger:
            ledger.write(line.encode())
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer((LOOPBACK, int(sys.argv[1])), _Handler).serve_forever()
