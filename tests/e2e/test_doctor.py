"""`relay doctor` as people run it: real Dovecot and Postfix with their certificates, and a real name server."""

import json
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import trustme

from relay.doctor.finding import txt_record
from tests.peers.canaries import RIGHT, WRONG, canary
from tests.peers.dns import name_server
from tests.peers.dovecot import Dovecot, dovecot_server
from tests.peers.fixtures import Certificates
from tests.peers.postfix import Postfix
from tests.peers.relay import Relay, relay_process
from tests.peers.sink import Sink
from tests.peers.system import free_port
from tests.unit.doctor.zone import dkim

pytestmark = [pytest.mark.needs("nsd", "postfix", "dovecot", "submission", "root"), pytest.mark.slow]

USER, OWN, SHARED = "doctor@right.example", "jane@right.example", "shared@right.example"
Finding = dict[str, Any]


def _records() -> str:
    lines = [
        # To the world the server has an address outside; this machine's own files say where it is for us.
        "localhost. IN A 192.0.2.25",
        "mail.test. IN A 192.0.2.1",
        "right.example. IN MX 10 mail.test.",
        txt_record("right.example", "v=spf1 ip4:192.0.2.25 -all"),
        txt_record("mail._domainkey.right.example", dkim()),
        txt_record("_dmarc.right.example", "v=DMARC1; p=reject"),
        "owners.example. IN MX 10 mail.test.",
        txt_record("foreign.example", "v=spf1 -all"),
        txt_record("_dmarc.foreign.example", "v=DMARC1; p=quarantine"),
    ]
    return "\n".join(lines) + "\n"


class Broken:
    """Dovecots whose certificates are expired, about to expire, of another name, and of nobody we know."""

    def __init__(self, sink: Sink, folder: Path, stack: ExitStack) -> None:
        authority = trustme.CA()
        self.ca_file = folder / "broken.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        now = datetime.now(UTC)
        issued = {
            "expired": authority.issue_cert("localhost", not_after=now - timedelta(days=3)),
            "soon": authority.issue_cert("localhost", not_after=now + timedelta(days=5, hours=1)),
            "other-name": authority.issue_cert("elsewhere.example"),
            "unknown": trustme.CA().issue_cert("localhost"),
        }
        self.servers: dict[str, Dovecot] = {}
        for name, certificate in issued.items():
            pem = certificate.private_key_and_cert_chain_pem.bytes()
            self.servers[name] = stack.enter_context(dovecot_server(sink.port, pem))
            self.servers[name].add_users({USER: RIGHT})


@pytest.fixture(scope="module")
def relay(
    dovecot: Dovecot,
    postfix: Postfix,
    sink: Sink,
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Relay]:
    dovecot.add_users({USER: RIGHT, OWN: canary("jane")})
    with ExitStack() as stack:
        broken = Broken(sink, tmp_path_factory.mktemp("broken"), stack)
        dns = stack.enter_context(name_server(_records()))
        good = {
            "host": "localhost",
            "port": dovecot.starttls_port,
            "username": USER,
            "ca_file": str(certificates.ca_file),
        }
        servers: dict[str, Any] = {
            "good": good,
            "wrong": good,
            "unset": good,
            "unchecked": {**good, "verify_tls": False, "ca_file": ""},
            "other-port": {**good, "security": "tls"},
            "nowhere": {**good, "port": free_port()},
            "postfix": {"host": "localhost", "port": postfix.port, "security": "none", "username": USER},
        }
        for name, server in broken.servers.items():
            servers[name] = {**good, "port": server.starttls_port, "ca_file": str(broken.ca_file)}
        delegate = {"override": True, "username": OWN, "password": canary("jane")}
        channels: dict[str, Any] = {
            "support": {"address": "support@right.example"},
            "shared": {"address": SHARED, **delegate},
            "foreign": {"address": "help@foreign.example", **delegate},
        }
        servers["postfix"]["address"] = "stranger@owners.example"
        for name, server in list(servers.items()):
            channels[f"at-{name}"] = {"address": f"{name}@right.example", "server": name}
            password = WRONG if name == "wrong" else RIGHT
            servers[name] = server if name == "unset" else {**server, "password": password}
        directory = {"default_server": "good", "servers": servers, "channels": channels}
        relay = stack.enter_context(relay_process(directory, {"dns": {"servers": [dns]}}))
        yield relay


def examine(relay: Relay, *arguments: str) -> tuple[int, list[Finding]]:
    done = relay.command("doctor", *arguments, "--json")
    result = json.loads(done.out)
    assert result["ok"] == (done.status == 0)
    return done.status, result["findings"]


def at_fault(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding["check"], finding["level"]) for finding in findings if finding["level"] != "good"]


def test_all_is_good_with_a_right_setup(relay: Relay, sink: Sink) -> None:
    before = len(sink.messages)
    status, findings = examine(relay, "support")
    assert (status, at_fault(findings)) == (0, [])
    checks = ["server", "certificate", "tls", "login", "send-as", "mx", "spf", "dkim", "dmarc", "alignment"]
    assert [finding["check"] for finding in findings] == checks
    assert all(finding["profile"] == "support" and not finding["fix"] for finding in findings)
    assert len(sink.messages) == before


def test_a_shared_mailbox_is_used_with_the_login_of_a_delegate(relay: Relay, dovecot: Dovecot, sink: Sink) -> None:
    assert examine(relay, "shared")[0] == 0
    assert dovecot.wait_for_login(OWN)
    recipient = "delegate@customer.example"
    assert relay.ask("channel", "test", "shared", "--to", recipient)["ok"]
    arrived = sink.wait_for(recipient)
    assert (arrived.login, arrived.sender, str(arrived.header["From"])) == (OWN, SHARED, SHARED)


@pytest.mark.parametrize(
    ("profile", "check", "level", "why", "fix"),
    [
        ("at-expired", "certificate", "bad", "certificate has expired", "renew it"),
        ("at-soon", "certificate", "warn", "expires in 5 days", "renew it"),
        ("at-other-name", "certificate", "bad", "ismatch", "a name that is in the certificate"),
        ("at-unknown", "certificate", "bad", "issuer certificate", "ca_file"),
        ("at-unchecked", "certificate", "warn", "verify_tls = false", "ca_file"),
        ("at-other-port", "tls", "bad", "wrong version number", "security"),
        ("at-nowhere", "server", "bad", "connection refused", "firewall"),
        ("at-wrong", "login", "bad", "535 5.7.8", "relay server password wrong"),
        ("at-unset", "login", "bad", "no password is set for unset/", "relay server password unset"),
        ("at-postfix", "send-as", "bad", f"not owned by user {USER}", "allow that account to send as this address"),
        ("foreign", "spf", "bad", "foreign.example does not name any", "ip4:192.0.2.25"),
        ("foreign", "alignment", "bad", "receivers are asked to quarantine", "an account of foreign.example"),
        ("foreign", "mx", "bad", "foreign.example has no MX record", "IN MX 10"),
    ],
)
def test_a_fault_is_found(relay: Relay, profile: str, check: str, level: str, why: str, fix: str) -> None:
    status, findings = examine(relay, profile)
    assert status == (1 if any(finding["level"] == "bad" for finding in findings) else 0)
    (found,) = (finding for finding in findings if finding["check"] == check and finding["level"] != "good")
    assert found["level"] == level
    assert why in found["why"]
    assert fix in found["fix"]


def test_people_read_it_and_can_copy_the_record(relay: Relay) -> None:
    done = relay.command("doctor", "foreign")
    assert done.status == 1
    assert "\n" + " " * 19 + "do: " in done.out
    record = 'foreign.example. IN TXT "v=spf1 ip4:192.0.2.25 -all"'
    assert record in [line.strip() for line in done.out.splitlines()]


def test_all_profiles_are_a_table_and_what_is_not_good(relay: Relay) -> None:
    done = relay.command("doctor")
    assert done.status == 1
    assert done.out.startswith("CHECK")
    assert "for: at-wrong" in done.out
    assert f"relay server password wrong --config {relay.settings_file}" in done.out
    assert "good  " not in done.out.split("\n\n", 1)[1]


def test_the_findings_of_all_are_those_of_each_one(relay: Relay) -> None:
    _, everybody = examine(relay)
    for profile in ("support", "at-wrong", "foreign"):
        mine = [finding for finding in everybody if finding["profile"] == profile]
        assert at_fault(mine) == at_fault(examine(relay, profile)[1])


def test_with_no_name_server_nothing_is_bad(relay: Relay) -> None:
    text = relay.settings_file.read_text()
    relay.stop()
    nobody = {"servers": [f"127.0.0.1:{free_port()}"]}
    relay.settings_file.write_text(tomli_w.dumps({**tomllib.loads(text), "dns": nobody}))
    try:
        status, findings = examine(relay, "support")
    finally:
        relay.settings_file.write_text(text)
        relay.start()
    assert status == 0
    assert at_fault(findings) == [("mx", "warn"), ("spf", "warn"), ("dkim", "warn"), ("dmarc", "warn")]
