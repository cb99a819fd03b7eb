"""`relay config show` says which settings the environment says, and `relay check` what is wrong with them."""

import tomllib

import pytest

from tests.unit.cli.cli_kit import CommandLine


def test_what_comes_from_the_environment_is_marked(relay: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_DELIVERY__MODE", "queued")
    monkeypatch.setenv("RELAY_LISTENER__0__NAME", "door")
    shown = relay.good("config", "show")
    assert 'mode = "queued"  # RELAY_DELIVERY__MODE\n' in shown
    assert 'name = "door"  # RELAY_LISTENER__0__NAME\n' in shown
    assert shown.count("# RELAY_") == 2
    assert tomllib.loads(shown)["delivery"]["mode"] == relay.ask("config", "show")["delivery"]["mode"] == "queued"


def test_a_bad_variable_is_a_fault_with_its_name(relay: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_DELIVERY__MOED", "queued")
    done = relay("check")
    assert done.code == 1
    assert "RELAY_DELIVERY__MOED: there is no key 'moed' in delivery; did you mean 'mode'?" in done.out + done.err
