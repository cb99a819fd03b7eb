"""Mailgun by its API v3 as far as mail is sent by it, on loopback.

documentation.mailgun.com/docs/mailgun/api-reference: messages.mime, events, authentication. It sends to whom the parts
"to" name. `moods` say what happens to the next requests that send, as in `tests.peers.http_api`.
"""

import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.parser import BytesParser
from typing import Any

from tests.peers.http_api import LostAnswer, Reply, Request, SendingApi, http_api


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was sent: the domain, the octets, as whom, and to whom."""

    domain: str
    mime: bytes
    sender: str
    subject: str
    message_id: str
    recipients: tuple[str, ...]
    at: float


@dataclass(slots=True)
class MailgunServer(SendingApi[Sent]):
    """The domains and their keys, and what was sent. A key in `sending_keys` may do nothing else."""

    keys: dict[str, str] = field(default_factory=lambda: {"right": "mg.acme.example"})
    sending_keys: set[str] = field(default_factory=set)

    async def answer(self, request: Request) -> Reply:
        """Answer one request."""
        self.note(request.method, request.target)
        way, _, proof = request.headers.get("authorization", "").partition(" ")
        name, _, key = b64decode(proof).decode().partition(":")
        if (way, name) != ("Basic", "api") or key not in self.keys:
            self.refusals.append("401")
            return Reply(401, None, {"Content-Type": "text/plain"}, b"Forbidden")
        _, version, domain, *rest = request.path.split("/")
        if version != "v3" or domain != self.keys[key]:
            return self._refused(404, f"Domain not found: {domain}")
        if rest == ["messages.mime"]:
            return self._send(domain, request)
        if key in self.sending_keys:
            self.refusals.append("401")
            return Reply(401, None, {"Content-Type": "text/plain"}, b"Forbidden")
        assert rest == ["events"]
        assert request.query["event"] == "accepted"
        with self._changed:
            found = [
                {"event": "accepted", "recipient": one, "timestamp": sent.at}
                for sent in self._sent
                for one in sent.recipients
                if sent.message_id == f"<{request.query['message-id']}>" and sent.at >= float(request.query["begin"])
            ]
        return Reply(200, {"items": found, "paging": {}})

    def _send(self, domain: str, request: Request) -> Reply:
        parts = _parts(request)
        people = [part.decode() for part in parts.get("to", ())]
        if not people:
            return self._refused(400, "to parameter is missing")
        mood = self.next_mood()
        if mood == "lost before":
            raise LostAnswer
        if mood and not mood.endswith("after"):
            status, _, words = mood.partition(" ")
            return self._refused(int(status), words)
        (mime,) = parts["message"]
        message = BytesParser(policy=policy.SMTPUTF8).parsebytes(mime, headersonly=True)
        sender = message["from"].addresses[0].addr_spec
        facts = (sender, str(message["subject"] or ""), str(message["message-id"] or ""), tuple(people), time.time())
        self.keep(Sent(domain, mime, *facts))
        if mood == "lost after":
            raise LostAnswer
        if mood:
            return self._refused(504, "")
        return Reply(200, {"id": str(message["message-id"]), "message": "Queued. Thank you."})

    def _refused(self, status: int, message: str) -> Reply:
        self.refusals.append(f"{status} {message}")
        return Reply(status, {"message": message})


def _parts(request: Request) -> dict[str, list[bytes]]:
    """Return the parts of a form by their names, octet for octet."""
    boundary = b"--" + request.headers["content-type"].partition("boundary=")[2].encode()
    _, *parts, end = (b"\r\n" + request.body).split(b"\r\n" + boundary)
    assert end == b"--\r\n"
    found: dict[str, list[bytes]] = {}
    for part in parts:
        head, _, octets = part.partition(b"\r\n\r\n")
        found.setdefault(head.partition(b'name="')[2].partition(b'"')[0].decode(), []).append(octets)
    return found


@contextmanager
def mailgun_server(**behaviour: Any) -> Iterator[MailgunServer]:
    """A Mailgun that runs. A request has at most 25 MiB and what stands around the message."""
    server = MailgunServer(**behaviour)
    with http_api(server.answer, 26_300_000) as port:
        server.port = port
        yield server
