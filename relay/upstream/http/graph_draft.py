"""A message that is too large for one request: a draft, its large attachments by upload sessions, then send.

learn.microsoft.com/graph/outlook-large-attachments: attachments under 3 MB by one POST, up to 150 MB by PUT of ranges
under 4 MB to a URL that needs no token. Nobody has the message before the draft is sent, which is its final dot. A
draft that is not sent is removed, also one that a relay which was killed has left.

Attachments leave octet for octet. Only parts of multipart/mixed and multipart/related are taken out of the message:
what is in a signature or an encryption stays, since nothing of it may change. Where what stays is still too large, the
message cannot go.
"""

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from relay.directory.model import Meaning
from relay.mail.encoded_words import decode_words
from relay.mail.mime import MimePart
from relay.mail.reply import Reply, clean_text
from relay.upstream.http.client import ApiClient
from relay.upstream.http.job import Job, Mailbox, accepted, base64_pieces, base64_size, good
from relay.upstream.outcome import Failed, Phase, garbage, own_failure

_OPEN = frozenset({"multipart/mixed", "multipart/related"})
_DEEPEST = 5
_END_OF_HEADER = re.compile(rb"\r\n\r\n")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(r';\s*(?:file)?name\s*=\s*(?:"((?:[^"\\]|\\.){1,400})"|([^\s;"]{1,400}))', re.IGNORECASE)
_EXTENDED = re.compile(r";\s*(?:file)?name\*\s*=\s*utf-8'[^']*'([^\s;]{1,800})", re.IGNORECASE)
_LEAST = 64 * 1024  # octets; a part that is smaller stays
_NOTHING = b"Content-Type: text/plain; charset=us-ascii\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is uploaded: its octets without their transfer encoding."""

    name: str
    kind: str
    octets: bytes
    content_id: str = ""
    is_inline: bool = False


def take_apart(message: bytes, most: int) -> tuple[bytes, list[Attachment]]:
    """Return a message with at most so many octets, and the attachments that were taken out of it, the largest first.

    What is returned is larger where nothing more can be taken out.
    """
    taken: list[Attachment] = []
    for part in sorted(_leaves(message, 0, is_root=True), key=len, reverse=True):
        if len(message) <= most:
            break
        taken.append(_attachment(part))
        message = _without(message, part)
    return message, taken


def _leaves(raw: bytes, depth: int, *, is_root: bool = False) -> Iterable[bytes]:
    """Yield the octets of the parts that may be taken out, each as it stands in the message."""
    part = MimePart.parse(raw)
    if part.kind in _OPEN and depth < _DEEPEST:
        for inner in _inner(raw, part):
            yield from _leaves(inner, depth + 1)
    elif not is_root and len(raw) >= _LEAST and not part.kind.startswith(("multipart/", "message/")):
        yield raw


def _inner(raw: bytes, part: MimePart) -> list[bytes]:
    """Return the parts of a multipart as they stand in it (RFC 2046 section 5.1.1)."""
    named = _BOUNDARY.search(part.get("content-type"))
    start = _END_OF_HEADER.search(raw)
    if named is None or start is None:
        return []
    delimiter = re.compile(rb"\r\n--" + re.escape((named[1] or named[2]).encode()) + rb"(?:--)?[ \t]*(?=\r\n|\Z)")
    # The empty line behind the header may be the line end before the first delimiter.
    marks = list(delimiter.finditer(raw, start.end() - 2))
    return [raw[mark.end() + 2 : after.start()] for mark, after in pairwise(marks)]


def _without(message: bytes, part: bytes) -> bytes:
    """Return the message with an empty part in place of that one."""
    return message.replace(part, _NOTHING, 1)


def _attachment(raw: bytes) -> Attachment:
    part = MimePart.parse(raw)
    disposition = part.get("content-disposition")
    name = _name_in(disposition) or _name_in(part.get("content-type")) or "attachment"
    content_id = part.get("content-id").strip().removeprefix("<").removesuffix(">")
    is_inline = disposition.strip().lower().startswith("inline") and bool(content_id)
    return Attachment(name, part.kind, part.content, clean_text(content_id), is_inline)


def _name_in(value: str) -> str:
    if extended := _EXTENDED.search(value):
        return clean_text(unquote(extended[1]))
    found = _NAME.search(value)
    return clean_text(decode_words(re.sub(r"\\(.)", r"\1", found[1] or found[2]))) if found else ""


_LEAST_UPLOAD = 3 * 1024 * 1024
_RANGE = 3_276_800  # ten times 320 KiB: under 4 MB, and a size that every upload session of Graph takes
_CLEANING_SECONDS = 20.0
_MIME: Mapping[str, str] = MappingProxyType({"Content-Type": "text/plain"})
_TOO_LARGE = Reply(
    552, "5.3.4", "The message is larger than one request to Microsoft Graph, and has no attachments to upload apart"
)
_NO_DRAFTS = Reply(
    552, "5.3.4", "The message is larger than one request to Microsoft Graph, and the account may not write drafts"
)
_cleaning: set[asyncio.Task[None]] = set()


class Drafts:
    """Drafts of one mailbox; `path` is the URL of its user."""

    def __init__(self, client: ApiClient, path: str, mailbox: Mailbox) -> None:
        self._client = client
        self._path = path
        self._mailbox = mailbox

    async def send(self, job: Job, most: int) -> Reply:
        """Send a message whose MIME is over `most` octets in base64. Raises Failed."""
        whole = b"".join(job.message.content.chunks())
        small, attachments = await asyncio.to_thread(take_apart, whole, most // 4 * 3)
        if base64_size(len(small)) > most:
            raise Failed(own_failure(Phase.CONTENT, _TOO_LARGE, Meaning.REFUSED))
        del whole
        await self._remove_left(job.message.message_id)
        draft = await self._create(small)
        try:
            for attachment in attachments:
                await self._attach(draft, attachment)
            url, empty = f"{draft}/send", {"Content-Type": "application/json"}
            answer = await self._client.send(url, self._mailbox.token, job.progress, (b"",), 0, empty)
            answer = good(answer, self._mailbox, has_sent=True)
        except BaseException:
            if not job.progress.final_dot_sent:
                self._remove_later(draft)
            raise
        return accepted("Microsoft Graph", answer)

    async def _create(self, mime: bytes) -> str:
        """Create a draft, and return its URL."""
        body = b"".join(base64_pieces((mime,)))
        answer = await self._ask("POST", f"{self._path}/messages", content=body, headers=_MIME)
        return f"{self._path}/messages/{quote(_text(answer.said, 'id'), safe='')}"

    async def _attach(self, draft: str, attachment: Attachment) -> None:
        facts: dict[str, Any] = {"name": attachment.name, "contentType": attachment.kind}
        if attachment.content_id:
            facts |= {"contentId": attachment.content_id, "isInline": attachment.is_inline}
        if len(attachment.octets) < _LEAST_UPLOAD:
            whole = {"@odata.type": "#microsoft.graph.fileAttachment", **facts}
            whole["contentBytes"] = b64encode(attachment.octets).decode()
            await self._ask("POST", f"{draft}/attachments", json_body=whole)
            return
        item = {"AttachmentItem": {"attachmentType": "file", "size": len(attachment.octets), **facts}}
        session = await self._ask("POST", f"{draft}/attachments/createUploadSession", json_body=item)
        await self._upload(self._safe(_text(session.said, "uploadUrl")), attachment.octets)

    async def _upload(self, url: str, octets: bytes) -> None:
        """Put the ranges in their order; the URL itself says who we are."""
        total = len(octets)
        for start in range(0, total, _RANGE):
            piece = octets[start : start + _RANGE]
            span = f"bytes {start}-{start + len(piece) - 1}/{total}"
            headers = {"Content-Type": "application/octet-stream", "Content-Range": span}
            good(
                await self._client.ask("PUT", url, "", content=piece, headers=headers, phase=Phase.CONTENT),
                self._mailbox,
            )

    def _safe(self, url: str) -> str:
        """Return an upload's URL. SECURITY: a message goes nowhere unprotected but to this machine's own API."""
        parts, own = urlsplit(url), urlsplit(self._path)
        if parts.scheme == "https" or parts[:2] == own[:2]:
            return url
        raise Failed(garbage(Phase.CONTENT, "the upload's address is not protected"))

    async def _remove_left(self, message_id: str) -> None:
        """Remove drafts of this message that were left by a relay which ended in the middle."""
        if not message_id:
            return
        quoted = message_id.replace("'", "''")
        wanted = quote(f"internetMessageId eq '{quoted}'")
        query = f"$filter={wanted}&$select=id"
        answer = await self._ask("GET", f"{self._path}/mailFolders/drafts/messages?{query}")
        found = (answer.said or {}).get("value")
        for each in found if isinstance(found, list) else ():
            await self._remove(f"{self._path}/messages/{quote(_text(each, 'id'), safe='')}")

    def _remove_later(self, draft: str) -> None:
        task = asyncio.get_running_loop().create_task(self._remove_quietly(draft))
        _cleaning.add(task)
        task.add_done_callback(_cleaning.discard)

    async def _remove_quietly(self, draft: str) -> None:
        """Remove a draft as far as that goes: a later attempt looks for what is left."""
        try:
            async with asyncio.timeout(_CLEANING_SECONDS):
                await self._remove(draft)
        except (Failed, TimeoutError):
            pass

    async def _remove(self, draft: str) -> None:
        answer = await self._client.ask("DELETE", draft, self._mailbox.token)
        if answer.status != 404:
            good(answer, self._mailbox)

    async def _ask(self, method: str, url: str, **request: Any) -> Any:
        answer = await self._client.ask(method, url, self._mailbox.token, **request)
        if answer.status == 403:  # smaller ones may leave: it says nothing about the account
            raise Failed(own_failure(Phase.CONTENT, _NO_DRAFTS, Meaning.REFUSED, answer.text))
        return good(answer, self._mailbox)


def _text(said: Any, key: str) -> str:
    """Return what an answer says under a key. Raises Failed."""
    value = said.get(key) if isinstance(said, Mapping) else None
    if not isinstance(value, str) or not value:
        raise Failed(garbage(Phase.CONTENT, f"the answer has no {key}"))
    return value
