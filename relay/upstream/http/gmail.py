"""The Gmail API: a message goes as it is by users.messages.send, by a resumable upload where it is large.

developers.google.com/gmail/api/guides/uploads: up to 5 MB in one request, up to 35 MB by a session and a PUT. It is
sent to whom To, Cc and Bcc name. Gmail puts the account's own address in place of a From that is none of its verified
addresses, and says nothing; so an address that is not the account's is looked up in its settings first
(users.settings.sendAs), and what is not verified there is not sent.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from relay.directory.model import Meaning
from relay.mail.address import Address, AddressError, without_case
from relay.mail.reply import Reply
from relay.mail.structured_fields import ListFault, parse_address_list
from relay.upstream.http.client import Answer, ApiClient
from relay.upstream.http.job import Job, Mailbox, SendAs, accepted, good
from relay.upstream.outcome import Failed, Failure, Phase, garbage, own_failure

MOST_AT_ONCE = 5 * 1024 * 1024
MOST_OCTETS = 36_700_160
"""Of one message (users.messages.send: "Maximum file size")."""

_MIME: Mapping[str, str] = MappingProxyType({"Content-Type": "message/rfc822"})
_SEND = "/upload/gmail/v1/users/me/messages/send"
_ME = "/gmail/v1/users/me"
_TOO_LARGE = Reply(552, "5.3.4", "The message is larger than the Gmail API takes")
_VERIFIED_SECONDS = 3600.0
_MOST_VERIFIED = 10_000


class Gmail:
    """The API of Gmail accounts. It keeps for an hour which addresses are verified."""

    def __init__(self) -> None:
        self._verified: dict[tuple[str, str, str], float] = {}

    async def send(self, client: ApiClient, job: Job) -> Reply:
        """Send a message, where its From may be the account's."""
        content, mailbox, progress = job.message.content, job.mailbox, job.progress
        size = content.size
        if size > MOST_OCTETS:
            raise Failed(own_failure(Phase.CONTENT, _TOO_LARGE, Meaning.REFUSED, f"{size} octets"))
        await self._check_sender(client, mailbox)
        url = f"{mailbox.server.effective_api_url}{_SEND}"
        if size <= MOST_AT_ONCE:
            answer = await client.send(
                f"{url}?uploadType=media", mailbox.token, progress, content.chunks(), size, _MIME
            )
        else:
            place = await self._session(client, mailbox, url, size)
            answer = await client.send(place, mailbox.token, progress, content.chunks(), size, _MIME, method="PUT")
        return accepted("Gmail", good(answer, mailbox, has_sent=True))

    async def has(self, client: ApiClient, job: Job, since: datetime) -> bool:
        """Look for the Message-ID among what was sent, and whether all recipients stand there."""
        mailbox, message = job.mailbox, job.message
        if not message.message_id:
            return False
        query = urlencode({"q": f"in:sent rfc822msgid:{message.message_id.strip('<>')}", "includeSpamTrash": "true"})
        found = _listed(await self._get(client, mailbox, f"{_ME}/messages?{query}"), "messages")
        wanted = urlencode([("format", "metadata"), *(("metadataHeaders", name) for name in ("To", "Cc", "Bcc"))])
        for each in found:
            id_ = each.get("id") if isinstance(each, dict) else None
            sent = await self._get(client, mailbox, f"{_ME}/messages/{quote(str(id_), safe='')}?{wanted}")
            if message.recipients <= _recipients(sent) and _is_since(sent, since):
                return True
        return False

    async def look(self, client: ApiClient, mailbox: Mailbox) -> str:
        """Look whose account the token is for."""
        url = f"{mailbox.server.effective_api_url}{_ME}/profile"
        said = good(await client.ask("GET", url, mailbox.token, phase=Phase.LOGIN), mailbox).said or {}
        who = str(said.get("emailAddress") or "")
        if without_case(who) != without_case(mailbox.username):
            return f"the token is good; it is for {who or 'an account without a name'}, not for {mailbox.username}"
        return "the token is good"

    async def may_send_as(self, client: ApiClient, mailbox: Mailbox) -> SendAs:
        """Look whether the address is the account's own, or verified for it. Raises Failed where it is neither."""
        await self._check_sender(client, mailbox)
        return SendAs(f"{mailbox.username} may send as {mailbox.identity.without_tag}", is_proven=True)

    async def _check_sender(self, client: ApiClient, mailbox: Mailbox) -> None:
        """Raise Failed for an address that Gmail would put another one in the place of."""
        address = mailbox.identity.without_tag
        if without_case(address.text) == without_case(mailbox.username):
            return
        key, now = (mailbox.server.effective_api_url, mailbox.username, address.key), time.monotonic()
        if self._verified.get(key, 0.0) > now:
            return
        url = f"{mailbox.server.effective_api_url}{_ME}/settings/sendAs/{quote(address.text, safe='')}"
        answer = await client.ask("GET", url, mailbox.token)
        if answer.status in {403, 404} or (answer.is_good and not _is_verified(answer)):
            raise Failed(_unverified(address, mailbox.username, answer))
        good(answer, mailbox)
        if len(self._verified) >= _MOST_VERIFIED:
            self._verified.clear()
        self._verified[key] = now + _VERIFIED_SECONDS

    async def _session(self, client: ApiClient, mailbox: Mailbox, url: str, size: int) -> str:
        """Begin a resumable upload, and return where it goes. Nobody has the message by it."""
        headers = {"X-Upload-Content-Type": "message/rfc822", "X-Upload-Content-Length": str(size)}
        answer = await client.ask("POST", f"{url}?uploadType=resumable", mailbox.token, json_body={}, headers=headers)
        place, own = good(answer, mailbox).location, urlsplit(url)
        # SECURITY: the token and the message go nowhere else.
        if urlsplit(place)[:2] != own[:2]:
            raise Failed(garbage(Phase.CONTENT, "the upload's address is another server's"))
        return place

    async def _get(self, client: ApiClient, mailbox: Mailbox, path: str) -> Mapping[str, Any]:
        url = f"{mailbox.server.effective_api_url}{path}"
        return good(await client.ask("GET", url, mailbox.token), mailbox).said or {}


def _is_verified(answer: Answer) -> bool:
    said = answer.said or {}
    return said.get("verificationStatus") == "accepted" or said.get("isPrimary") is True


def _unverified(address: Address, username: str, answer: Answer) -> Failure:
    words = f"{address} is no verified address of the Gmail account {username}"
    return Failure(
        phase=Phase.MAIL,
        reply=Reply.of_upstream(550, f"5.7.60 {words}"),
        meaning=Meaning.IDENTITY_REFUSED,
        from_server=True,
        detail="" if answer.is_good else answer.text,
    )


def _recipients(sent: Mapping[str, Any]) -> frozenset[str]:
    """Return whom a message that was sent names, as addresses compare."""
    found: set[str] = set()
    payload = sent.get("payload")
    for header in _listed(payload, "headers"):
        try:
            for listed in parse_address_list(str(header.get("value")) if isinstance(header, dict) else ""):
                found.add(Address.parse(listed.text).key)
        except (ListFault, AddressError):
            continue
    return frozenset(found)


def _is_since(sent: Mapping[str, Any], since: datetime) -> bool:
    """Whether it was sent since then; one whose time cannot be read may be."""
    try:
        return datetime.fromtimestamp(int(str(sent.get("internalDate"))) / 1000, UTC) >= since
    except (ValueError, OverflowError, OSError):
        return True


def _listed(said: Any, key: str) -> Sequence[Any]:
    value = said.get(key) if isinstance(said, Mapping) else None
    return value if isinstance(value, list) else ()
