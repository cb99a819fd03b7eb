"""Accounts that log in by OAuth: their directory, how a person allows one, and what is known of its token."""

import subprocess
from collections.abc import Callable
from typing import Any

from tests.peers.canaries import leaks_in
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.oidc import IdentityServer
from tests.peers.relay import RELAY, Relay, Table
from tests.peers.system import Finished

# One address for each flow, as one Dovecot serves them all.
DOMAIN = "oauth.example"
MESSAGE = "Subject: hello\r\n\r\nhello\r\n."
QUICK: dict[str, Any] = {"delivery": {"mode": "auto", "patience": "8s", "retry": ["1s"], "probe": ["1h"]}}


def directory(identity: IdentityServer, dovecot: Dovecot, certificates: Certificates) -> Table:
    server: Table = {
        "host": dovecot.host,
        "port": dovecot.starttls_port,
        "auth": "oauth2",
        "ca_file": str(certificates.ca_file),
    }
    clients = {"code": "public", "device": "public", "own": "app"}
    flows = {"own": "client_credentials"}
    servers = {
        name: {**server, "oauth": {**identity.table, "client_id": client, "flow": flows.get(name, name)}}
        for name, client in clients.items()
    }
    channels = {name: {"address": f"{name}@{DOMAIN}", "server": name, "override": True} for name in servers}
    return {"default_server": "code", "servers": servers, "channels": channels}


def submit(relay: Relay, name: str, recipient: str) -> str:
    with relay.connect() as client:
        client.say("EHLO raw.test")
        client.say(f"MAIL FROM:<{name}@{DOMAIN}>")
        client.say(f"RCPT TO:<{recipient}>")
        client.say("DATA")
        return client.say(MESSAGE)


def authorize(relay: Relay, noun: str, name: str, allow: Callable[[list[str]], str | None], *options: str) -> Finished:
    """Run the command as a person does: `allow` is given the lines in it that stand alone, and says what to paste."""
    argv = [str(RELAY), noun, "authorize", name, *options, "--config", str(relay.settings_file)]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    said = ""
    while "Ctrl-C" not in said and "address line" not in said:
        line = process.stdout.readline()
        if not line:
            break
        said += line
    else:
        pasted = allow([line.strip() for line in said.splitlines() if line.startswith("  ")])
        out, err = process.communicate(f"{pasted}\n" if pasted else None, timeout=60)
        assert not leaks_in((said + out + err).encode())
        return Finished(process.returncode, said + out, err)
    out, err = process.communicate(timeout=60)
    return Finished(process.returncode, said + out, err)


def by_code(relay: Relay, identity: IdentityServer, user: str = f"code@{DOMAIN}") -> Finished:
    return authorize(
        relay, "channel", "code", lambda lines: identity.allow_in_browser(lines[0], user), "--redirect-stdin"
    )


def token_of(relay: Relay, account: str) -> dict[str, Any]:
    """What status says about an account's token."""
    found = [one for one in relay.ask("status")["oauth"] if one["account"] == account]
    assert len(found) == 1
    record: dict[str, Any] = found[0]
    return record
