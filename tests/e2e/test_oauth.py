"""Accounts that log in by OAuth: a real identity provider, a real Dovecot that checks its tokens, delivered mail."""

import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.oauth_kit import DOMAIN, QUICK, authorize, by_code, directory, submit, token_of
from tests.peers.canaries import RIGHT, WRONG, leaks_in, plain_canary
from tests.peers.dovecot import Dovecot, dovecot_server
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.oidc import Client, IdentityServer, identity_server
from tests.peers.relay import RELAY, Relay
from tests.peers.sink import Sink
from tests.peers.system import Finished, heeding_interrupts, wait_until

pytestmark = [pytest.mark.needs("dovecot", "submission"), pytest.mark.slow]


@pytest.fixture
def relay(start_relay: StartRelay, identity: IdentityServer, dovecot: Dovecot, certificates: Certificates) -> Relay:
    """A server for each flow, and on each a channel of the same name with an account of its own."""
    return start_relay(directory(identity, dovecot, certificates), QUICK)


@pytest.fixture
def bearer_dovecot(sink: Sink, certificates: Certificates) -> Iterator[Dovecot]:
    """A Dovecot that takes tokens by OAUTHBEARER alone."""
    with dovecot_server(sink.port, certificates.server, ("plain", "oauthbearer")) as server:
        yield server


def set_client_secret(relay: Relay, secret: str) -> None:
    done = relay.command("server", "password", "own", "--client-secret", "--password-stdin", data=secret + "\n")
    assert done.status == 0, done.text


def hold_of(relay: Relay, account: str) -> str:
    """Why an account is held, once it is."""

    def reason() -> str:
        records = [one for one in relay.ask("account", "list") if one["account"] == account]
        return next((one["reason"] for one in records if one["state"] == "held"), "")

    return wait_until(reason, f"a hold of {account}")


def test_the_code_flow_ends_in_delivered_mail(
    relay: Relay, identity: IdentityServer, dovecot: Dovecot, sink: Sink
) -> None:
    assert token_of(relay, f"code/code@{DOMAIN}")["state"] == "missing"
    done = by_code(relay, identity)
    assert done.status == 0, done.text
    assert done.err == ""
    assert leaks_in(dovecot.token("x", jti=plain_canary("x")).encode())  # by which a leak of a token is known
    assert submit(relay, "code", "code-flow@customer.example").startswith("250 2.0.0 Ok: delivered"), relay.last_words
    assert sink.wait_for("code-flow@customer.example").login == f"code@{DOMAIN}"
    assert {login.method for login in dovecot.wait_for_login(f"code@{DOMAIN}")} == {"XOAUTH2"}
    assert identity.asked == ["authorization_code"]
    token = token_of(relay, f"code/code@{DOMAIN}")
    assert (token["state"], token["error"]) == ("ok", "")
    assert token["refreshed"] < token["expires"]
    assert {"owner": "oauth/profile/code", "used": True} in [
        {"owner": one["owner"], "used": one["used"]} for one in relay.ask("secrets", "list")
    ]


def test_the_device_flow_ends_in_delivered_mail(relay: Relay, identity: IdentityServer, sink: Sink) -> None:
    def allow(lines: list[str]) -> None:
        assert lines[0].endswith("/enter-code")
        identity.allow_device(lines[1], f"device@{DOMAIN}")

    done = authorize(relay, "channel", "device", allow)
    assert done.status == 0, done.text
    assert submit(relay, "device", "device-flow@customer.example").startswith("250 2.0.0 Ok: delivered")
    assert sink.wait_for("device-flow@customer.example").login == f"device@{DOMAIN}"


@pytest.mark.parametrize("flow", ["code", "device", "own"])
def test_every_flow_ends_in_mail_that_is_delivered_by_oauthbearer(
    flow: str, start_relay: StartRelay, bearer_dovecot: Dovecot, certificates: Certificates, sink: Sink
) -> None:
    with identity_server(bearer_dovecot.token) as identity:
        identity.clients.update(public=Client("public", "", ""), app=Client("app", RIGHT, f"own@{DOMAIN}"))
        relay = start_relay(directory(identity, bearer_dovecot, certificates), QUICK)
        if flow == "own":
            set_client_secret(relay, RIGHT)
        elif flow == "code":
            assert by_code(relay, identity).status == 0
        else:
            authorize(relay, "channel", flow, lambda lines: identity.allow_device(lines[1], f"{flow}@{DOMAIN}"))
        recipient = f"bearer-{flow}@customer.example"
        assert submit(relay, flow, recipient).startswith("250 2.0.0 Ok: delivered"), relay.last_words
        assert sink.wait_for(recipient).login == f"{flow}@{DOMAIN}"
        assert {login.method for login in bearer_dovecot.wait_for_login(f"{flow}@{DOMAIN}")} == {"OAUTHBEARER"}


def test_who_stops_waiting_for_a_device_changes_nothing(relay: Relay, identity: IdentityServer) -> None:
    argv = [str(RELAY), "channel", "authorize", "device", "--config", str(relay.settings_file)]
    with heeding_interrupts():
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: identity.asked, "a question of the device")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, "nothing was changed" in err) == (1, True), out + err
    wait_until(lambda: identity.seconds_since_asked > 3, "an end of the questions", 30)
    assert token_of(relay, f"device/device@{DOMAIN}")["state"] == "missing"


def test_client_credentials_end_in_delivered_mail(relay: Relay, identity: IdentityServer, sink: Sink) -> None:
    set_client_secret(relay, RIGHT)
    assert submit(relay, "own", "own-flow@customer.example").startswith("250 2.0.0 Ok: delivered"), relay.last_words
    assert sink.wait_for("own-flow@customer.example").login == f"own@{DOMAIN}"
    done = relay.command("channel", "authorize", "own")
    assert (done.status, "is authorized" in done.out) == (0, True), done.text
    assert identity.asked == ["client_credentials"] * 2


def test_a_wrong_client_secret_holds_the_mail_until_there_is_a_right_one(relay: Relay, sink: Sink) -> None:
    set_client_secret(relay, WRONG)
    assert "queued as" in submit(relay, "own", "own-held@customer.example")
    assert "invalid_client" in hold_of(relay, f"own/own@{DOMAIN}")
    set_client_secret(relay, RIGHT)
    assert sink.wait_for("own-held@customer.example").login == f"own@{DOMAIN}"


def test_an_expired_token_is_renewed_once_and_the_mail_goes(relay: Relay, identity: IdentityServer, sink: Sink) -> None:
    identity.behaviour.lives = -30  # the provider says an hour, and the server finds it expired
    by_code(relay, identity)
    identity.behaviour.lives = None
    assert submit(relay, "code", "renewed@customer.example").startswith("250 2.0.0 Ok: delivered"), relay.last_words
    assert identity.asked == ["authorization_code", "refresh_token"]
    assert sink.wait_for("renewed@customer.example").login == f"code@{DOMAIN}"


def test_a_token_is_renewed_before_it_expires_although_nobody_sends(
    relay: Relay, identity: IdentityServer, sink: Sink
) -> None:
    identity.behaviour.seconds = 4
    by_code(relay, identity)
    wait_until(lambda: identity.asked.count("refresh_token") >= 2, "two renewals", 30)
    relay.stop()
    relay.start()
    before = len(identity.asked)
    wait_until(lambda: len(identity.asked) > before, "a renewal after a start", 30)
    token = token_of(relay, f"code/code@{DOMAIN}")
    assert (token["state"], token["refreshed"] < token["expires"]) == ("ok", True)

    def is_told() -> bool:
        """Whether the status has it; just before it is renewed, it may have no second left."""
        lines = relay.command("status").out.splitlines()
        told = (line for line in lines if line.startswith(f"  code/code@{DOMAIN}: token expires in "))
        return any(", last renewed " in line for line in told)

    wait_until(is_told, "the token in the status")


def test_a_wrong_token_is_renewed_once_and_then_held_and_a_new_authorization_frees_it(
    relay: Relay, identity: IdentityServer, dovecot: Dovecot, sink: Sink
) -> None:
    identity.behaviour.forges = True
    by_code(relay, identity)
    assert "queued as" in submit(relay, "code", "forged@customer.example")
    reason = hold_of(relay, f"code/code@{DOMAIN}")
    assert reason.startswith("535 5.7.8 ")
    assert "status" in reason  # the JSON of the server's challenge
    # Once while the client waited, and the queue's own attempt found the account held.
    assert identity.asked == ["authorization_code", "refresh_token"]
    identity.behaviour.forges = False
    by_code(relay, identity)
    assert sink.wait_for("forged@customer.example").login == f"code@{DOMAIN}"
    assert token_of(relay, f"code/code@{DOMAIN}")["state"] == "ok"


def test_a_revoked_authorization_holds_in_the_providers_words_and_a_new_one_frees_the_mail(
    relay: Relay, identity: IdentityServer, sink: Sink
) -> None:
    identity.behaviour.lives = -30
    by_code(relay, identity)
    identity.revoke(f"code@{DOMAIN}")
    assert "queued as" in submit(relay, "code", "revoked@customer.example")
    assert "invalid_grant" in hold_of(relay, f"code/code@{DOMAIN}")
    assert "invalid_grant" in relay.ask("queue", "list")[0]["reason"]
    token = token_of(relay, f"code/code@{DOMAIN}")
    assert token["state"] == "refused"
    assert "invalid_grant" in token["error"]
    identity.behaviour.lives = None
    by_code(relay, identity)
    assert sink.wait_for("revoked@customer.example").login == f"code@{DOMAIN}"


def test_mail_waits_while_the_provider_is_away_and_goes_when_it_is_back(
    relay: Relay, identity: IdentityServer, sink: Sink
) -> None:
    set_client_secret(relay, RIGHT)
    identity.stop()
    assert "queued as" in submit(relay, "own", "away@customer.example")

    def reason() -> str:
        return next((one["reason"] for one in relay.ask("queue", "list") if one["state"] == "queued"), "")

    wait_until(lambda: reason().startswith("temporary: ") and "does not answer" in reason(), "an attempt")
    assert token_of(relay, f"own/own@{DOMAIN}")["state"] == "delayed"
    assert relay.ask("status")["accounts_held"] == []
    identity.start()
    wait_until(lambda: relay.ask("queue", "list") == [], "delivery", 60)
    assert sink.wait_for("away@customer.example").login == f"own@{DOMAIN}"


def test_a_rotated_refresh_token_is_good_after_a_restart(relay: Relay, identity: IdentityServer, sink: Sink) -> None:
    identity.behaviour.lives = -30
    by_code(relay, identity)
    identity.behaviour.lives = None
    submit(relay, "code", "before@customer.example")
    sink.wait_for("before@customer.example")
    identity.behaviour.lives = -30
    relay.stop()
    relay.start()
    submit(relay, "code", "restarted@customer.example")
    assert sink.wait_for("restarted@customer.example").login == f"code@{DOMAIN}"
    assert identity.asked == ["authorization_code", "refresh_token"]


def test_it_works_without_a_running_relay(relay: Relay, identity: IdentityServer, sink: Sink) -> None:
    relay.stop()
    assert by_code(relay, identity).status == 0
    relay.start()
    assert submit(relay, "code", "offline@customer.example").startswith("250 2.0.0 Ok: delivered"), relay.last_words


def test_what_a_person_can_get_wrong_is_told(relay: Relay, identity: IdentityServer) -> None:
    def paste(redirect: Callable[[str], str]) -> Finished:
        return authorize(relay, "channel", "code", lambda lines: redirect(lines[0]), "--redirect-stdin")

    user = f"code@{DOMAIN}"
    assert "its state differs" in paste(lambda url: identity.allow_in_browser(url, user) + "x").err
    assert "copy the whole of it" in paste(lambda url: url).err
    assert "access_denied" in paste(lambda url: identity.allow_in_browser(url, user, allows=False)).err
    assert token_of(relay, f"code/{user}")["state"] == "missing"
    refused = authorize(relay, "channel", "device", lambda lines: identity.allow_device(lines[1], "x", allows=False))
    assert (refused.status, "access_denied" in refused.err) == (1, True)
    other = by_code(relay, identity, "jo@else.example")
    assert other.status == 0
    assert "it was jo@else.example who allowed it" in other.err
    assert (
        "relay channel authorize code"
        in relay.command("channel", "password", "code", "--password-stdin", data=RIGHT + "\n").err
    )
