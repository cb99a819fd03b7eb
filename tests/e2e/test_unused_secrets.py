"""Passwords that nobody used before PostgreSQL was lost: mail goes on by them, and so do logins at Relay."""

from base64 import b64decode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.e2e.ledger import control, message
from tests.e2e.lost_database import BOUND, LOSSES, Place, named, stopped
from tests.peers import postgres as peer
from tests.peers.canaries import RIGHT, WRONG, canary
from tests.peers.fixtures import StartRelay
from tests.peers.raw import RawClient
from tests.peers.recorder import Conversation, Recorder
from tests.peers.relay import Relay, open_server
from tests.peers.system import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs(*peer.NEEDS)]

CHANNELS = [f"channel{number:02}" for number in range(20)]
WITH_LOGIN = CHANNELS[::4]
# A database that says nothing is waited for at the login, and for the connections of an account.
PATIENCE = 20.0


def directory(port: int) -> dict[str, Any]:
    """Channels, each with an account of its own at one server."""
    server = open_server(port, auth="plain", allow_plaintext_password=True)
    channels = {name: {"address": address(name), "override": True} for name in CHANNELS}
    return {"default_server": "acmejets", "servers": {"acmejets": server}, "channels": channels}


def address(channel: str) -> str:
    return f"{channel}@acmejets.example"


def set_passwords(relay: Relay, channels: list[str]) -> None:
    for name in channels:
        control(relay).run("channel.password", {"name": name, "password": RIGHT})
        if name in WITH_LOGIN:
            control(relay).run("channel.login", {"name": name, "password": canary(name)})


def restart(relay: Relay, workers: int) -> None:
    """So that it has used no password yet; it is to have all all the same."""
    relay.stop()
    relay.log_file.unlink()
    relay.start()
    wait_until(lambda: relay.log.count("all secrets are in memory") == workers, "all secrets in all workers")


def send(relay: Relay, channel: str) -> str:
    """Send a message of a channel, after a login where it has one; return the last reply."""
    with RawClient(relay.endpoint, PATIENCE) as client:
        reply = client.log_in(channel, canary(channel)) if channel in WITH_LOGIN else ""
        if not reply or reply.startswith("235 "):
            reply = client.submit(address(channel), f"{channel}@customer.example", message(channel))
    return reply


def logins(conversations: Sequence[Conversation]) -> dict[str, str]:
    """With which login each message came."""
    found: dict[str, str] = {}
    for conversation in conversations:
        name = ""
        for command in conversation.commands:
            if command.startswith("AUTH PLAIN "):
                _, name, password = b64decode(command.split()[2]).decode().split("\0")
                assert password == RIGHT
            if command.startswith("RCPT"):
                found[command.partition("<")[2].partition("@")[0]] = name
    return found


@pytest.mark.timeout(240)
def test_passwords_that_nobody_used_are_there_while_the_database_is_lost(
    place: Place, start_relay: StartRelay, recorder: Recorder
) -> None:
    """In three ways, one after the other; at each another channel's passwords were set only after the start."""
    relay = start_relay(directory(recorder.port), {"store": place.url, "delivery": {"mode": "auto"}})
    late = dict(zip(("stopped", "frozen", "silent"), WITH_LOGIN, strict=False))
    set_passwords(relay, [name for name in CHANNELS if name != late["stopped"]])
    for loss, channel in late.items():
        with named(loss):
            restart(relay, 1)
            set_passwords(relay, [channel])
            before = len(recorder.conversations)
            with LOSSES[loss](place):
                with ThreadPoolExecutor(10) as pool:
                    replies = dict(zip(CHANNELS, pool.map(partial(send, relay), CHANNELS), strict=True))
                said = {reply.partition(" via ")[0] for reply in replies.values()}
                assert said == {"250 2.0.0 Ok: delivered"}, replies
                assert logins(recorder.conversations[before:]) == {name: address(name) for name in CHANNELS}
                check_that_names_look_alike(relay)


def check_that_names_look_alike(relay: Relay) -> None:
    """A wrong password, one of a channel without a login, and a name that is nobody's."""
    replies = set()
    for name in (WITH_LOGIN[0], CHANNELS[1], "nobody"):
        with RawClient(relay.endpoint, BOUND) as client:
            replies.add(client.log_in(name, WRONG))
    assert replies == {"535 5.7.8 The name or the password is wrong"}


@pytest.mark.timeout(120)
def test_every_worker_knows_who_may_log_in(place: Place, start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(recorder.port), {"store": place.url, "workers": 2})
    set_passwords(relay, WITH_LOGIN)
    restart(relay, 2)
    with stopped(place), ThreadPoolExecutor(10) as pool:
        replies = {name: set(pool.map(partial(login, relay, name), [canary(name)] * 10)) for name in WITH_LOGIN}
        assert replies == {name: {"235"} for name in WITH_LOGIN}
        assert set(pool.map(partial(login, relay, CHANNELS[1]), [canary(CHANNELS[1])] * 4)) == {"535"}


def login(relay: Relay, name: str, password: str) -> str:
    with RawClient(relay.endpoint, BOUND) as client:
        return client.log_in(name, password)[:3]
