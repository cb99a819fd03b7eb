"""Who a client is before any login: row by row."""

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from relay.listener.peer import Gate

LAN = Gate(
    (IPv4Network("127.0.0.0/8"), IPv4Network("10.1.0.0/16"), IPv6Network("fe80::/10")), ("support", "group:sales")
)


@pytest.mark.parametrize(
    ("peername", "name", "is_trusted"),
    [
        (("127.0.0.1", 4711), "127.0.0.1", True),
        (("10.1.255.3", 1), "10.1.255.3", True),
        (("10.2.0.1", 1), "10.2.0.1", False),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1", True),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1", False),
        (("::ffff:10.1.0.9", 1, 0, 0), "10.1.0.9", True),
        # A TCP client that was gone before it was asked for its name, or a name as unix sockets have it.
        (None, "unknown", False),
        ("", "unknown", False),
        ((), "unknown", False),
    ],
)
def test_a_tcp_client(peername: Any, name: str, is_trusted: bool) -> None:
    client = LAN.client_of(peername)
    assert (client.name, client.peer, client.is_trusted) == (name, name, is_trusted)
    assert client.may_send_as == (("support", "group:sales") if is_trusted else ())


@pytest.mark.parametrize("peername", ["", b"", None, "/run/client.sock"])
def test_a_client_of_a_unix_socket(peername: Any) -> None:
    client = Gate((), ("*",), is_unix=True).client_of(peername)
    assert (client.name, client.peer, client.is_trusted, client.may_send_as) == ("unix", "unix", True, ("*",))
