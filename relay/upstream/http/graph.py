"""Microsoft Graph: a message goes as MIME by sendMail, and by a draft with upload sessions where it is too large.

learn.microsoft.com/graph/outlook-send-mime-message: the body of the request is the message in base64. It leaves as the
mailbox in the path whatever its From says, and 202 says that it is taken for all recipients. One request has at most
4 MB (relay.upstream.http.graph_draft has the rest).

The mailbox in the path: an app that logs in as itself may have many, and its user name says which; a person's token
sends as the identity, which is the person's own mailbox or a shared one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from relay.mail.address import Address, AddressError
from relay.mail.reply import Reply
from relay.upstream.http.client import ApiClient
from relay.upstream.http.graph_draft import Drafts
from relay.upstream.http.job import Job, Mailbox, SendAs, accepted, base64_pieces, base64_size, good
from relay.upstream.outcome import Phase

MOST_OCTETS = 4_000_000
"""Of one request (learn.microsoft.com/graph/outlook-large-attachments says 4 MB)."""

_MIME: Mapping[str, str] = MappingProxyType({"Content-Type": "text/plain"})
_RECIPIENTS = ("toRecipients", "ccRecipients", "bccRecipients")


class Graph:
    """The API of Microsoft 365 mailboxes."""

    async def send(self, client: ApiClient, job: Job) -> Reply:
        """Send a message, in one request where it fits."""
        content, mailbox = job.message.content, job.mailbox
        size = base64_size(content.size)
        if size > MOST_OCTETS:
            return await Drafts(client, path_of(mailbox), mailbox).send(job, MOST_OCTETS)
        url, pieces = f"{path_of(mailbox)}/sendMail", base64_pieces(content.chunks())
        answer = good(await client.send(url, mailbox.token, job.progress, pieces, size, _MIME), mailbox, has_sent=True)
        return accepted("Microsoft Graph", answer)

    async def has(self, client: ApiClient, job: Job, since: datetime) -> bool:
        """Look in Sent Items for the Message-ID, and whether all recipients stand there."""
        mailbox, message = job.mailbox, job.message
        if not message.message_id:
            return False
        quoted = message.message_id.replace("'", "''")
        wanted = quote(f"internetMessageId eq '{quoted}'")
        query = f"$filter={wanted}&$select=sentDateTime,{','.join(_RECIPIENTS)}"
        url = f"{path_of(mailbox)}/mailFolders/sentitems/messages?{query}"
        said = good(await client.ask("GET", url, mailbox.token), mailbox).said or {}
        found = said.get("value")
        return isinstance(found, list) and any(
            message.recipients <= _recipients(each) and _is_since(each, since) for each in found
        )

    async def look(self, client: ApiClient, mailbox: Mailbox) -> str:
        """Look at the mailbox's Sent Items, which an app that may only send is not allowed to see."""
        url = f"{path_of(mailbox)}/mailFolders/sentitems?$select=id"
        answer = await client.ask("GET", url, mailbox.token, phase=Phase.LOGIN)
        if answer.status == 403:
            return (
                "the token is taken, but may not look into the mailbox (Mail.ReadBasic): after a lost answer nobody "
                "can tell whether a message was sent, and a second one may leave"
            )
        good(answer, mailbox)
        return "the token is good, and the mailbox is there"

    async def may_send_as(self, client: ApiClient, mailbox: Mailbox) -> SendAs:  # noqa: ARG002
        """Say as whom mail leaves: Graph judges that only when a message is sent."""
        words = (
            f"mail leaves as the mailbox {mailbox_of(mailbox)}; whether it may is judged only when a message is sent"
        )
        return SendAs(words, is_proven=False)


def mailbox_of(mailbox: Mailbox) -> str:
    """Return the user in the path: see above."""
    oauth = mailbox.server.oauth
    is_own = oauth is not None and oauth.flow == "client_credentials"
    return mailbox.username if is_own else mailbox.identity.without_tag.text


def path_of(mailbox: Mailbox) -> str:
    """Return the URL of the user."""
    return f"{mailbox.server.effective_api_url}/users/{quote(mailbox_of(mailbox))}"


def _is_since(sent: Any, since: datetime) -> bool:
    """Whether a message in Sent Items was sent since then; one whose time cannot be read may be."""
    text = sent.get("sentDateTime") if isinstance(sent, dict) else None
    try:
        return datetime.fromisoformat(str(text)) >= since
    except (ValueError, TypeError):
        return True


def _recipients(sent: Any) -> frozenset[str]:
    """Return whom a message in Sent Items names, as addresses compare."""
    entries = [each for key in _RECIPIENTS for each in _listed(sent, key)]
    found: set[str] = set()
    for entry in entries:
        named = entry.get("emailAddress") if isinstance(entry, dict) else None
        text = named.get("address") if isinstance(named, dict) else None
        try:
            found.add(Address.parse(str(text)).key)
        except AddressError:
            continue
    return frozenset(found)


def _listed(sent: Any, key: str) -> Sequence[Any]:
    value = sent.get(key) if isinstance(sent, dict) else None
    return value if isinstance(value, list) else ()
