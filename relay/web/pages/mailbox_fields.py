"""The part of a form that asks for a mailbox (`incoming`): of a channel, an agent or a server."""

from relay.web.kit.entry_editing import Record
from relay.web.kit.forms import Choice, Field, FieldFaults, Group
from relay.web.kit.page_request import PageRequest

_TECHNICAL = {"autocapitalize": "none", "spellcheck": "false"}
_PROTOCOLS = (Choice("imap", "IMAP"), Choice("pop3", "POP3", "Sees the inbox alone, not the junk folder."))
_SECURITY = (Choice("tls", "TLS"), Choice("starttls", "STARTTLS"), Choice("none", "None"))
PASSWORD = "incoming_password"  # noqa: S105 - the name of a field


def mailbox_faults(visit: PageRequest) -> FieldFaults:
    """Return what is wrong where a mailbox has a password and no server."""
    if visit.secret(PASSWORD) is None or visit.text("incoming.host"):
        return {}
    return {PASSWORD: "it is for an incoming server; name that, or leave this empty"}


def mailbox_group(record: Record | None, intro: str) -> Group:
    """Return the folded group; without a server name there is no mailbox."""
    has_one = record is not None and record["incoming"] is not None
    fields = (
        Field(key="incoming.host", label="Incoming server", placeholder="imap.example.com", attributes=_TECHNICAL),
        Field(key="incoming.protocol", label="Protocol", kind="select", choices=_PROTOCOLS, start="imap"),
        Field(
            key="incoming.security", label="Incoming connection security", kind="select", choices=_SECURITY, start="tls"
        ),
        Field(
            key="incoming.port",
            label="Incoming port",
            kind="number",
            hint="Left empty it follows: IMAP 993 or 143, POP3 995 or 110.",
        ),
        Field(
            key="incoming.username",
            label="Incoming user name",
            hint="Left empty it is the one that mail is sent with, or the address.",
            attributes=_TECHNICAL,
        ),
        Field(
            key=PASSWORD,
            label="Incoming password",
            kind="password",
            autocomplete="new-password",
            hint="Left empty it stays as it is." if has_one else "It is kept encrypted and never shown again.",
        ),
        Field(
            key="incoming.ca_file",
            label="Incoming certificate authority",
            off="A file on the machine; it is set there by a command, as incoming.ca_file=PATH.",
            attributes=_TECHNICAL,
        ),
        Field(
            key="incoming.watch_bounces",
            label="Read what comes back",
            kind="check",
            hint="Mail that could not be delivered later on is found there and told in the history.",
        ),
    )
    return Group("Incoming mail", fields, intro, is_folded=True)
