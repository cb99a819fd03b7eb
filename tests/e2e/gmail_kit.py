"""Relays that send by a Gmail of the tests, with the key of a service account."""

from pathlib import Path

from tests.peers.gmail import GmailServer
from tests.peers.relay import Table


def directory(gmail: GmailServer, key_file: Path) -> Table:
    """A channel for each way to send, by a service account that acts for all users of the domain."""
    oauth = {
        "provider": "custom",
        "client_id": "117",
        "flow": "client_credentials",
        "token_url": f"{gmail.url}/token",
        "scope": "https://mail.google.com/",
        "key_file": str(gmail.write_account(key_file)),
    }
    server = {"kind": "gmail", "api_url": gmail.url, "auth": "oauth2", "oauth": oauth}
    return {
        "default_server": "gmail",
        "servers": {
            "gmail": {**server, "username": "mailer@acme.example"},
            "house": {**server, "username": "house@acme.example", "internal": True},
        },
        "channels": {
            "support": {"address": "support@acme.example", "override": True, "server": "gmail"},
            "sales": {"address": "sales@acme.example"},
            "news": {"address": "news@acme.example", "server": "house"},
            "desk": {
                "address": "desk@acme.example",
                "override": True,
                "server": "gmail",
                "username": "support@acme.example",
            },
        },
    }
