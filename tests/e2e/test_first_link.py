"""The first administrator's link: printed by a relay with pages as long as there is nobody who may change anything."""

import re

from tests.peers.fixtures import StartRelay
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import free_port, wait_until

LINK = re.compile(r"^there is no administrator yet; .*: (http://\S+/welcome/[\w-]{43})$", re.MULTILINE)


def links(relay: Relay) -> list[str]:
    return LINK.findall(relay.log)


def test_each_start_prints_a_new_link_until_there_is_an_administrator(start_relay: StartRelay) -> None:
    port = free_port()
    web = {"address": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{port}/"}
    relay = start_relay(one_channel(open_server(free_port())), {"web": web})
    wait_until(lambda: len(links(relay)) == 1, "the first link")
    assert links(relay)[0].startswith(f"http://127.0.0.1:{port}/welcome/")
    relay.stop()
    relay.start()
    wait_until(lambda: len(links(relay)) == 2, "the link of the second start")
    assert len(set(links(relay))) == 2
    assert relay.command("admin", "add", "ada", "--password-stdin", data="geheim-geheim").status == 0
    relay.stop()
    relay.start()
    assert relay.command("status").status == 0
    relay.stop()
    assert len(links(relay)) == 2


def test_without_pages_there_is_no_link(start_relay: StartRelay) -> None:
    relay = start_relay(one_channel(open_server(free_port())))
    relay.stop()
    assert links(relay) == []
