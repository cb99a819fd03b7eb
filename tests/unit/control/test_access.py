"""Who may run what: an administrator everything, a viewer looks, an agent has the own profile alone."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from relay.control.actor import Actor, Role, Way
from relay.control.operation import Access, Operation
from relay.control.refused import Conflict, Forbidden, NotFound, Refused
from tests.peers.rows import each_row
from tests.unit.control.control_kit import ADMINISTRATOR, AdminOperations

VIEWER = Actor(name="vera", role=Role.VIEWER, way=Way.PAGE)
JANE = Actor(name="jane", role=Role.AGENT, way=Way.PAGE)
OWN = {
    "agent.show",
    "agent.password",
    "agent.login",
    "agent.test",
    "agent.authorize",
    "agent.authorized",
    "agent.messages",
    "agent.message",
    "agent.sending",
}
# What changes nothing in Relay, and yet sends, connects or gives away what is not for everybody's eyes.
ACTS = {
    "webhook.test",
    "alert.test",
    "server.test",
    "server.try",
    "channel.test",
    "channel.try",
    "agent.test",
    "agent.try",
    "doctor",
    "queue.export",
    "secrets.list",
    "store.check",
    "store.copy",
}
ACTS |= {"channel.import", "agent.import", "moving.import", "directory.import", "directory.export"}
ACTS |= {"channel.passwords-try", "agent.passwords-try"}
ACTS |= {f"{noun}.{verb}" for noun in ("server", "channel", "agent") for verb in ("authorize", "authorized")}


async def test_an_agent_may_run_nothing_but_its_own(operations: AdminOperations) -> None:
    own = {name for name in operations.names if operations.allows(name, {"name": "jane"}, JANE)}
    assert own == OWN
    assert not any(operations.allows(name, {"name": "joe"}, JANE) for name in operations.names)
    assert not any(operations.allows(name, {}, JANE) for name in operations.names)
    assert not any(operations.allows(name, {"name": ["jane"]}, JANE) for name in operations.names)


async def test_a_viewer_looks_at_everything_and_changes_and_sends_nothing(operations: AdminOperations) -> None:
    for name in operations.names:
        expected = not operations.is_change(name) and name not in ACTS
        assert operations.allows(name, {"name": "vera"}, VIEWER) is expected, name
        assert operations.allows(name, {}, ADMINISTRATOR)


async def test_who_may_not_is_refused_before_anything_is_done(operations: AdminOperations, tmp_path: Path) -> None:
    before = (tmp_path / "state/directory.toml").read_bytes()
    with pytest.raises(Forbidden, match="a viewer may look at everything"):
        await operations.run("agent.remove", {"name": "jane"}, VIEWER)
    with pytest.raises(Forbidden, match="with your own profile alone"):
        await operations.run("agent.show", {"name": "joe"}, JANE)
    with pytest.raises(Forbidden):
        [item async for item in operations.stream("queue.list", {}, JANE)]
    assert (tmp_path / "state/directory.toml").read_bytes() == before
    assert (await operations.run("agent.show", {"name": "jane"}, JANE))["name"] == "jane"
    own = {"name": "jane", "password": "x", "unchecked": True}
    assert (await operations.run("agent.password", own, JANE))["ok"] is True


@pytest.mark.parametrize(
    ("operation", "viewer", "agent"),
    [
        (Operation(print), True, False),
        (Operation(print, is_change=True), False, False),
        (Operation(print, access=Access.ADMIN), False, False),
        (Operation(print, access=Access.OWN), False, True),
        (Operation(print, is_change=True, access=Access.OWN), False, True),
        (Operation(print, access=Access.OWN_READ), True, True),
    ],
)
def test_the_rule_itself(operation: Operation, viewer: bool, agent: bool) -> None:
    assert operation.allows(ADMINISTRATOR, {})
    assert operation.allows(VIEWER, {"name": "vera"}) is viewer
    assert operation.allows(JANE, {"name": "jane"}) is agent
    assert not operation.allows(JANE, {"name": "joe"})


@each_row(
    ("name", "params", "kind", "key"),
    [
        ("channel.show", {"name": "supprt"}, NotFound, ""),
        ("channel.set", {"name": "supprt", "changes": ["mode=auto"]}, NotFound, ""),
        ("queue.show", {"id": "aaaaaaaaaa"}, NotFound, ""),
        ("account.release", {"account": "x/y"}, NotFound, ""),
        ("script.remove", {"name": "default"}, NotFound, ""),
        ("token.remove", {"name": "ci"}, NotFound, "name"),
        ("admin.remove", {"name": "ada"}, NotFound, "name"),
        ("channel.set", {"name": "support", "changes": ["modus=auto"]}, Refused, "modus"),
        ("channel.set", {"name": "support", "changes": ["mode=fast"]}, Refused, "channels.support.mode"),
        ("channel.set", {"name": "support", "values": {"password": "geheim"}}, Refused, "password"),
        ("channel.set", {"name": "support", "values": {"aliases": [None]}}, Refused, "aliases"),
        ("channel.set", {"name": "support", "values": {}, "expected": "old"}, Conflict, ""),
        ("channel.list", {"sort": "colour"}, Refused, "sort"),
        ("channel.show", {"name": "\ud800"}, Refused, "name"),
        ("messages.list", {"since": "today"}, Refused, "since"),
        ("messages.page", {"state": "lost"}, Refused, "state"),
        ("agent.login", {"name": "jane", "password": "short"}, Refused, "password"),
        ("server.password", {"name": "other", "password": "two\nlines"}, Refused, "password"),
        ("server.test", {"name": "other", "to": "a@"}, Refused, "to"),
        ("agent.test", {"name": "jane", "to": "a@b\r\nDATA"}, Refused, "to"),
        ("server.try", {"values": {"host": "h"}, "to": "nobody"}, Refused, "to"),
        ("route", {"sender": "a@"}, Refused, "sender"),
        ("route", {"sender": "jane@acmejets.example", "login": "joe"}, Refused, "login"),
    ],
)
async def test_a_refusal_says_of_which_kind_it_is_and_which_key_is_at_fault(
    operations: AdminOperations, name: str, params: dict[str, Any], kind: type[Refused], key: str
) -> None:
    with pytest.raises(kind) as caught:
        await (anext(operations.stream(name, params)) if operations.is_stream(name) else operations.run(name, params))
    assert caught.value.key == key
    assert "geheim" not in str(caught.value)


async def test_several_faults_are_told_by_their_keys(operations: AdminOperations) -> None:
    with pytest.raises(Refused) as caught:
        await operations.run("channel.set", {"name": "support", "changes": ["modus=auto", "override=perhaps"]})
    assert [fault.key for fault in caught.value.faults] == ["modus", "override"]
    assert re.search("neither true nor false", caught.value.faults[1].message)
    with pytest.raises(Refused) as caught:
        await operations.run("channel.set", {"name": "support", "values": {"mode": "fast", "override": 3}})
    assert {fault.key for fault in caught.value.faults} == {"channels.support.mode", "channels.support.override"}


def test_what_an_operation_returns_is_a_dataclass_and_never_a_bare_object(operations: AdminOperations) -> None:
    """The entries of the directory have keys of their own kinds, and are apart."""
    functions = {name: one.function for name, one in operations._operations.items()}
    told = {name: str(inspect.signature(one).return_annotation) for name, one in functions.items()}
    apart = {name for name, one in functions.items() if ".entries." in one.__module__}
    assert [name for name, words in told.items() if "dict" in words and name not in apart] == []
