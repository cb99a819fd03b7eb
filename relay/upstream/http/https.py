"""What the APIs of kind https have in common: each takes a whole message with an envelope, and is described by data.

A description says where a message goes, how a request logs in and in what form the message stands in it; the table of
meanings (`relay.upstream.http.meaning`) what the answers say. What only one provider can be asked (is the key good, may
this address send, was this message sent) is in that one's module.
"""

import hashlib
import json
import re
from asyncio import sleep
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from secrets import token_hex
from urllib.parse import quote

from relay.directory.http_apis import HTTP_APIS, region_of
from relay.directory.model import Meaning
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.reply import Reply
from relay.system.clock import utc_now
from relay.upstream.http.aws_signature import SigningKey, signed
from relay.upstream.http.client import Answer, ApiClient
from relay.upstream.http.job import Job, Mailbox, SendAs, accepted, base64_pieces, base64_size, cannot, good
from relay.upstream.outcome import Failed, Phase, own_failure

_LOOPBACK_REGION = "us-east-1"
_NO_KEY_ID = Reply(535, "5.7.8", "The user name is no access key id")


class Login(StrEnum):
    """How a request says who makes it."""

    BASIC = "basic"
    """RFC 7617, as "api" with the key as password."""
    AWS = "aws"
    """Signature Version 4: the user name is the access key id, the password the secret access key."""


class Form(StrEnum):
    """In what form a message and its recipients stand in a request."""

    JSON = "json"
    """The message in base64 as a text of JSON."""
    PARTS = "parts"
    """multipart/form-data (RFC 7578), the message as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One provider's API.

    `path` is where a message goes; "{domain}" in it is the sending domain, which is the user name. For JSON `before` is
    what stands before the message, with "{recipients}" for the list of them, and `after` what follows; for PARTS they
    are the names of the parts with a recipient and with the message. `id_key`: where the answer names the message.
    `takes_utf8`: addresses may be other than ASCII.
    """

    api: str
    path: str
    login: Login
    form: Form
    before: str
    after: str
    id_key: str
    service: str = ""
    takes_utf8: bool = True


@dataclass(frozen=True, slots=True)
class _Body:
    """What a request says, around the message."""

    content_type: str
    before: bytes
    after: bytes
    content: Content | None
    is_base64: bool

    @property
    def size(self) -> int:
        octets = self.content.size if self.content is not None else 0
        return len(self.before) + (base64_size(octets) if self.is_base64 else octets) + len(self.after)

    def pieces(self) -> Iterator[bytes]:
        yield self.before
        if self.content is not None:
            yield from base64_pieces(self.content.chunks()) if self.is_base64 else self.content.chunks()
        yield self.after


class HttpsApi:
    """An API that a description says all about; a subclass has what only one provider can be asked."""

    def __init__(self, description: Description) -> None:
        self.description = description

    async def send(self, client: ApiClient, job: Job) -> Reply:
        """Send a message to its envelope, in one request."""
        mailbox, message = job.mailbox, job.message
        if not self.description.takes_utf8 and message.utf8 is not None and not _is_ascii_but_domains(job):
            raise cannot(message.utf8)
        recipients = [_ascii(each) if not self.description.takes_utf8 else each.text for each in message.envelope]
        body = self._body(recipients, message.content)
        url = self.url(mailbox, self.description.path)
        headers = await self.headers("POST", url, mailbox, {"Content-Type": body.content_type}, body.pieces())
        answer = await client.send(url, "", job.progress, body.pieces(), body.size, headers)
        said = good(answer, mailbox, has_sent=True).said or {}
        return accepted(HTTP_APIS[self.description.api].title, answer, str(said.get(self.description.id_key) or ""))

    async def has(self, client: ApiClient, job: Job, since: datetime) -> bool:  # noqa: ARG002
        """Nobody can be asked: what was sent before is not known."""
        return False

    async def may_send_as(self, client: ApiClient, mailbox: Mailbox) -> SendAs:  # noqa: ARG002
        """Say when it is judged."""
        words = f"whether {mailbox.identity.without_tag} may be used is judged only when a message is sent"
        return SendAs(words, is_proven=False)

    async def ask(
        self, client: ApiClient, mailbox: Mailbox, method: str, path: str, *, phase: Phase = Phase.MAIL
    ) -> Answer:
        """Ask something by which no message is sent. Raises Failed where there is no answer."""
        url = self.url(mailbox, path)
        content_type, content = "", b""
        if method == "POST":  # a message for nobody, which says nothing
            body = self._body((), None)
            content_type, content = body.content_type, b"".join(body.pieces())
        given = {"Content-Type": content_type} if content_type else {}
        headers = await self.headers(method, url, mailbox, given, (content,))
        return await client.ask(method, url, "", content=content, headers=headers, phase=phase)

    def url(self, mailbox: Mailbox, path: str) -> str:
        """Return the address of a path."""
        return mailbox.server.effective_api_url + path.replace("{domain}", quote(domain_of(mailbox), safe=""))

    async def headers(
        self, method: str, url: str, mailbox: Mailbox, headers: Mapping[str, str], pieces: Iterable[bytes]
    ) -> dict[str, str]:
        """Return the headers of a request with those that log it in."""
        if self.description.login is Login.BASIC:
            proof = b64encode(f"api:{mailbox.token}".encode()).decode()
            return {**headers, "Authorization": f"Basic {proof}"}
        if re.fullmatch(r"\w+", mailbox.username, re.ASCII) is None:
            raise Failed(own_failure(Phase.LOGIN, _NO_KEY_ID, Meaning.LOGIN_REFUSED))
        payload = hashlib.sha256()
        for piece in pieces:
            payload.update(piece)
            await sleep(0)  # a large message would take its time in one piece
        region = region_of(mailbox.server.effective_host) or _LOOPBACK_REGION
        key = SigningKey(mailbox.username, mailbox.token, region, self.description.service)
        return signed(method, url, headers, payload.hexdigest(), key, utc_now())

    def _body(self, recipients: Sequence[str], content: Content | None) -> _Body:
        """Return a request with a message; without content one that has none."""
        described = self.description
        if described.form is Form.JSON:
            before = described.before.replace("{recipients}", json.dumps(recipients))
            return _Body("application/json", before.encode(), described.after.encode(), content, is_base64=True)
        boundary = token_hex(24)  # nobody can have written it into a message
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="'
        before = "".join(f'{head}{described.before}"\r\n\r\n{each}\r\n' for each in recipients)
        after = f"--{boundary}--\r\n"
        if content is not None:
            file = f'{described.after}"; filename="message.eml"\r\nContent-Type: application/octet-stream\r\n\r\n'
            before, after = before + head + file, f"\r\n{after}"
        kind = f"multipart/form-data; boundary={boundary}"
        return _Body(kind, before.encode(), after.encode(), content, is_base64=False)


def domain_of(mailbox: Mailbox) -> str:
    """Return the sending domain: the user name, or what follows the "@" in it."""
    return mailbox.username.rpartition("@")[2]


def _is_ascii_but_domains(job: Job) -> bool:
    """Whether all that is not ASCII are domains of recipients, which have another spelling."""
    is_ascii = job.mailbox.identity.is_ascii and job.message.content.header.isascii()
    return is_ascii and all(each.local.isascii() for each in job.message.envelope)


def _ascii(address: Address) -> str:
    return address.text if address.is_ascii else f"{address.local}@{address.domain_key}"
