"""Amazon SES by its API v2 as far as mail is sent by it, on loopback; it computes every signature itself.

docs.aws.amazon.com/ses/latest/APIReference-V2: SendEmail, GetAccount, GetEmailIdentity; IAM/latest/UserGuide/
reference_sigv. It sends to whom Destination names, and reads From in the message. `moods` say what happens to the next
requests that send, as in `tests.peers.http_api`.
"""

import hmac
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import policy
from email.parser import BytesParser
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from tests.peers.http_api import LostAnswer, Reply, Request, SendingApi, http_api

REGION = "us-east-1"
_SEND = "/v2/email/outbound-emails"
_SHAPE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>\w+)/(?P<day>\d{8})/(?P<region>[\w-]+)/(?P<service>\w+)/aws4_request, "
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was sent: with which key, the octets, as whom, and to whom."""

    key: str
    mime: bytes
    sender: str
    subject: str
    recipients: tuple[str, ...]


@dataclass(slots=True)
class SesServer(SendingApi[Sent]):
    """The keys, the verified addresses and domains, and what was sent. `may_look`: the keys may do more than send."""

    keys: dict[str, str] = field(default_factory=lambda: {"AKIDEXAMPLE": "right"})
    verified: set[str] = field(default_factory=lambda: {"acme.example"})
    may_look: bool = True
    is_paused: bool = False

    async def answer(self, request: Request) -> Reply:
        """Answer one request."""
        self.note(request.method, request.target)
        found = _SHAPE.fullmatch(request.headers.get("authorization", ""))
        if found is None:
            return self._refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        secret = self.keys.get(found["id"])
        if secret is None:
            return self._refused(403, "UnrecognizedClientException", "The security token in the request is invalid.")
        if (fault := _fault_of(request, found, secret)) is not None:
            return self._refused(403, "InvalidSignatureException", fault)
        if (request.method, request.path) == ("POST", _SEND):
            return self._send(found["id"], request)
        if not self.may_look:
            return self._refused(403, "AccessDeniedException", "User is not authorized to perform this action")
        if request.path == "/v2/email/account":
            quota = {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 0.0}
            said = {"SendQuota": quota, "ProductionAccessEnabled": True, "SendingEnabled": not self.is_paused}
            return Reply(200, said)
        name = request.path.removeprefix("/v2/email/identities/")
        if name not in self.verified:
            return self._refused(404, "NotFoundException", f"Email identity {name} does not exist.")
        return Reply(200, {"VerifiedForSendingStatus": True})

    def _send(self, key: str, request: Request) -> Reply:
        mood = self.next_mood()
        if mood == "lost before":
            raise LostAnswer
        if mood and not mood.endswith("after"):
            status, _, error = mood.partition(" ")
            name, _, words = error.partition(" ")
            return self._refused(int(status), name, words or f"{name}, say the tests")
        said = request.said
        mime = b64decode(said["Content"]["Raw"]["Data"], validate=True)
        recipients = tuple(said["Destination"]["ToAddresses"])
        if set(said) != {"Destination", "Content"} or not 0 < len(recipients) <= 50:
            return self._refused(400, "BadRequestException", "Recipient count exceeds 50.")
        if not all(one.isascii() for one in recipients):
            return self._refused(400, "BadRequestException", "Local address contains control or whitespace")
        message = BytesParser(policy=policy.default).parsebytes(mime, headersonly=True)
        sender = message["from"].addresses[0].addr_spec
        if not {sender, sender.rpartition("@")[2]} & self.verified:
            words = f"Email address is not verified. The following identities failed the check: {sender}"
            return self._refused(400, "MessageRejected", words)
        self.keep(Sent(key, mime, sender, str(message["subject"] or ""), recipients))
        if mood == "lost after":
            raise LostAnswer
        return self._refused(504, "", "") if mood else Reply(200, {"MessageId": f"0100-{len(self._sent)}"})

    def _refused(self, status: int, name: str, message: str) -> Reply:
        self.refusals.append(f"{status} {name}: {message}")
        return Reply(status, {"message": message}, {"x-amzn-ErrorType": f"{name}:http://internal.amazon.com/x"})


def _fault_of(request: Request, found: re.Match[str], secret: str) -> str | None:
    """Return what is wrong with a signature, by the steps of AWS's documentation."""
    date = request.headers["x-amz-date"]
    when = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(datetime.now(UTC) - when) > timedelta(minutes=5):
        return f"Signature expired: {date}"
    if (found["day"], found["region"], found["service"]) != (date[:8], REGION, "ses"):
        return "Credential should be scoped to a valid region and to the service ses."
    names = found["names"].split(";")
    if names != sorted(names) or not {"host", "x-amz-date"} <= set(names):
        return "the signed headers are not those that must be"
    path, _, query = request.target.partition("?")
    assert not query, "no request of the tests has one"
    canonical = [request.method, "".join(sign if sign == "/" else quote(sign, safe="") for sign in path), ""]
    canonical += [f"{name}:{' '.join(request.headers[name].split())}" for name in names]
    canonical += ["", found["names"], sha256(request.body).hexdigest()]
    digest = sha256("\n".join(canonical).encode()).hexdigest()
    scope = f"{found['day']}/{found['region']}/{found['service']}/aws4_request"
    key = b"AWS4" + secret.encode()
    for step in (found["day"], found["region"], found["service"], "aws4_request"):
        key = hmac.new(key, step.encode(), sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
    wanted = hmac.new(key, text.encode(), sha256).hexdigest()
    return None if hmac.compare_digest(wanted, found["signature"]) else "The request signature does not match."


@contextmanager
def ses_server(**behaviour: Any) -> Iterator[SesServer]:
    """An SES that runs. A request has at most what 40 MiB are in base64, and its envelope."""
    server = SesServer(**behaviour)
    with http_api(server.answer, 56_000_000) as port:
        server.port = port
        yield server
