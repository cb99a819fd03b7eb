"""Mailgun by its API v3: a message goes as MIME, to the recipients of its envelope.

documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages/post-v3--domain-name--messages-mime: each
recipient is a part named "to", and nobody else gets it, whoever To and Cc name (github.com/mailgun/mailgun-php/issues/
81). The user name is the sending domain. A key is the account's, or one of the domain that may do nothing but send.
After a lost answer its events are asked for the Message-ID, which Mailgun keeps; a sending key may not read them.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from relay.mail.address import Address, AddressError
from relay.upstream.http.client import ApiClient
from relay.upstream.http.https import Description, Form, HttpsApi, Login, domain_of
from relay.upstream.http.job import Job, Mailbox, SendAs, good
from relay.upstream.outcome import Phase

MAILGUN = Description(
    api="mailgun",
    path="/v3/{domain}/messages.mime",
    login=Login.BASIC,
    form=Form.PARTS,
    before="to",
    after="message",
    id_key="id",
)
_MOST_EVENTS = 300  # of one answer: documentation.mailgun.com, "Retrieves a paginated list of events"


class Mailgun(HttpsApi):
    """The API of Mailgun."""

    def __init__(self) -> None:
        super().__init__(MAILGUN)

    async def look(self, client: ApiClient, mailbox: Mailbox) -> str:
        """Ask to send to nobody: a key that may do nothing else is refused that for the missing recipient alone."""
        answer = await self.ask(client, mailbox, "POST", MAILGUN.path, phase=Phase.LOGIN)
        if answer.status != 400:
            good(answer, mailbox)
        return f"the key is good for {domain_of(mailbox)}"

    async def may_send_as(self, client: ApiClient, mailbox: Mailbox) -> SendAs:  # noqa: ARG002
        """Say as whom mail leaves: Mailgun looks at its own domain, and at no From."""
        return SendAs(f"mail leaves by the domain {domain_of(mailbox)}, whatever its From says", is_proven=True)

    async def has(self, client: ApiClient, job: Job, since: datetime) -> bool:
        """Look among the events of the domain whether the message was accepted for all recipients."""
        mailbox, message = job.mailbox, job.message
        if not message.message_id:
            return False
        query = {
            "message-id": message.message_id.strip("<>"),
            "event": "accepted",
            "begin": int(since.timestamp()),
            "ascending": "yes",
            "limit": _MOST_EVENTS,
        }
        answer = await self.ask(client, mailbox, "GET", f"/v3/{{domain}}/events?{urlencode(query)}")
        return message.recipients <= frozenset(_recipients(good(answer, mailbox).said or {}))


def _recipients(said: Mapping[str, Any]) -> Iterator[str]:
    """Yield for whom messages were accepted, as addresses compare."""
    items = said.get("items")
    for item in items if isinstance(items, list) else ():
        try:
            yield Address.parse(str(item.get("recipient")) if isinstance(item, dict) else "").key
        except AddressError:
            continue
