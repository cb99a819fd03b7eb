"""A directory that follows the one before says what it would say if it were made of nothing, faults and all."""

import asyncio
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.faults import Faults
from relay.directory import database_storage
from relay.directory.database_storage import DatabaseStorage, Row
from relay.directory.directory import Directory
from relay.directory.document import Document
from relay.directory.edit import add_entry, remove_entry, remove_server, set_entry
from relay.directory.kinds import AGENT, APPLICATION, CHANNEL, SCRIPT, SERVER, set_default
from relay.directory.rules.incremental import TABLES, CheckedDirectory
from relay.directory.rules.validation import parse_directory
from relay.directory.storage import Snapshot
from relay.directory.values import EditRefused
from tests.unit.directory.memory_rows import MemoryRows

pytestmark = pytest.mark.slow

UNREAD = Snapshot(Directory(), None)
START: Mapping[str, Any] = {
    "default_server": "one",
    "servers": {
        "one": {"host": "smtp.one.example", "username": "mailer@acme.example"},
        "two": {"host": "smtp.two.example", "username": "login7", "address": "two@acme.example", "internal": True},
    },
    "channels": {"desk": {"address": "desk@acme.example", "aliases": ["@desk.example", "help@acme.example"]}},
    "agents": {
        "jane": {"address": "Jane@acme.example", "override": True, "group": "red"},
        "Bob": {"address": "bob@acme.example", "server": "two", "group": "blue", "may_send_as": ["group:red", "desk"]},
        "eve@acme.example": {"address": "eve@acme.example"},
    },
    "applications": {"crm": {"may_send_as": ["*"]}},
    "scripts": {"default": {"set_headers": {"X-Desk": "1"}}},
}
# Few of each, so that they often meet.
NAMES = st.sampled_from(["jane", "Jane", "JANE", "Bob", "desk", "crm", "eve@acme.example", "Help@acme.example", "-"])
ADDRESSES = st.sampled_from(
    ["jane@acme.example", "JANE@ACME.example", "bob@acme.example", "help@acme.example", "eve@acme.example", "x@y", "x"]
)
ALIASES = st.one_of(ADDRESSES, st.sampled_from(["@desk.example", "@Desk.example", '""@desk.example', "@a@b"]))
GROUPS = st.sampled_from(["red", "blue", ""])
SENDABLE = st.lists(st.one_of(NAMES, st.sampled_from(["*", "group:red", "group:blue", "group:"])), max_size=2)
FLAGS = st.booleans()
MAILBOX = st.fixed_dictionaries(
    {"host": st.sampled_from(["imap.acme.example", "http://x"])},
    optional={"security": st.sampled_from(["tls", "none"]), "password_from": st.sampled_from(["env:X", "X"])},
)
PROFILE: dict[str, st.SearchStrategy[Any]] = {
    "aliases": st.lists(ALIASES, max_size=2),
    "server": st.sampled_from(["one", "two", "three"]),
    "override": FLAGS,
    "username": st.sampled_from(["me", "\x07"]),
    "alias_identity": st.sampled_from(["keep", "rewrite"]),
    "script": st.sampled_from(["default", "other"]),
    "password": st.just("x"),
    "password_from": st.sampled_from(["env:X", "X"]),
    "incoming": MAILBOX,
    "surprise": st.just(1),
}
OF_SERVERS: dict[str, st.SearchStrategy[Any]] = {
    "username": st.sampled_from(["", "mailer@acme.example"]),
    "address": st.sampled_from(["", "mailer@acme.example", "x"]),
    "internal": FLAGS,
    "auth": st.sampled_from(["none", "auto", "oauth2", "nothing"]),
    "oauth": st.just({"provider": "google", "client_id": "7"}),
    "incoming": MAILBOX,
}
OF_AGENTS = {**PROFILE, "group": GROUPS, "may_send_as": SENDABLE, "full_name": st.sampled_from(["Jane", "Bob"])}
ENTRIES: Mapping[str, st.SearchStrategy[Any]] = {
    "servers": st.fixed_dictionaries({"host": st.sampled_from(["smtp.one.example", "-"])}, optional=OF_SERVERS),
    "channels": st.fixed_dictionaries({"address": ADDRESSES}, optional=PROFILE),
    "agents": st.fixed_dictionaries({"address": ADDRESSES}, optional=OF_AGENTS),
    "applications": st.fixed_dictionaries(
        {}, optional={"may_send_as": SENDABLE, "bounces": NAMES | st.sampled_from(["*", "group:red"])}
    ),
    "scripts": st.fixed_dictionaries({}, optional={"remove_headers": st.lists(st.sampled_from(["X-A", "From"]))}),
    "surprises": st.just({}),
}
PLACES = [(table, name) for table in TABLES for name in START[table]]


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """A row as anybody may have written it: of one key another than before, quite another, gone, or no JSON."""
    if draw(st.integers(0, 19)) == 0:
        return Row("", draw(st.sampled_from(["default_server", "else"])), draw(st.sampled_from(['"two"', "null", "5"])))
    table = draw(st.sampled_from(["agents", "agents", "channels", *ENTRIES]))
    name = draw(st.sampled_from(["one", "two", "three", "default"]) if table in {"servers", "scripts"} else NAMES)
    if draw(st.integers(0, 4)) == 0:
        return Row(table, name, None)
    if draw(st.integers(0, 19)) == 0:
        return Row(table, name, draw(st.sampled_from(["{", "[]", '"x"', "null", ""])))
    entry = draw(ENTRIES[table])
    if table in START and name in START[table] and (keys := sorted(entry)):
        key = draw(st.sampled_from(keys))
        entry = {**START[table][name], key: entry[key]}
    return Row(table, name, json.dumps(entry))


@st.composite
def edits(draw: st.DrawFn) -> Callable[[Document], None]:
    """What a command does."""
    kind, name = draw(st.sampled_from([CHANNEL, AGENT])), draw(NAMES)
    entry = {key: value for key, value in draw(ENTRIES[kind.table]).items() if key != "password"}
    server, other = draw(st.sampled_from(["one", "two", "three"])), draw(st.sampled_from(["one", "two", None]))
    return draw(
        st.sampled_from(
            [
                partial(add_entry, kind=kind, name=name, values=entry),
                partial(set_entry, kind=kind, name=name, values=entry),
                partial(remove_entry, kind=kind, name=name),
                partial(remove_entry, kind=kind, name=name),
                partial(remove_server, name=server, move_to=other),
                partial(set_default, name=server),
                partial(remove_entry, kind=SCRIPT, name="default"),
                partial(set_entry, kind=APPLICATION, name="crm", values={"may_send_as": [name]}),
                partial(remove_entry, kind=APPLICATION, name="crm"),
            ]
        )
    )


STEPS = st.lists(st.one_of(st.lists(rows(), min_size=1, max_size=2), edits(), st.just("mend")), min_size=1, max_size=8)


@given(STEPS)
@settings(max_examples=300)
def test_the_next_one_is_as_one_made_of_nothing(steps: list[Any]) -> None:
    asyncio.run(_take(steps))


def agent(name: str, address: str, **keys: Any) -> Row:
    return Row("agents", name, json.dumps({"address": address, **keys}))


ZOE = agent("zoe@acme.example", "zoe@other.example")
EVE, EVE_TOO = (agent("eve@acme.example", "eve@acme.example", full_name=name) for name in ("Eve", "Eva"))
BOB = agent("Bob", "bob@acme.example")
BAD = Row("applications", "desk", "{}")  # the name of a channel


@pytest.mark.parametrize(
    "steps",
    [
        [[Row("channels", "jane", '{"address": "x@y"}')]],
        [[Row("applications", "jane", "{}")]],
        [[Row("applications", "jane@acme.example", "{}")]],
        [[agent("bob@acme.example", "x@y")]],
        [[ZOE], [agent("new", "zoe@acme.example")]],
        [[ZOE], [Row("agents", ZOE.name, None)], [agent("new", "zoe@acme.example")]],
        [[ZOE], [agent(ZOE.name, "zoe@acme.example")], [agent("new", "x@y")]],
        [[agent("new", "x@y", aliases=["@desk.example"])]],
        [[agent("new", '""@desk.example')]],
        [[agent("new", '""@new.example')], [agent("newer", "x@y", aliases=["@new.example"])]],
        [[agent("JANE", "x@y"), agent("Jane", "y@y")], [Row("agents", "JANE", None)], [Row("agents", "Jane", None)]],
        [[agent("Jane", "x@y")], [agent("Jane", "y@y")], [Row("agents", "jane", None)]],
        [[Row("agents", "eve@acme.example", "null")]],
        [[Row("agents", "eve@acme.example", "")]],
        [[Row("agents", "jane", "{")], [Row("agents", "jane", None)], [agent("jane", "x@y"), agent("new", "y@y")]],
        [[Row("agents", "jane", None), agent("new", "x@y", group="red")], [Row("agents", "new", None)]],
        [[Row("channels", "desk", None)], [Row("agents", "Bob", None)], [Row("channels", "desk", None)]],
        [[Row("agents", "eve@acme.example", None), BAD], [Row("agents", "Bob", None)], "mend"],
        [[Row("agents", "eve@acme.example", None), BAD], [Row("agents", "Bob", None)], [EVE], [BOB], [EVE_TOO], "mend"],
    ],
)
async def test_what_seldom_comes_is_seen_too(steps: list[Any]) -> None:
    await _take(steps)


async def _take(steps: list[Any]) -> None:
    memory = MemoryRows()
    memory.put_tables(START)
    keeper = DatabaseStorage(memory)
    await keeper.read()
    good = memory.texts()
    for step in steps:
        if callable(step):
            await _compare_edit(keeper, memory, step)
        elif step == "mend":
            memory.put_texts(good)
        else:
            memory.put(*{row[:2]: row for row in step}.values())
        if await _compare(keeper, memory):
            good = memory.texts()


async def _compare(keeper: DatabaseStorage, memory: MemoryRows) -> bool:
    """Whether the directory is good, for the one that followed as for a new one."""
    followed, new = await _read(keeper), await _read(DatabaseStorage(memory))
    if isinstance(new, CheckedDirectory) and isinstance(followed, CheckedDirectory):
        assert _as_shown(followed) == _as_shown(new)
        return True
    assert followed == new
    return False


async def _compare_edit(keeper: DatabaseStorage, memory: MemoryRows, change: Callable[[Document], None]) -> None:
    """Compare what a change does to the rows, or says, with what it does to the plain tables."""
    tables: Any = await DatabaseStorage(memory).document()
    expected = said = ""
    try:
        change(tables)
        parse_directory(tables, keeper.name)
    except (EditRefused, Faults) as error:
        expected = repr(error)
    try:
        await keeper.change(change, must_exist=True, known=UNREAD)
    except (EditRefused, Faults) as error:
        said = repr(error)
    assert said == expected
    if not said:
        assert _without_empty(await DatabaseStorage(memory).document()) == _without_empty(tables)


def _without_empty(tables: Any) -> dict[str, Any]:
    return {key: value for key, value in tables.items() if value != {}}


async def _read(keeper: DatabaseStorage) -> Any:
    """Return what the keeper knows of a good directory, or the faults of a bad one."""
    try:
        snapshot = await keeper.read()
    except Faults as error:
        return error.faults
    sound = keeper._known.checked
    assert sound is not None
    assert sound.directory is snapshot.directory
    return sound


def _as_shown(sound: CheckedDirectory) -> Any:
    """Return all that is known of a directory, in its order where it has one."""
    addresses, logins = sound.index.addresses, sound.index.logins
    return (
        sound.directory.default_server,
        [list(getattr(sound.directory, table).items()) for table in TABLES],
        (addresses.own, addresses.aliases, addresses.domains),
        (logins._folded, logins._directory, logins._addresses),
        (sound.groups, sound.named, sound.foreign),
    )


@pytest.mark.parametrize(
    "change",
    [
        partial(set_entry, kind=AGENT, name="jane", values={"full_name": "Jane"}),
        partial(set_entry, kind=AGENT, name="Bob", values={"address": "robert@acme.example"}),
        partial(add_entry, kind=AGENT, name="Eve", values={"address": "Eve@x.example"}),
        partial(remove_entry, kind=AGENT, name="Bob"),
        partial(set_entry, kind=CHANNEL, name="desk", values={"aliases": ["@desk.example"]}),
        partial(set_entry, kind=SERVER, name="one", values={"max_connections": 7}),
        partial(set_entry, kind=APPLICATION, name="crm", values={"may_send_as": ["jane"]}),
    ],
)
async def test_an_ordinary_change_looks_at_nothing_else(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Document], None]
) -> None:
    memory = MemoryRows()
    memory.put_tables(START)
    one, other = DatabaseStorage(memory), DatabaseStorage(memory)
    for keeper in (one, other):
        await keeper.read()
    tables = deepcopy(dict(START))
    change(tables)
    expected = parse_directory(tables)
    monkeypatch.delattr(database_storage, "parse_directory")
    done = await one.change(change, must_exist=True, known=UNREAD)
    assert done.directory == (await other.read()).directory == expected
    assert done.directory.servers["two"] is (await one.read()).directory.servers["two"]
