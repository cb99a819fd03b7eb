"""Settings from the environment: every key, what counts before what, and the sentence for what is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.config.faults import Faults
from relay.config.settings import LISTS, as_table, load_settings, where_from
from tests.peers.rows import each_row
from tests.unit.config.settings_kit import EVERYTHING


def written(folder: Path, text: str) -> Path:
    file = folder / "relay.toml"
    file.write_text(text)
    return file


def faults(path: Path | None, environ: dict[str, str]) -> list[str]:
    with pytest.raises(Faults) as caught:
        load_settings(path, environ)
    return [str(fault) for fault in caught.value.faults]


def variables(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every value of a table as a variable."""
    for key, value in table.items():
        if key in LISTS.values():
            for number, entry in enumerate(value):
                for inner, one in entry.items():
                    yield f"RELAY_{key.upper()}__{number}__{inner.upper()}", text(one)
        elif isinstance(value, dict):
            for inner, one in value.items():
                yield f"RELAY_{key.upper()}__{inner.upper()}", text(one)
        else:
            yield f"RELAY_{key.upper()}", text(value)


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_every_key_can_come_from_the_environment(tmp_path: Path) -> None:
    of_file = load_settings(written(tmp_path, EVERYTHING.format(folder=tmp_path)), {})
    environ = dict(variables(as_table(of_file)))
    assert len(environ) > 40
    assert load_settings(None, environ) == of_file


def test_the_environment_counts_before_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, '[delivery]\nmode = "queued"\npatience = "1s"\n[[listener]]\naddress = "127.0.0.1:1"\n')
    environ = {
        "RELAY_DELIVERY__MODE": "direct",
        "RELAY_LIMITS__CONNECTIONS": "7",
        "RELAY_LISTENER__0__ADDRESS": "0.0.0.0:2525",
        "RELAY_LISTENER__1__NAME": "lan",
        "RELAY_LISTENER__1__ADDRESS": "0.0.0.0:2526",
        "RELAY_LISTENER__1__TRUSTED_NETWORKS": '["10.0.0.0/8"]',
        "RELAY_CONFIG": "/somewhere",
        "RELAY_LOG": "anybody's",
        "RELAYED": "x",
    }
    settings = load_settings(file, environ)
    assert (settings.delivery.mode, settings.delivery.patience, settings.limits.connections) == ("direct", 1.0, 7)
    assert [one.address for one in settings.listeners] == ["0.0.0.0:2525", "0.0.0.0:2526"]
    assert str(settings.listeners[1].trusted_networks[0]) == "10.0.0.0/8"
    origins = where_from(file, environ)
    assert origins["delivery", "mode"] == "RELAY_DELIVERY__MODE"
    assert origins["listener", 0, "address"] == "RELAY_LISTENER__0__ADDRESS"
    assert ("delivery", "patience") not in origins


def test_a_whole_list_is_json_and_its_entries_count_before_it() -> None:
    environ = {
        "RELAY_LISTENER": '[{"name": "a", "address": "127.0.0.1:1"}, {"name": "b", "address": "127.0.0.1:2"}]',
        "RELAY_LISTENER__1__ADDRESS": "127.0.0.1:3",
    }
    assert [one.address for one in load_settings(None, environ).listeners] == ["127.0.0.1:1", "127.0.0.1:3"]


@each_row(
    ("name", "value", "said"),
    [
        ("RELAY_DELIVERY__MOED", "auto", "there is no key 'moed' in delivery; did you mean 'mode'?"),
        ("RELAY_DELIVRY__MODE", "auto", "there is no section 'delivry' in relay.toml; did you mean 'delivery'?"),
        ("RELAY_DELIVERY__MODE__X", "auto", "there is no key 'mode__x' in delivery; did you mean 'mode'?"),
        ("RELAY_HOSTNAME__X", "a", "there is no key 'x' in hostname; remove it"),
        ("RELAY_LISTENER__ADDRESS", "a", "'listener' is a list; write its number behind it: RELAY_LISTENER__0__…"),
        ("RELAY_LISTENER__7__NAME", "a", "there is no entry 7 to change, nor the one before it; number them from 0"),
        ("RELAY_DNS__SERVERS", "127.0.0.1:53", 'a list or a table is written as JSON here, such as ["a", "b"]'),
        (
            "RELAY_DELIVERY__MODE",
            "quick",
            "delivery.mode: 'quick' is not 'auto', 'direct' or 'queued'",
        ),
        ("RELAY_DELIVERY__PATIENCE", "5", "delivery.patience: "),
        ("RELAY_LISTENER__0__PROXY_PROTOCOL", "yes", "listener #1.proxy_protocol: 'yes' is neither true nor false"),
        ("RELAY_STORE", "postgres://u:hunter2@h/d", "store: this names no store"),
        ("RELAY_WORKERS", "0", "workers: 0 is no number of processes"),
    ],
)
def test_what_is_wrong_names_its_variable(name: str, value: str, said: str) -> None:
    (fault,) = faults(None, {name: value})
    assert fault.startswith(f"{name}: {said}")
    assert "hunter2" not in fault


def test_what_is_wrong_in_the_file_names_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "[limits]\nconnections = -1\n")
    assert faults(file, {"RELAY_DELIVERY__MODE": "direct"}) == [
        f"{file}: limits.connections: -1 is too small; the least is 1"
    ]
