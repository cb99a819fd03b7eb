"""Amazon SES by its API v2: a message goes as MIME, to the recipients of its envelope.

docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html. FromEmailAddress would take the place of From with
its display name, so it is left out and SES reads From, which bears the identity; the recipients in Destination are all
that it sends to, whoever To and Cc name. It does not take SMTPUTF8. There is no way to ask whether a message was sent:
it gives each a Message-ID of its own, and knows them by that alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from relay.directory.model import Meaning
from relay.mail.reply import Reply
from relay.upstream.http.client import Answer, ApiClient
from relay.upstream.http.https import Description, Form, HttpsApi, Login
from relay.upstream.http.job import Mailbox, SendAs, good
from relay.upstream.outcome import Failed, Failure, Phase

SES = Description(
    api="ses",
    path="/v2/email/outbound-emails",
    login=Login.AWS,
    service="ses",
    form=Form.JSON,
    before='{"Destination":{"ToAddresses":{recipients}},"Content":{"Raw":{"Data":"',
    after='"}}}',
    id_key="MessageId",
    takes_utf8=False,
)


class Ses(HttpsApi):
    """The API of Amazon SES."""

    def __init__(self) -> None:
        super().__init__(SES)

    async def look(self, client: ApiClient, mailbox: Mailbox) -> str:
        """Look at the account, which a key that may only send is not allowed to see."""
        answer = await self.ask(client, mailbox, "GET", "/v2/email/account", phase=Phase.LOGIN)
        if _is_denied(answer):
            return "the key is good, and may not look at the account (ses:GetAccount)"
        return _account_words(good(answer, mailbox).said or {})

    async def may_send_as(self, client: ApiClient, mailbox: Mailbox) -> SendAs:
        """Look whether the address or its domain is verified. Raises Failed where neither is."""
        address = mailbox.identity.without_tag
        for name in _identities(f"{address.local}@{address.domain_key}"):
            answer = await self.ask(client, mailbox, "GET", f"/v2/email/identities/{quote(name, safe='')}")
            if _is_denied(answer):
                return await super().may_send_as(client, mailbox)
            if answer.status != 404 and (good(answer, mailbox).said or {}).get("VerifiedForSendingStatus") is True:
                return SendAs(f"{name} is verified", is_proven=True)
        words = f"neither {address} nor its domain is verified in this region"
        raise Failed(
            Failure(
                phase=Phase.MAIL,
                reply=Reply.of_upstream(550, f"5.7.60 {words}"),
                meaning=Meaning.IDENTITY_REFUSED,
                from_server=True,
            )
        )


def _is_denied(answer: Answer) -> bool:
    """Whether the key was taken, and may not do what was asked."""
    return answer.reason in {"AccessDeniedException", "AccessDenied"}


def _identities(address: str) -> Iterator[str]:
    """Yield what may be verified for an address: itself, its domain, and the domains above down to two labels."""
    yield address
    labels = address.rpartition("@")[2].split(".")
    for count in range(len(labels), 1, -1):
        yield ".".join(labels[-count:])


def _account_words(said: Mapping[str, Any]) -> str:
    quota = said.get("SendQuota")
    limits = ""
    if isinstance(quota, dict):
        limits = f"; {quota.get('Max24HourSend')} messages in 24 hours, {quota.get('MaxSendRate')} a second"
    where = "" if said.get("ProductionAccessEnabled") else "; in the sandbox: to verified addresses alone"
    paused = "" if said.get("SendingEnabled", True) else "; sending is paused"
    return f"the key is good{limits}{where}{paused}"
