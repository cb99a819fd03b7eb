"""Who may send what through submit.sock."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from relay.config.settings import Listener, Settings
from relay.listener.sockets import own_socket, places_of

OWN_UID = 998
NOBODY_ELSE = {"0": ("*",), "998": ("*",)}
OFFICE = (IPv4Network("10.1.0.0/16"),)


def own(*listeners: dict[str, Any]) -> Listener | None:
    rows = tuple(Listener(name=str(number), **keys) for number, keys in enumerate(listeners))
    settings = Settings(runtime_dir="/run/relay", listeners=rows)
    return own_socket(settings, OWN_UID, places_of(settings))


@pytest.mark.parametrize(
    ("listeners", "may_send_as", "users"),
    [
        ([{}], ("*",), {}),
        ([{"may_send_as": ("support",)}], ("support",), {}),
        ([{"trusted_networks": (IPv6Network("::1/128"),), "may_send_as": ("a",)}], ("a",), {}),
        # The first that trusts loopback decides.
        ([{"trusted_networks": OFFICE}, {"may_send_as": ("a",)}, {"may_send_as": ("b",)}], ("a",), {}),
        ([{"auth": "required"}, {"auth": "none", "may_send_as": ("b",)}], ("b",), {}),
        # None does.
        ([{"auth": "required"}], ("*",), NOBODY_ELSE),
        ([{"trusted_networks": OFFICE, "may_send_as": ("a",)}], ("*",), NOBODY_ELSE),
        ([{"trusted_networks": ()}], ("*",), NOBODY_ELSE),
        # Another unix socket says nothing about loopback.
        ([{"address": "unix:/run/other.sock", "may_send_as": ("a",)}], ("*",), NOBODY_ELSE),
    ],
)
def test_local_users_may_do_what_loopback_may(
    listeners: list[dict[str, Any]], may_send_as: tuple[str, ...], users: dict[str, tuple[str, ...]]
) -> None:
    found = own(*listeners)
    assert found is not None
    assert (found.name, found.address) == ("submit", "unix:/run/relay/submit.sock")
    assert (found.may_send_as, found.users, found.auth) == (may_send_as, users, "optional")


def test_a_listener_on_that_path_has_rules_of_its_own() -> None:
    assert own({}, {"address": "unix:/run/relay/submit.sock"}) is None
    assert own({"address": f"unix:{Path('/run/relay')}/other.sock"}) is not None
