"""The Gmail API as far as mail is sent by it, on loopback, with the token endpoint that a service account asks.

developers.google.com/gmail/api: guides/uploads, users.messages, users.settings.sendAs, guides/handle-errors. It sends
to whom the header names, keeps Bcc for the sender alone, and puts the account's own address in the place of a From that
is not verified. `moods` say what happens to the next requests that send, as in `tests.peers.http_api`.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.parser import BytesParser
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import RSAKey

from tests.peers.api_inbox import ApiInbox
from tests.peers.http_api import LostAnswer, Reply, Request, SendingApi, http_api

_SEND = "/upload/gmail/v1/users/me/messages/send"
_ME = "/gmail/v1/users/me/"
_SCOPE = "https://mail.google.com/"


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was sent: the account, the octets as the sender has them, and to whom it went."""

    id: str
    user: str
    mime: bytes
    headers: dict[str, str]
    recipients: tuple[str, ...]
    at: float


@dataclass(slots=True)
class GmailServer(SendingApi[Sent]):
    """The accounts, their verified addresses beside their own, and what was sent."""

    accounts: dict[str, set[str]] = field(
        default_factory=lambda: {f"{name}@acme.example": set() for name in ("support", "house", "mailer")}
    )
    tokens: dict[str, str] = field(default_factory=lambda: {"good-token": "support@acme.example"})
    inbox: ApiInbox = field(default_factory=ApiInbox)
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    _sessions: dict[str, tuple[str, int]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def pem(self) -> str:
        """The private key of the service account."""
        form = serialization.PrivateFormat.PKCS8
        encoded = self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        return encoded.decode()

    def write_account(self, path: Path) -> Path:
        """Write the key of the service account, as Google's console gives it."""
        account = {"type": "service_account", "client_email": "relay@p.iam.example", "private_key_id": "k1"}
        path.write_text(json.dumps({**account, "private_key": self.pem}))
        return path

    def change_key(self) -> None:
        """Revoke the key of the service account, and make another one."""
        self.key = rsa.generate_private_key(65537, 2048)
        self.tokens.clear()

    async def answer(self, request: Request) -> Reply:
        """Answer one request."""
        self.note(request.method, request.path)
        if request.path == "/token":
            return self._token(request)
        user = self.tokens.get(request.token)
        if user is None:
            return self._refused(401, "authError", "Invalid Credentials")
        if user not in self.accounts:
            return self._refused(400, "failedPrecondition", "Mail service not enabled")
        if request.path.startswith(_SEND):
            return self._upload(user, request)
        return self._about(
            user, request, request.path.removeprefix(_ME).split("/", 3 if "/settings/" in request.path else 1)
        )

    def _about(self, user: str, request: Request, path: list[str]) -> Reply:
        match path:
            case ["profile"]:
                return Reply(200, {"emailAddress": user, "historyId": self.inbox.history_id})
            case ["history"]:
                return self.inbox.gmail_history(user, dict(request.query)) or self._refused(404, "notFound", "too old")
            case ["messages", id_] if request.method == "DELETE":
                return Reply(204) if self.inbox.delete(id_) else self._refused(404, "notFound", id_)
            case ["messages", id_] if request.query["format"] == "raw":
                return self.inbox.raw(id_) or self._refused(404, "notFound", id_)
            case ["settings", "sendAs", address]:
                if address not in self.accounts[user]:
                    return self._refused(404, "notFound", "Requested entity was not found.")
                return Reply(200, {"sendAsEmail": address, "verificationStatus": "accepted"})
            case ["messages"]:
                wanted = request.query["q"].removeprefix("in:sent rfc822msgid:")
                found = [one for one in self._sent if one.user == user and one.headers["message-id"] == f"<{wanted}>"]
                return Reply(200, {"messages": [{"id": one.id} for one in found]})
            case ["messages", id_]:
                one = next(one for one in self._sent if one.id == id_)
                headers = [{"name": name, "value": one.headers[name]} for name in ("to", "cc", "bcc")]
                return Reply(200, {"internalDate": str(int(one.at * 1000)), "payload": {"headers": headers}})
        return self._refused(404, "notFound", request.path)

    def _token(self, request: Request) -> Reply:
        told = {key: value[0] for key, value in parse_qs(request.body.decode()).items()}
        try:
            claims = jwt.decode(told["assertion"], RSAKey.import_key(self.pem), algorithms=["RS256"]).claims
        except BadSignatureError:
            return Reply(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        if claims["scope"] != _SCOPE or claims["sub"] not in self.accounts or claims["exp"] < time.time():
            return Reply(401, {"error": "unauthorized_client", "error_description": "Client is unauthorized"})
        token = f"token-{next(self._numbers)}"
        self.tokens[token] = str(claims["sub"])
        return Reply(200, {"token_type": "Bearer", "access_token": token, "expires_in": 3599})

    def _upload(self, user: str, request: Request) -> Reply:
        if request.query["uploadType"] == "media":
            return self._send(user, request.body)
        if request.method == "POST":
            number = str(next(self._numbers))
            self._sessions[number] = (user, int(request.headers["x-upload-content-length"]))
            return Reply(200, None, {"Location": f"{self.url}{_SEND}?uploadType=resumable&upload_id={number}"})
        owner, size = self._sessions.pop(request.query["upload_id"])
        assert (owner, size) == (user, len(request.body))
        return self._send(user, request.body)

    def _send(self, user: str, mime: bytes) -> Reply:
        mood = self.next_mood()
        if mood == "lost before":
            raise LostAnswer
        if mood and not mood.endswith("after"):
            status, reason, *words = mood.split(" ", 2)
            return self._refused(int(status), reason, words[0] if words else f"{reason}, say the tests")
        message = BytesParser(policy=policy.SMTPUTF8).parsebytes(mime, headersonly=True)
        named = [
            one.addr_spec
            for name in ("to", "cc", "bcc")
            for head in message.get_all(name, [])
            for one in head.addresses
        ]
        if not named:
            return self._refused(400, "invalidArgument", "Recipient address required")
        sender = message["from"].addresses[0].addr_spec
        own = sender if sender in {user, *self.accounts[user]} else user
        headers = {name: str(message[name] or "") for name in ("to", "cc", "bcc", "message-id", "subject")}
        people = tuple(one.encode("utf-8", "surrogateescape").decode() for one in named)
        with self._changed:
            number = f"m{next(self._numbers)}"
            self._sent.append(Sent(number, user, mime, {**headers, "from": own}, people, time.time()))
            for each in self.accounts.keys() & set(people):
                self.inbox.deliver(each, mime, "INBOX")
            self._changed.notify_all()
        if mood == "lost after":
            raise LostAnswer
        return self._refused(504, "backendError", "") if mood else Reply(200, {"id": number, "labelIds": ["SENT"]})

    def _refused(self, status: int, reason: str, message: str) -> Reply:
        self.refusals.append(f"{status} {reason}")
        errors = [{"domain": "global", "reason": reason, "message": message}]
        return Reply(status, {"error": {"code": status, "message": message, "errors": errors}})


@contextmanager
def gmail_server(**behaviour: Any) -> Iterator[GmailServer]:
    """A Gmail that runs."""
    server = GmailServer(**behaviour)
    with http_api(server.answer, 37_000_000) as port:
        server.port = port
        yield server
