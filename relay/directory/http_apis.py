"""The providers whose HTTP API a server of kind https may name, and those that have none for whole messages.

Here is what must be known before anything is sent; how they are spoken to is `relay.upstream.http.https`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class HttpApi:
    """A provider's API: the provider's name, and what it calls that by which we log in."""

    title: str
    username: str
    password: str


HTTP_APIS: Mapping[str, HttpApi] = MappingProxyType(
    {
        "ses": HttpApi("Amazon SES", "access key id", "secret access key"),
        "mailgun": HttpApi("Mailgun", "sending domain", "API key"),
    }
)
"""What `api` of a server may be."""

# They take the parts of a message and make another of them: twilio.com/docs/sendgrid/api-reference/mail-send/mail-send
# and postmarkapp.com/developer/api/email-api. The ports: sendgrid.com/docs/for-developers/sending-email/
# integrating-with-the-smtp-api and postmarkapp.com/developer/user-guide/send-email-with-smtp.
_NO_WHOLE_MESSAGES: Mapping[str, str] = MappingProxyType({"sendgrid": "SendGrid", "postmark": "Postmark"})
# "email.eu-central-1.amazonaws.com", "email-fips.us-east-1.amazonaws.com", and the names of VPC endpoints, which end
# with "email.eu-central-1.vpce.amazonaws.com": docs.aws.amazon.com/general/latest/gr/ses.html.
_REGION = re.compile(r"(?:^|\.)email(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-[0-9]+)\.")


def not_possible(name: str) -> str:
    """Return why a provider's API cannot be used, in a sentence; "" where nothing is known against it."""
    title = _NO_WHOLE_MESSAGES.get(name, "")
    if not title:
        return ""
    return (
        f"{title} takes no whole message by its API, only parts of which it makes another one; use its SMTP "
        f"(--provider {name}), with port 2525 where 587 is blocked"
    )


def region_of(host: str) -> str:
    """Return the region in the name of an SES endpoint, "" where there is none."""
    found = _REGION.search(host.lower())
    return found[1] if found else ""
