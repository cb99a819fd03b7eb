"""The first administrator's link: shown at a terminal, or asked for, while nobody may change anything; in no log."""

import os
import re
import threading

from tests.peers.fixtures import StartRelay
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import free_port, wait_until
from tests.peers.visitor import Visitor

LINK = re.compile(r"(http://\S+/welcome/[\w-]{43})\r?$", re.MULTILINE)


def with_pages(port: int) -> dict[str, dict[str, str]]:
    return {"web": {"address": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{port}/"}}


def asked(relay: Relay) -> str:
    done = relay.command("admin", "link")
    assert done.status == 0, done.text
    (link,) = LINK.findall(done.out)
    return str(link)


def test_who_asks_has_a_link_until_there_is_an_administrator(start_relay: StartRelay) -> None:
    port = free_port()
    relay = start_relay(one_channel(open_server(free_port())), with_pages(port))
    first = asked(relay)
    assert first.startswith(f"http://127.0.0.1:{port}/welcome/")
    assert asked(relay) != first
    assert "<code>relay admin link</code>" in Visitor(f"http://127.0.0.1:{port}").get("/sign-in").text
    assert relay.command("admin", "add", "ada", "--password-stdin", data="geheim-geheim").status == 0
    refused = relay.command("admin", "link")
    assert refused.status == 1
    assert "there is an administrator already" in refused.err
    relay.stop()
    assert "/welcome/" not in relay.log


def test_without_a_running_relay_a_link_can_be_made_for_its_start() -> None:
    port = free_port()
    with relay_process(one_channel(open_server(free_port())), with_pages(port), starts=False) as relay:
        assert asked(relay).startswith(f"http://127.0.0.1:{port}/welcome/")


def test_without_pages_there_is_no_link(start_relay: StartRelay) -> None:
    relay = start_relay(one_channel(open_server(free_port())))
    refused = relay.command("admin", "link")
    assert refused.status == 1
    assert "the web pages are turned off" in refused.err


def test_a_terminal_is_shown_the_link() -> None:
    ours, theirs = os.openpty()
    said = bytearray()

    def listen() -> None:
        try:
            while octets := os.read(ours, 4096):
                said.extend(octets)
        except OSError:  # the other end is closed
            pass

    with relay_process(one_channel(open_server(free_port())), with_pages(free_port()), starts=False) as relay:
        relay.pass_fds = (theirs,)
        listener = threading.Thread(target=listen)
        listener.start()
        relay.start("env", "TERM=xterm", "sh", "-c", f'exec "$@" 2>/proc/self/fd/{theirs}', "sh")
        os.close(theirs)
        wait_until(lambda: LINK.search(said.decode()), "the link at the terminal")
        relay.stop()
        listener.join()
    os.close(ours)
