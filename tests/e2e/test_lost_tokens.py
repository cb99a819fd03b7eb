"""Access tokens while PostgreSQL is lost: one that is good is used, and none is renewed that could not be kept."""

import pytest

from tests.e2e import oauth_kit as oauth
from tests.e2e.ledger import sees_store
from tests.e2e.lost_database import (
    BROKEN,
    Place,
    stopped,
)
from tests.peers import postgres as peer
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.oidc import IdentityServer
from tests.peers.relay import Relay
from tests.peers.sink import Sink
from tests.peers.system import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("dovecot", "submission", *peer.NEEDS)]
DELIVERED = "250 2.0.0 Ok: delivered"


@pytest.fixture
def relay(
    place: Place,
    start_relay: StartRelay,
    identity: IdentityServer,
    dovecot: Dovecot,
    certificates: Certificates,
) -> Relay:
    settings = {**oauth.QUICK, "store": place.url}
    return start_relay(oauth.directory(identity, dovecot, certificates), settings)


def restart(relay: Relay) -> None:
    """So that it has used no token yet."""
    relay.stop()
    relay.log_file.unlink()
    relay.start()
    wait_until(lambda: "all secrets are in memory" in relay.log, "all secrets")


def send(relay: Relay, name: str) -> str:
    return oauth.submit(relay, "code", f"{name}@customer.example")


def test_a_token_that_is_good_is_used_and_its_successor_waits_for_the_database(
    relay: Relay,
    place: Place,
    identity: IdentityServer,
    sink: Sink,
) -> None:
    assert oauth.by_code(relay, identity).status == 0
    restart(relay)
    with stopped(place):
        assert send(relay, "good").startswith(DELIVERED), relay.last_words
    assert sink.wait_for("good@customer.example").login == f"code@{oauth.DOMAIN}"
    assert identity.asked == ["authorization_code"]

    wait_until(lambda: sees_store(relay), "the store")
    identity.behaviour.seconds = 40
    assert oauth.by_code(relay, identity).status == 0
    identity.behaviour.seconds = 3600
    restart(relay)
    with stopped(place):
        assert send(relay, "last").startswith(DELIVERED)
        wait_until(lambda: not send(relay, "over").startswith(DELIVERED), "the end of the token", 70)
        assert send(relay, "refused") == BROKEN
        assert identity.asked == ["authorization_code"] * 2, "nothing was spent"
    assert_recovered(relay, identity, sink)
    assert not relay.ask("status")["accounts_held"]


def test_a_token_that_the_server_refuses_is_not_renewed_either(
    relay: Relay,
    place: Place,
    identity: IdentityServer,
    sink: Sink,
) -> None:
    identity.behaviour.lives = -30  # the provider says an hour, and the server finds it expired
    assert oauth.by_code(relay, identity).status == 0
    identity.behaviour.lives = None
    restart(relay)
    with stopped(place):
        assert send(relay, "refused") == BROKEN
        assert identity.asked == ["authorization_code"]
    assert_recovered(relay, identity, sink)
    assert not relay.ask("status")["accounts_held"]


def assert_recovered(relay: Relay, identity: IdentityServer, sink: Sink) -> None:
    """The same refresh token is good, and is spent once."""
    wait_until(lambda: send(relay, "again").startswith(DELIVERED), "mail by the next token", 30)
    assert sink.wait_for("again@customer.example").login == f"code@{oauth.DOMAIN}"
    assert identity.asked.count("refresh_token") == 1
    wait_until(lambda: sees_store(relay), "the store")
