"""Which settings change while a relay runs, and which wait for a restart."""

from dataclasses import replace
from pathlib import Path

import pytest

from relay.app.reload import keys_for_restart, merged
from relay.config.settings import Delivery, Limits, Listener, Settings, Tls, Web, load_settings
from tests.unit.config.settings_kit import EVERYTHING

LAN = Listener(name="lan", address="192.0.2.1:587", security="starttls", auth="required")
PAIR = Tls(certificate="/etc/relay/chain.pem", key="/etc/relay/key.pem")


def test_what_needs_a_restart_is_what_is_open_or_bound_to_files() -> None:
    assert set(keys_for_restart()) == {
        *("hostname", "state_dir", "runtime_dir", "directory", "store", "store_password_from", "node", "workers"),
        *("listener.name", "listener.address", "secrets.master_key", "web.address", "web.proxy_networks"),
    }


def test_the_same_settings_change_nothing() -> None:
    found = merged(Settings(), Settings())
    assert (found.settings, found.changed, found.waiting) == (Settings(), (), ())


def test_what_may_change_does_and_the_rest_stays() -> None:
    new = Settings(
        hostname="mail.acmejets.example",
        delivery=Delivery(patience=5.0, retry=(60.0,)),
        limits=Limits(connections=7),
        web=Web(address="", public_url="https://relay.acmejets.example"),
    )
    found = merged(Settings(), new)
    assert found.settings == replace(new, hostname="", web=replace(new.web, address="127.0.0.1:8025"))
    assert found.changed == ("delivery.patience", "delivery.retry", "limits.connections", "web.public_url")
    assert found.waiting == ("hostname", "web.address")


def test_what_waits_is_named_again_at_every_reload() -> None:
    new = Settings(state_dir=Path("/srv/relay"), limits=Limits(recipients=7))
    once = merged(Settings(), new)
    again = merged(once.settings, new)
    assert (again.changed, again.waiting) == ((), ("state_dir",))


def test_a_listener_at_its_address_takes_new_rules() -> None:
    before = Settings(listeners=(Listener(), LAN), tls=PAIR)
    after = replace(before, listeners=(replace(LAN, may_send_as=("support",), auth="optional"), Listener()))
    found = merged(before, after)
    assert found.settings.listeners == (Listener(), after.listeners[0]), "their order is that of the open ones"
    assert (set(found.changed), found.waiting) == ({"listener.lan.auth", "listener.lan.may_send_as"}, ())


@pytest.mark.parametrize(
    ("listeners", "waiting"),
    [
        ([Listener()], {"listener.lan"}),
        ([Listener(), LAN, replace(LAN, name="wan", address="192.0.2.2:587")], {"listener.wan"}),
        ([Listener(), replace(LAN, name="wan")], {"listener.lan", "listener.wan"}),
        (
            [Listener(), replace(LAN, address="192.0.2.9:587", auth="none")],
            {"listener.lan.address", "listener.lan.auth"},
        ),
    ],
    ids=["gone", "come", "named anew", "moved"],
)
def test_a_listener_that_comes_goes_or_moves_waits_as_a_whole(listeners: list[Listener], waiting: set[str]) -> None:
    before = Settings(listeners=(Listener(), LAN), tls=PAIR)
    found = merged(before, replace(before, listeners=tuple(listeners)))
    assert found.settings == before
    assert (found.changed, set(found.waiting)) == ((), waiting)


def test_an_open_listener_keeps_the_certificate_that_it_needs() -> None:
    before = Settings(listeners=(Listener(), LAN), tls=PAIR)
    found = merged(before, Settings(limits=Limits(recipients=7)))
    assert found.settings == replace(before, limits=Limits(recipients=7))
    assert found.changed == ("limits.recipients",)
    assert set(found.waiting) == {"listener.lan", "tls.certificate", "tls.key"}


def test_a_listener_that_is_plain_from_now_on_needs_none() -> None:
    before = Settings(listeners=(Listener(), LAN), tls=PAIR)
    after = Settings(listeners=(Listener(), replace(LAN, security="none")))
    assert merged(before, after).settings == after


def test_every_key_of_the_example_either_changes_or_waits(tmp_path: Path) -> None:
    """Whatever the file says of a key that is set, a reload takes note of it."""
    file = tmp_path / "relay.toml"
    file.write_text(EVERYTHING.format(folder=tmp_path))
    before, after = Settings(), load_settings(file, {})
    found = merged(before, after)
    keys = {key.replace("listener.local.", "listener.") for key in (*found.changed, *found.waiting)}
    assert keys >= EVERY_KEY
    assert {key.replace("listener.local.", "listener.") for key in found.waiting} <= set(keys_for_restart())


EVERY_KEY = {
    *("hostname", "state_dir", "runtime_dir", "directory", "store", "tls.certificate", "tls.key"),
    *(
        "policy.unknown_sender",
        "policy.from_mismatch",
        "secrets.master_key",
        "web.address",
        "web.public_url",
        "web.proxy_networks",
    ),
    *("dns.servers", "log.format", "log.level", "log.keep_messages"),
    *(f"listener.{key}" for key in ("security", "auth", "trusted_networks", "may_send_as")),
    *(f"listener.{key}" for key in ("proxy_protocol", "proxy_networks")),
    *(f"delivery.{key}" for key in ("mode", "patience", "retry", "warn_after", "give_up_after", "probe", "unknown")),
    *(f"delivery.{key}" for key in ("unknown_pause", "connect_timeout", "reply_timeout", "free_space")),
    *(f"limits.{key}" for key in ("message_size", "recipients", "connections", "connections_per_client")),
    *("limits.login_failures", "limits.memory_per_message"),
}
