"""Microsoft Graph as far as mail is sent by it, on loopback: it keeps to the published documents, and a ledger.

learn.microsoft.com/graph: outlook-send-mime-message, outlook-large-attachments, throttling, errors. A message leaves as
the mailbox in the path, whatever its From says; Bcc is taken off before anybody reads it; what is sent stands in Sent
Items. Tests say what goes wrong by `moods`, one for each request that would send a message.
"""

import asyncio
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from itertools import count
from typing import Any

from tests.peers.api_inbox import ApiInbox
from tests.peers.http_api import LostAnswer, Reply, Request, SendingApi, http_api

MOST_OCTETS = 4_000_000
_LEAST_UPLOAD = 3 * 1024 * 1024
_ROOT = "/v1.0/users/"
_FIELDS = {"to": "toRecipients", "cc": "ccRecipients", "bcc": "bccRecipients"}


@dataclass(slots=True)
class Item:
    """A message of a mailbox: what recipients read, to whom it goes, and the octets of its uploaded attachments."""

    id: str
    mailbox: str
    mime: bytes
    fields: dict[str, list[str]]
    message_id: str
    attachments: dict[str, bytes] = field(default_factory=dict)
    at: float = 0.0
    sent: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def recipients(self) -> list[str]:
        """All to whom it goes."""
        return [address for named in self.fields.values() for address in named]

    @property
    def as_json(self) -> dict[str, Any]:
        """The item as Graph shows it."""
        lists = {key: [{"emailAddress": {"address": one}} for one in named] for key, named in self.fields.items()}
        sent = self.sent.isoformat().replace("+00:00", "Z")
        return {"id": self.id, "internetMessageId": self.message_id, "sentDateTime": sent, **lists}


@dataclass(slots=True)
class Upload:
    """An upload session."""

    item: Item
    name: str
    size: int
    octets: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class GraphServer(SendingApi[Item]):
    """The mailboxes, what they have sent, and how the server behaves.

    `tokens` are those that are good, and whose mailboxes each may use ("*": all). With the mood "silent" it says
    nothing until the client leaves.
    """

    mailboxes: set[str] = field(
        default_factory=lambda: {f"{name}@acme.example" for name in ("support", "house", "mailer")}
    )
    tokens: dict[str, str] = field(default_factory=lambda: {"good-token": "*"})
    may_read: bool = True
    retry_after: int = 7
    per_minute: int = 0
    minute: float = 60.0
    at_once: int = 4
    answer_seconds: float = 0.0
    most_at_once: int = 0
    inbox: ApiInbox = field(default_factory=ApiInbox)
    _drafts: dict[str, Item] = field(default_factory=dict)
    _uploads: dict[str, Upload] = field(default_factory=dict)
    _now: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def url(self) -> str:
        """The api_url of a server in directory.toml."""
        return f"http://127.0.0.1:{self.port}/v1.0"

    @property
    def drafts(self) -> tuple[Item, ...]:
        """The drafts that are there now."""
        with self._changed:
            return tuple(self._drafts.values())

    def sign(self, user: str, *, seconds: float, key: bytes | None, jti: str) -> str:
        """Make an access token, as an identity provider of the tests asks for it."""
        token = f"{user}.{jti}"
        if key is None and seconds > 0:
            self.tokens[token] = "*"
        return token

    async def answer(self, request: Request) -> Reply:
        """Answer one request."""
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            self.note(request.method, request.path)
            if self._now > self.at_once:
                return self._refused(429, "ApplicationThrottled", "over its MailboxConcurrency limit")
            reply = await self._answer(request)
            await asyncio.sleep(self.answer_seconds)  # a slow server
            return reply
        finally:
            self._now -= 1

    async def _answer(self, request: Request) -> Reply:
        if request.path.startswith("/upload/"):
            return self._put(request)
        if request.token not in self.tokens:
            return self._refused(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
        mailbox, _, rest = request.path.removeprefix(_ROOT).partition("/")
        if self.tokens[request.token] not in {"*", mailbox}:
            return self._refused(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        if mailbox not in self.mailboxes:
            return self._refused(404, "ErrorInvalidUser", f"The requested user '{mailbox}' is invalid.")
        match request.method, rest.split("/"):
            case _, ["mailFolders", "inbox" | "junkemail", *_] | ["messages", *_, "$value"]:
                return await self._read(mailbox, request, rest)
            case "POST", ["sendMail"]:
                return await self._send_mail(mailbox, request)
            case "GET", ["mailFolders", "sentitems", *rest_]:
                found = [item for item in self._sent if item.mailbox == mailbox]
                return self._folder(request, found, has_messages=bool(rest_))
            case "GET", ["mailFolders", "drafts", "messages"]:
                return self._folder(request, list(self._drafts.values()), has_messages=True)
            case "POST", ["messages"]:
                return self._draft(mailbox, request)
        return await self._about_draft(request, rest.split("/"))

    async def _read(self, mailbox: str, request: Request, rest: str) -> Reply:
        """Answer who reads a mailbox."""
        if "silent" in self.moods:
            await asyncio.sleep(3600)  # until who asks gives up
        if not self.may_read:
            return self._refused(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        match rest.split("/"):
            case ["mailFolders", folder, "messages"]:
                return self.inbox.graph_list(mailbox, folder, dict(request.query))
            case ["mailFolders", folder]:
                return Reply(200, {"id": folder})
        mail = self.inbox.get(rest.removeprefix("messages/").removesuffix("/$value"))
        found = mail is not None and Reply(200, None, {"Content-Type": "text/plain"}, mail.octets)
        return found or self._refused(404, "ErrorItemNotFound", "The item was not found.")

    async def _about_draft(self, request: Request, rest: list[str]) -> Reply:
        match request.method, rest:
            case "POST", ["messages", id_, "attachments"]:
                said = request.said
                self._drafts[id_].attachments[said["name"]] = b64decode(said["contentBytes"], validate=True)
                return Reply(201, {"id": "a"})
            case "POST", ["messages", id_, "attachments", "createUploadSession"]:
                return self._session(id_, request)
            case "POST", ["messages", id_, "send"]:
                return await self._mood(lambda: self._keep(self._drafts.pop(id_)))
            case "DELETE", ["messages", *parts]:
                id_ = "/".join(parts)
                with self._changed:
                    gone = self._drafts.pop(id_, None) or self.inbox.delete(id_)
                return Reply(204) if gone else self._refused(404, "ErrorItemNotFound", "The item was not found.")
        return self._refused(404, "BadRequest", f"there is no {request.method} {request.path}")

    def _refused(self, status: int, code: str, message: str) -> Reply:
        self.refusals.append(f"{status} {code}")
        waits = {"Retry-After": str(self.retry_after)} if status in {429, 503} else {}
        return Reply(status, {"error": {"code": code, "message": message, "innerError": {}}}, waits)

    async def _send_mail(self, mailbox: str, request: Request) -> Reply:
        if request.headers.get("content-type") != "text/plain":
            return self._refused(400, "BadRequest", "the tests send MIME")
        item = self._item(mailbox, request.body)
        if isinstance(item, Reply):
            return item
        return await self._mood(lambda: self._keep(item))

    async def _mood(self, send: Any) -> Reply:
        mood = self.next_mood()
        if mood == "silent":
            await asyncio.sleep(3600)  # a server that says nothing
        if mood == "lost before":
            raise LostAnswer
        if mood and not mood.endswith("after"):
            status, _, code = mood.partition(" ")
            return self._refused(int(status), code, f"{code}, say the tests")
        if self.per_minute:
            now = time.monotonic()
            if sum(item.at > now - self.minute for item in self._sent) >= self.per_minute:
                return self._refused(429, "ApplicationThrottled", "over the rate of messages")
        send()
        if mood == "lost after":
            raise LostAnswer
        return self._refused(504, "UnknownError", "") if mood else Reply(202)

    def _keep(self, item: Item) -> None:
        with self._changed:
            item.at = time.monotonic()
            for recipient in self.mailboxes & set(item.recipients):
                self.inbox.deliver(recipient, item.mime)
            self._sent.append(item)
            self._changed.notify_all()

    def _item(self, mailbox: str, body: bytes) -> "Item | Reply":
        try:
            octets = b64decode(body, validate=True)
        except ValueError:
            return self._refused(400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.")
        message: EmailMessage = BytesParser(policy=policy.SMTPUTF8).parsebytes(octets, headersonly=True)
        named = {
            key: [_text(one.addr_spec) for head in message.get_all(name, []) for one in head.addresses]
            for name, key in _FIELDS.items()
        }
        if not any(named.values()):
            return self._refused(400, "ErrorInvalidRecipients", "A message can't be sent with no recipients.")
        header, _, rest = octets.partition(b"\r\n\r\n")
        seen = b"\r\n".join(_without_bcc(header.split(b"\r\n")))
        return Item(
            f"item-{next(self._numbers)}=", mailbox, seen + b"\r\n\r\n" + rest, named, message["message-id"] or ""
        )

    def _folder(self, request: Request, items: list[Item], *, has_messages: bool) -> Reply:
        if not self.may_read:
            return self._refused(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        if not has_messages:
            return Reply(200, {"id": "sentitems"})
        wanted = request.query["$filter"].removeprefix("internetMessageId eq '").removesuffix("'").replace("''", "'")
        return Reply(200, {"value": [item.as_json for item in items if item.message_id == wanted]})

    def _draft(self, mailbox: str, request: Request) -> Reply:
        item = self._item(mailbox, request.body)
        if isinstance(item, Reply):
            return item
        with self._changed:
            self._drafts[item.id] = item
        return Reply(201, {"id": item.id})

    def _session(self, id_: str, request: Request) -> Reply:
        wanted = request.said["AttachmentItem"]
        if wanted["size"] < _LEAST_UPLOAD:
            return self._refused(400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize", "it is too small")
        key = f"/upload/{next(self._numbers)}"
        self._uploads[key] = Upload(self._drafts[id_], wanted["name"], wanted["size"])
        return Reply(201, {"uploadUrl": f"http://127.0.0.1:{self.port}{key}", "nextExpectedRanges": ["0-"]})

    def _put(self, request: Request) -> Reply:
        upload = self._uploads[request.path]
        assert not request.token, "an upload's URL takes no token"
        start, _, rest = request.headers["content-range"].removeprefix("bytes ").partition("-")
        assert (int(start), int(rest.partition("/")[2])) == (len(upload.octets), upload.size)
        upload.octets += request.body
        if len(upload.octets) < upload.size:
            return Reply(200, {"nextExpectedRanges": [f"{len(upload.octets)}-"]})
        upload.item.attachments[upload.name] = bytes(upload.octets)
        return Reply(201, None, {"Location": f"http://127.0.0.1:{self.port}/attachment"})


def _text(address: str) -> str:
    """Return an address as it is read: UTF-8."""
    return address.encode("utf-8", "surrogateescape").decode()


def _without_bcc(lines: list[bytes]) -> Iterator[bytes]:
    is_bcc = False
    for line in lines:
        is_bcc = line.lower().startswith(b"bcc:") or (is_bcc and line[:1] in b" \t")
        if not is_bcc:
            yield line


@contextmanager
def graph_server(**behaviour: Any) -> Iterator[GraphServer]:
    """A Graph that runs."""
    server = GraphServer(**behaviour)
    with http_api(server.answer, MOST_OCTETS) as port:
        server.port = port
        yield server
