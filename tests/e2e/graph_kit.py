"""Relays that send by a Microsoft Graph of the tests, whose app logs in as itself at a provider of the tests."""

from typing import Any

from tests.peers.canaries import RIGHT
from tests.peers.graph import GraphServer
from tests.peers.oidc import IdentityServer
from tests.peers.relay import Relay, Table

QUICK: Table = {
    "delivery": {"mode": "auto", "patience": "8s", "retry": ["200ms"], "probe": ["1h"], "unknown_pause": "100ms"}
}


def directory(graph: GraphServer, identity: IdentityServer, **keys: Any) -> Table:
    """A channel for each way to send: with its own account, with its server's, and with an internal server's."""
    oauth = {**identity.table, "client_id": "app", "flow": "client_credentials"}
    server = {"kind": "msgraph", "api_url": graph.url, "auth": "oauth2", "oauth": oauth, **keys}
    return {
        "default_server": "graph",
        "servers": {
            "graph": {**server, "username": "mailer@acme.example"},
            "house": {**server, "username": "house@acme.example", "internal": True},
        },
        "channels": {
            "support": {"address": "support@acme.example", "override": True, "server": "graph"},
            "sales": {"address": "sales@acme.example"},
            "news": {"address": "news@acme.example", "server": "house"},
        },
    }


def set_client_secrets(relay: Relay, secret: str = RIGHT) -> None:
    """Give both servers the secret of their app."""
    for name in ("graph", "house"):
        done = relay.command("server", "password", name, "--client-secret", "--password-stdin", data=secret + "\n")
        assert done.status == 0, done.text


def message(sender: str, *named: str, subject: str = "hi", body: bytes = b"Hello\r\n", more: str = "") -> bytes:
    """A message that names these recipients."""
    head = f"From: {sender}\r\nTo: {', '.join(named)}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@acme.example>\r\n"
    return (head + more).encode() + b"\r\n" + body


def submit(relay: Relay, name: str, *recipients: str, content: bytes = b"", to: str = "", options: str = "") -> str:
    """Send a message as a channel, and return the reply to it. `to`: whom it names, where that are not all."""
    sender, wanted = f"{name}@acme.example", recipients or ("jo@customer.example",)
    with relay.connect() as client:
        client.say("EHLO raw.test")
        for line in (f"MAIL FROM:<{sender}>{options}", *(f"RCPT TO:<{one}>" for one in wanted), "DATA"):
            reply = client.say(line)
            assert reply[:1] in {"2", "3"}, reply
        client.send((content or message(sender, to or ", ".join(wanted))) + b".\r\n")
        return client.reply()


def held(relay: Relay) -> dict[str, str]:
    """Return why accounts are held, by account."""
    return {one["account"]: one["reason"] for one in relay.ask("account", "list") if one["state"] == "held"}
