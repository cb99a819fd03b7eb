"""Two ledgers of a crash: what clients were promised by a 250, and what arrived at the upstream.

Every message bears its own name as its subject, and has one recipient of that name; so nothing is counted by guess.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes, message_from_string
from typing import Any

from relay.control.transport.client import ControlClient
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay
from tests.peers.system import wait_until

SENDER = "support@acmejets.example"
REFUSED = "gone@customer.example"
_QUIET = 60.0
_MOST = 20


@dataclass(slots=True)
class Ledger:
    """What some clients were promised. Messages go to NAME@customer.example."""

    promised: list[str] = field(default_factory=list)

    def submit(
        self, relay: Relay, name: str, *others: str, body: bytes = b"hello\r\n", timeout: float | None = None
    ) -> str:
        """Send one message, to some others too, and return its last reply; "" where the relay died meanwhile."""
        reply = ""
        with suppress(OSError, EOFError), RawClient(relay.endpoint, timeout) as client:
            refusals = [one for one in client.envelope(SENDER, f"{name}@customer.example", *others) if one[:1] != "2"]
            if refusals:
                return refusals[0]
            client.say("DATA")
            client.send(message(name, body) + b".\r\n")
            reply = client.reply()
        if reply.startswith("250 "):
            self.promised.append(name)
        return reply

    def submit_until_killed(self, relay: Relay, prefix: str) -> None:
        """Send one message after the other by one connection; not so many that working them off takes long."""
        with suppress(OSError, EOFError), relay.connect() as client:
            for number in range(_MOST):
                name = f"{prefix}.{number}"
                if client.submit(SENDER, f"{name}@customer.example", message(name)).startswith("250 "):
                    self.promised.append(name)

    def missing(self, recorder: Recorder) -> list[str]:
        """Return what was promised and has not arrived."""
        arrived = arrivals(recorder)
        return [name for name in self.promised if not arrived[name]]


def message(name: str, body: bytes = b"hello\r\n") -> bytes:
    """A message with its name as its subject."""
    return f"Subject: {name}\r\nMessage-ID: <{name}@acmejets.example>\r\n\r\n".encode() + body


def arrivals(recorder: Recorder) -> Counter[str]:
    """Return how often each message arrived; what the relay wrote itself is left out."""
    return Counter(name for name, is_report in map(_name_of, recorder.messages) if not is_report)


def reports(recorder: Recorder) -> Counter[str]:
    """Return how often a report arrived, by the name of the message that it is about."""
    return Counter(name for name, is_report in map(_name_of, recorder.messages) if is_report)


def repeated(recorder: Recorder) -> Mapping[str, int]:
    """Return how much too often messages arrived."""
    return {name: count - 1 for name, count in arrivals(recorder).items() if count > 1}


def times_unknown(relay: Relay, name: str) -> int:
    """How often nobody knew, by the history, whether a message had arrived."""
    return sum(attempt["meaning"] == "unknown" for one in told(relay, name) for attempt in one["attempts"])


def told(relay: Relay, name: str) -> list[dict[str, Any]]:
    """What the history tells of the messages to a name: of one that was not promised, its client may have sent two."""
    found = list(control(relay).stream("messages.list", {"to": f"{name}@customer.example"}))
    return [control(relay).run("messages.show", {"id": one["id"]}) for one in found]


# Why a message waits for a person: a kill made it unknown twice.
UNKNOWN = "unknown: "


def settle_all(relay: Relay, reasons: tuple[str, ...] = (UNKNOWN,)) -> None:
    """Wait until nothing waits any more. What waits for a person, for one of these reasons, is let go on here.

    AssertionError for a message that is held for another reason, TimeoutError where the queue gets no shorter. A store
    that was away is waited for.
    """
    wait_until(lambda: sees_store(relay), "the store, as the relay sees it", _QUIET)
    while before := _waiting(relay, reasons):
        _wait_for_fewer(relay, before, reasons)


def sees_store(relay: Relay) -> bool:
    """Whether a running relay can use its store: of one that was away it knows a second later that it is back.

    One that is too full for new mail lets go what it has.
    """
    store = control(relay).status()["store"]
    return bool(store["ok"]) or store["reason"] == "full"


def control(relay: Relay) -> ControlClient:
    """The way to a running relay, without a process for each question."""
    return ControlClient(relay.control_socket, relay.state_dir)


def _waiting(relay: Relay, reasons: tuple[str, ...]) -> int:
    """Return how many messages wait; where all of them are held, let them go on."""
    counts = control(relay).status()["queue"]
    waiting = sum(counts.values())
    if waiting == counts["held"]:
        for entry in list(control(relay).stream("queue.list", {})):
            assert entry["reason"].startswith(reasons), entry
            control(relay).run("queue.release", {"id": entry["id"]})
    return int(waiting)


def _wait_for_fewer(relay: Relay, before: int, reasons: tuple[str, ...]) -> None:
    wait_until(lambda: _waiting(relay, reasons) < before, "fewer waiting messages", _QUIET)


def _name_of(raw: bytes) -> tuple[str, bool]:
    """Return the name of a message, or of the one that a report is about, and whether it is a report."""
    found = message_from_bytes(raw)
    if found.get_content_type() != "multipart/report":
        return str(found["Subject"]), False
    original = list(found.walk())[-1]  # its header block, as a text or as a message
    is_text = original.get_content_type() == "text/rfc822-headers"
    header = message_from_string(str(original.get_payload())) if is_text else original
    return str(header["Subject"]), True
