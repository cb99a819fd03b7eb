"""Who a client is before any login: row by row."""

import os
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest

from relay.config.settings import Listener
from relay.listener import client_identity
from relay.listener.client_identity import ClientRules, Origin, canonical
from relay.system import peer_credentials

LAN = ClientRules(
    Listener(
        trusted_networks=(IPv4Network("127.0.0.0/8"), IPv4Network("10.1.0.0/16"), IPv6Network("fe80::/10")),
        may_send_as=("support", "group:sales"),
    )
)
NAMES = {0: "root", 33: "www-data", 1001: "1000"}


@pytest.fixture(autouse=True)
def _users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_identity, "user_name", lambda uid: NAMES.get(uid, ""))


@pytest.mark.parametrize(
    ("address", "name", "is_trusted"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("10.1.255.3", "10.1.255.3", True),
        ("10.2.0.1", "10.2.0.1", False),
        ("fe80::1", "fe80::1", True),
        ("2001:db8::1", "2001:db8::1", False),
        ("", "unknown", False),
    ],
)
@pytest.mark.parametrize("is_proxied", [False, True])
def test_a_tcp_client(address: str, name: str, is_trusted: bool, is_proxied: bool) -> None:
    origin = Origin(ip_address(address) if address else None, is_proxied=is_proxied)
    client = LAN.client_of(origin)
    assert (client.name, client.peer, client.is_trusted) == (name, name, is_trusted)
    assert client.may_send_as == (("support", "group:sales") if is_trusted else ())
    assert client.may_submit is is_trusted


def test_an_ipv4_client_of_a_socket_for_both_families() -> None:
    assert canonical(IPv6Address("::ffff:10.1.0.9")) == IPv4Address("10.1.0.9")
    assert canonical(IPv6Address("2001:db8::1")) == IPv6Address("2001:db8::1")


@pytest.mark.parametrize(("uid", "name"), [(0, "root"), (4711, "uid 4711")])
def test_every_user_of_a_unix_socket_may_send_where_none_is_named(uid: int, name: str) -> None:
    client = ClientRules(Listener(may_send_as=("support",))).client_of(Origin(uid=uid))
    assert (client.name, client.peer, client.may_send_as) == (name, "unix", ("support",))
    assert client.may_submit


@pytest.mark.parametrize(
    ("uid", "may_send_as"),
    [
        (33, ("support", "sales")),  # by name and by number
        (1000, ("*",)),
        (1001, None),  # whose name is "1000"
        (0, None),
    ],
)
def test_only_the_named_users_of_a_unix_socket_may_send(uid: int, may_send_as: tuple[str, ...] | None) -> None:
    users = {"www-data": ("sales",), "33": ("support",), "1000": ("*",)}
    client = ClientRules(Listener(users=users)).client_of(Origin(uid=uid))
    assert (client.is_trusted, client.may_submit) == (may_send_as is not None,) * 2
    assert client.may_send_as == (may_send_as or ())


@pytest.mark.parametrize("origin", [Origin(ip_address("127.0.0.1")), Origin(uid=0)])
def test_where_logins_are_required_the_trusted_need_one_too(origin: Origin) -> None:
    client = ClientRules(Listener(auth="required")).client_of(origin)
    assert (client.is_trusted, client.may_submit) == (True, False)


@pytest.mark.parametrize(
    ("origin", "is_tls", "may"),
    [
        (Origin(ip_address("127.0.0.1")), False, True),
        (Origin(ip_address("::1")), False, True),
        (Origin(uid=4711), False, True),
        (Origin(ip_address("10.1.0.9")), False, False),
        (Origin(ip_address("10.1.0.9")), True, True),
        (Origin(), False, False),
        # A proxy knows who its client is, and nobody knows what lies between them.
        (Origin(ip_address("127.0.0.1"), is_proxied=True), False, False),
        (Origin(ip_address("127.0.0.1"), is_proxied=True), True, True),
    ],
)
def test_where_a_password_may_travel(origin: Origin, is_tls: bool, may: bool) -> None:
    assert LAN.may_log_in(origin, is_tls=is_tls) is may
    assert not ClientRules(Listener(auth="none")).may_log_in(origin, is_tls=is_tls)


def test_whose_proxy_header_is_believed() -> None:
    networks = (IPv4Network("10.1.0.0/16"),)
    rules = ClientRules(Listener(proxy_protocol=True, proxy_networks=networks))
    assert rules.is_proxy(Origin(ip_address("10.1.0.9")))
    assert not rules.is_proxy(Origin(ip_address("127.0.0.1")))
    assert not rules.is_proxy(Origin(uid=0))
    assert not ClientRules(Listener(proxy_networks=networks)).is_proxy(Origin(ip_address("10.1.0.9")))


def test_what_the_system_calls_a_user() -> None:
    assert peer_credentials.user_name(0) == "root"
    assert peer_credentials.user_name(2**31 - 7) == ""
    assert peer_credentials.user_name(os.geteuid())
