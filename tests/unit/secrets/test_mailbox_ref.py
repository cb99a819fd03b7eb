"""With which secret a mailbox is read: its own password, or the token of the account that sends, and what that asks."""

from typing import Any

from relay.directory.model import Auth, Channel, Kind, Server
from relay.directory.tables import Incoming, OAuthClient
from relay.secrets.oauth.identity_provider import endpoints_of
from relay.secrets.secret import mailbox_ref, token_ref
from tests.peers.rows import each_row

MICROSOFT = "outlook.office365.com"


def server_of(provider: Any, flow: Any, kind: Kind) -> Server:
    client = OAuthClient(provider=provider, client_id="app", flow=flow, token_url="https://id.example/t")
    host = "smtp.acme.example" if kind is Kind.SMTP else ""
    return Server(name="s", kind=kind, host=host, auth=Auth.OAUTH2, username="u", oauth=client)


def channel_with(host: str, protocol: Any, auth: Any = "oauth2") -> Channel:
    incoming = Incoming(host=host, protocol=protocol, auth=auth)
    return Channel(name="c", address="c@acme.example", override=True, incoming=incoming)


@each_row(
    ("provider", "flow", "kind", "host", "protocol", "expected"),
    [
        ("microsoft", "code", Kind.SMTP, MICROSOFT, "imap", "https://outlook.office.com/IMAP.AccessAsUser.All"),
        ("microsoft", "device", Kind.SMTP, MICROSOFT, "pop3", "https://outlook.office.com/POP.AccessAsUser.All"),
        ("microsoft", "client_credentials", Kind.SMTP, MICROSOFT, "imap", "https://outlook.office365.com/.default"),
        ("google", "code", Kind.SMTP, "imap.gmail.com", "imap", "https://mail.google.com/"),
        ("google", "code", Kind.GMAIL, "IMAP.gmail.com.", "imap", "https://mail.google.com/"),
        ("custom", "code", Kind.SMTP, "smtp.acme.example", "imap", ""),
        ("custom", "code", Kind.SMTP, "imap.acme.example", "imap", None),
        ("microsoft", "code", Kind.SMTP, "imap.gmail.com", "imap", None),
        ("google", "code", Kind.SMTP, "imap.gmail.com.evil.example", "imap", None),
        ("microsoft", "code", Kind.MSGRAPH, MICROSOFT, "imap", None),
    ],
)
def test_the_token_of_the_account_that_sends_is_asked_for_the_mailbox_too(
    provider: str, flow: str, kind: Kind, host: str, protocol: str, expected: str | None
) -> None:
    server, channel = server_of(provider, flow, kind), channel_with(host, protocol)
    ref = mailbox_ref(channel, server)
    assert (ref is None) == (expected is None)
    if ref is not None:
        assert ref == token_ref(server, channel)
        assert ref.token is not None
        assert (endpoints_of(ref.token.client).scope.split() or [""])[0] == expected


def test_a_mailbox_with_a_password_asks_for_no_more_and_a_foreign_account_has_no_token() -> None:
    server = server_of("microsoft", "code", Kind.SMTP)
    ref = mailbox_ref(channel_with("imap.acme.example", "imap", "password"), server)
    assert ref is not None
    assert (ref.owner, ref.token) == ("incoming/c", None)
    token = token_ref(server, channel_with("imap.acme.example", "imap", "password"))
    assert token is not None
    assert token.token is not None
    assert "IMAP" not in endpoints_of(token.token.client).scope
    without = Channel(
        name="c", address="c@acme.example", incoming=Incoming(host=MICROSOFT, auth="oauth2"), override=False
    )
    assert mailbox_ref(without, server) is None
