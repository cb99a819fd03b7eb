"""From a msmtprc to servers and senders, and the same as msmtp itself says of its accounts."""

import re
import subprocess
from pathlib import Path

import pytest

from relay.moving.found import CannotRead
from relay.moving.msmtp import read_msmtprc
from tests.peers.packages import program
from tests.unit.moving.moving_kit import msmtp, notes, profiles, servers

RC = """\
# my accounts
defaults
auth on
tls on
logfile ~/.msmtp.log

account work
host smtp.acme.example
port 587
from jane@acme.example
user jane
password "geheim 1"

account club : work
from *@club.example
passwordeval pass show club | head -1
tls_starttls off
port 465

account plain : work, club
auth off
tls off
port 25
host smarthost.acme.example
from robot@acme.example

account default : work
"""


def test_accounts_are_servers_and_senders() -> None:
    found = msmtp(RC)
    assert found.default == "smtp.acme.example:587"
    assert servers(found) == {
        "smtp.acme.example:587": {
            "host": "smtp.acme.example",
            "security": "starttls",
            "username": "jane",
            "address": "jane@acme.example",
        },
        "smtp.acme.example:465": {"host": "smtp.acme.example", "security": "tls"},
        "smarthost.acme.example:25": {"host": "smarthost.acme.example", "security": "none", "auth": "none"},
    }
    # The club has the password of work, too, which is the one that msmtp takes then.
    assert profiles(found) == [
        ("smtp.acme.example:587", {"address": "jane@acme.example"}, ""),
        ("smarthost.acme.example:25", {"address": "robot@acme.example", "override": True}, ""),
        (
            "smtp.acme.example:465",
            {
                "address": "postmaster@club.example",
                "aliases": ["@club.example"],
                "override": True,
                "username": "jane",
                "alias_identity": "keep",
            },
            "geheim 1",
        ),
    ]
    assert notes(found) == []


@pytest.mark.needs("msmtp")
def test_msmtp_reads_its_accounts_in_the_same_way(tmp_path: Path) -> None:
    file = tmp_path / "msmtprc"
    file.write_text(RC)
    file.chmod(0o600)
    accounts, _ = read_msmtprc(RC, str(file))
    for account in accounts:
        argv = [program("msmtp"), "-C", str(file), "-P", "-a", account.name, "x@y.example"]
        said = dict(
            re.findall(
                r"^([a-z_]+) = (.*)$",
                subprocess.run(argv, capture_output=True, text=True, check=True).stdout,
                re.MULTILINE,
            )
        )
        for name in ("host", "port", "user", "from"):
            assert account.text(name) == said[name], (account.name, name)
        assert account.is_on("tls", default=False) == (said["tls"] == "on")
        assert account.is_on("tls_starttls", default=True) == (said["tls_starttls"] == "on")
        assert (account.text("auth", "off") == "off") == (said["auth"] == "none")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("tls on", {"security": "starttls", "auth": "none", "port": 25}),
        ("tls\ntls_starttls off", {"security": "tls", "auth": "none"}),
        ("tls on\ntls_certcheck off\nport 587", {"security": "starttls", "verify_tls": False, "auth": "none"}),
        (
            "tls on\ntls_trust_file ~/ca.pem\nport 587",
            {"security": "starttls", "ca_file": "/home/jane/ca.pem", "auth": "none"},
        ),
        ("auth plain", {"security": "none", "auth": "plain", "allow_plaintext_password": True}),
        ("auth", {"security": "none", "auth": "cram-md5"}),
        ("tls\nport 587\nauth scram-sha-256", {"security": "starttls", "auth": "scram-sha-256"}),
        ("tls\nport 587\nauth gssapi", {"security": "starttls"}),
    ],
)
def test_how_a_server_is_spoken_to(lines: str, expected: dict[str, object]) -> None:
    [values] = servers(msmtp(f"account a\nhost h.example\nfrom a@b.example\nuser u\npassword p\n{lines}\n")).values()
    assert values == {"host": "h.example", **expected}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("pass show mail/jane", "command:pass show mail/jane"),
        ("gpg -qd ~/.pw.gpg", "command:sh -c 'gpg -qd ~/.pw.gpg'"),
        ("echo 'a' | tr a b", """command:sh -c 'echo '"'"'a'"'"' | tr a b'"""),
    ],
)
def test_a_password_from_a_command(command: str, expected: str) -> None:
    found = msmtp(f"account a\nhost h.example\ntls on\nauth on\nuser u\nfrom a@b.example\npasswordeval {command}\n")
    [(_, values, password)] = profiles(found)
    assert (values["password_from"], password) == (expected, "")
    assert any("runs as the user of the service" in note for note in notes(found))


@pytest.mark.parametrize(
    ("lines", "note"),
    [
        ("auth on\nuser u", "4: account a: its password is in a key ring"),
        ("auth xoauth2\nuser u", "4: account a: it logs in by OAuth"),
        ("aliases /etc/aliases", "4: aliases: Relay rewrites no recipients"),
        ("tls_fingerprint 00:11", "4: tls_fingerprint: Relay goes by the names"),
        ("set_from_header off", "4: set_from_header off: Relay always makes From"),
        ("eval echo port 26", "4: the line that this command writes is not taken over"),
        ("include ~/more", "4: Relay does not know this command of msmtp"),
        ("protocol lmtp", "4: account a: Relay speaks SMTP to servers"),
        ("port 0", "4: account a: '0' is no port"),
        ("from %U@%H", "4: account a: from '%U@%H' is neither an address"),
        ("account b\nhost h.example", "4: account b: it has no from"),
        ("account b : a\nuser other", "3: account b: account a has the same from"),
        ("account b\nfrom b@b.example", "4: account b: it has no host"),
    ],
)
def test_what_is_not_taken_over_is_told_with_its_line(lines: str, note: str) -> None:
    found = msmtp(f"account a\nhost h.example\nfrom a@b.example\n{lines}\n")
    assert any(one.startswith(f"/home/jane/.msmtprc:{note}") for one in notes(found)), notes(found)


@pytest.mark.parametrize("text", ["account\n", "account a : b\n", "account a\naccount a\n"])
def test_what_msmtp_does_not_read_is_not_read(text: str) -> None:
    with pytest.raises(CannotRead, match=r"^/home/jane/.msmtprc:\d: "):
        msmtp(text)


def test_lines_in_front_of_every_account_are_the_default_account() -> None:
    found = msmtp("host h.example\nfrom a@b.example\n")
    assert (found.default, len(found.senders)) == ("h.example:25", 1)
