"""The contract of what keeps a directory: one suite over a file and over both databases."""

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from relay.config.faults import Fault, Faults
from relay.config.settings import load_settings
from relay.directory.database_storage import DatabaseStorage
from relay.directory.directory import Directory
from relay.directory.document import Document
from relay.directory.edit import add_entry, remove_entry, set_entry
from relay.directory.file import FileStorage
from relay.directory.kinds import AGENT, CHANNEL, SERVER, set_default
from relay.directory.live import LiveDirectory
from relay.directory.rules.incremental import CheckedDirectory
from relay.directory.rules.validation import parse_directory
from relay.directory.storage import Check, DirectoryChanged, Edit, Snapshot, Storage
from relay.directory.values import EditRefused
from relay.store.db.database import open_database
from relay.store.db.tables import metadata
from relay.store.people.directory import DirectoryTable
from tests.peers import postgres as peer
from tests.peers.postgres import Postgres
from tests.unit.directory.directory_kit import HOUSE, address
from tests.unit.store.store_kit import StorePlace, in_postgres

TABLES = tomllib.loads(HOUSE)
UNREAD = Snapshot(Directory(), None)
KEEPERS = ("file", "sqlite", pytest.param("postgresql", marks=pytest.mark.needs(*peer.NEEDS)))


class House:
    """One directory. `keeper` opens it once more, as another relay does."""

    def __init__(self, kind: str, folder: Path, place: StorePlace, closing: AsyncExitStack) -> None:
        self.kind = kind
        self._file = folder / "directory.toml"
        self._place = place
        self._closing = closing

    async def keeper(self, check: Check = lambda _: ()) -> Storage:
        if self.kind == "file":
            return FileStorage(self._file, check)
        database = await open_database(self._place)
        self._closing.push_async_callback(database.close)
        return DatabaseStorage(DirectoryTable(database), check)

    async def live(self) -> LiveDirectory:
        keeper = await self.keeper()
        return await LiveDirectory.open(load_settings(None, {}), "relay.toml", storage=lambda _: keeper)

    async def spoil(self) -> None:
        """Write a fault, past all rules: a person does in the file, another version of relay in the database."""
        if self.kind == "file":
            self._file.write_text(self._file.read_text().replace('server = "shared"', 'server = "shard"'))
            return
        keeper = await self.keeper()
        assert isinstance(keeper, DatabaseStorage)
        keeper._checked = lambda known: known.with_checked(CheckedDirectory.of(Directory()))  # type: ignore[method-assign]
        await change(keeper, lambda document: document["agents"]["jane"].update(server="shard"))


@pytest.fixture(params=KEEPERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> StorePlace:
    if kind != "postgresql":
        return tmp_path / "relay.db"
    server: Postgres = request.getfixturevalue("postgres")
    name = request.getfixturevalue("of_this_file")
    server.sql(name, "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)))
    return in_postgres(server, name)


@pytest.fixture
async def house(kind: str, place: StorePlace, tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as closing:
        yield House(kind, tmp_path, place, closing)


async def change(
    keeper: Storage, edit: Edit, known: Snapshot = UNREAD, check: Callable[[Directory], None] = lambda _: None
) -> Snapshot:
    return await keeper.change(edit, must_exist=False, known=known, check=check)


def to(tables: Mapping[str, Any]) -> Edit:
    def edit(document: Document) -> None:
        document.clear()
        document.update(tomllib.loads(tomli_w.dumps(tables)))

    return edit


def set_jane(**values: Any) -> Edit:
    return lambda document: set_entry(document, AGENT, "jane", values)


async def test_what_is_not_there_is_an_empty_directory(house: House) -> None:
    keeper = await house.keeper()
    assert await keeper.state() == keeper.absent
    assert await keeper.read() == Snapshot(Directory(), keeper.absent)


async def test_a_change_is_there_for_all(house: House) -> None:
    one, other = await house.keeper(), await house.keeper()
    done = await change(one, to(TABLES))
    assert done.directory == parse_directory(TABLES)
    assert await one.state() == done.state != one.absent
    found = await other.read()
    assert (found.directory, found.state) == (done.directory, done.state)


async def test_a_state_is_another_after_each_change(house: House) -> None:
    keeper = await house.keeper()
    edits = [to(TABLES), *(set_jane(group=group) for group in ("a", "b", "sales"))]
    states = [(await change(keeper, edit)).state for edit in edits]
    assert len(set(states)) == 4
    assert await keeper.state() == states[-1]


async def test_the_order_stays(house: House) -> None:
    keeper = await house.keeper()
    await change(keeper, to(TABLES))
    await change(
        keeper, lambda document: add_entry(document, SERVER, "another", {"host": "smtp.a.example", "auth": "none"})
    )
    await change(keeper, lambda document: document["servers"]["custom"].update(port=2525))
    found = (await (await house.keeper()).read()).directory
    assert list(found.servers) == ["custom", "shared", "another"]
    assert list(found.channels) == ["support", "sales", "news"]
    assert found.servers["custom"].port == 2525


async def test_what_is_removed_is_gone_for_all(house: House) -> None:
    one, other = await house.keeper(), await house.keeper()
    await change(one, to(TABLES))
    await other.read()
    await change(one, lambda document: remove_entry(document, CHANNEL, "news"))
    assert list((await other.read()).directory.channels) == ["support", "sales"]
    await change(other, lambda d: add_entry(d, CHANNEL, "news", {"address": "new@acme.example"}))
    assert (await one.read()).directory.channels["news"].address == "new@acme.example"


async def test_every_kind_of_value_comes_back(house: House) -> None:
    tables = {
        **TABLES,
        "applications": {"crm": {"may_send_as": ["*"]}},
        "scripts": {"default": {"set_headers": {"Organization": 'Größe "x" \\ 🎈'}, "remove_headers": ["X-A"]}},
    }
    tables["servers"] = {
        **TABLES["servers"],
        "custom": {
            **TABLES["servers"]["custom"],
            "answers": [{"match": "busy", "means": "throttle"}],
            "incoming": {"host": "imap.a.example", "port": 993, "username": "u"},
            "message_size": "36MiB",
            "verify_tls": False,
        },
    }
    done = await change(await house.keeper(), to(tables))
    assert done.directory == parse_directory(tables) == (await (await house.keeper()).read()).directory


async def test_an_edit_that_makes_a_bad_directory_is_refused(house: House) -> None:
    keeper = await house.keeper()
    state = (await change(keeper, to(TABLES))).state
    with pytest.raises(Faults) as caught:
        await change(keeper, set_jane(server="shard"))
    assert caught.value.faults == (
        Fault(keeper.name, "agents.jane.server", "there is no server 'shard'; did you mean 'shared'?"),
    )
    with pytest.raises(EditRefused):
        await change(keeper, lambda document: set_default(document, "nobody"))
    assert await keeper.state() == state
    assert (await keeper.read()).directory == parse_directory(TABLES)


async def test_what_stands_elsewhere_is_asked(house: House) -> None:
    keeper = await house.keeper(lambda directory: [Fault("relay.toml", "x", "no")] if directory.scripts else [])
    await change(keeper, to(TABLES))
    with pytest.raises(Faults, match=r"relay\.toml: x: no"):
        await change(keeper, lambda document: document.setdefault("scripts", {}).update(a={}))
    assert not (await keeper.read()).directory.scripts


async def test_who_checks_sees_what_is_about_to_be_changed(house: House) -> None:
    one, other = await house.keeper(), await house.keeper()
    known = await change(one, to(TABLES))
    await change(other, set_jane(group="other"))
    seen: list[str] = []
    done = await change(one, set_jane(role="agent"), known, lambda before: seen.append(before.agents["jane"].group))
    assert seen == ["other"]
    assert done.before is not None
    assert done.before.agents["jane"].group == "other"
    assert (done.directory.agents["jane"].group, done.directory.agents["jane"].role) == ("other", "agent")

    def refuse(_: Directory) -> None:
        raise EditRefused("not as I thought")

    with pytest.raises(EditRefused, match="not as I thought"):
        await change(one, set_jane(group="mine"), known, refuse)
    assert (await one.read()).directory.agents["jane"].group == "other"


async def test_two_that_change_at_once_lose_nothing(house: House) -> None:
    await change(await house.keeper(), to(TABLES))

    done: list[str] = []

    async def add_many(who: str) -> None:
        keeper = await house.keeper()
        for number in range(8):
            name = f"{who}{number}"
            edit = lambda d, n=name: add_entry(d, AGENT, n, {"address": f"{n}@a.example"})  # noqa: E731
            with suppress(DirectoryChanged):  # a person would try again
                await change(keeper, edit)
                done.append(name)

    await asyncio.gather(add_many("one"), add_many("other"))
    found = (await (await house.keeper()).read()).directory
    assert set(done) == found.agents.keys() - {"jane"}
    assert len(done) > 8, "who is refused is the exception"


async def test_the_later_of_two_sees_what_the_other_did(house: House) -> None:
    one, other = await house.keeper(), await house.keeper()
    await change(one, to(TABLES))
    await other.read()
    await change(one, lambda document: remove_entry(document, AGENT, "jane"))
    with pytest.raises(EditRefused, match="there is no agent 'jane'"):
        await change(other, set_jane(group="mine"))


async def test_a_preview_changes_nothing(house: House) -> None:
    keeper = await house.keeper()
    state = (await change(keeper, to(TABLES))).state
    assert (await keeper.preview(set_jane(group="x"))).agents["jane"].group == "x"
    with pytest.raises(Faults):
        await keeper.preview(set_jane(server="shard"))
    assert await keeper.state() == state
    assert (await keeper.read()).directory.agents["jane"].group == "sales"


async def test_a_bad_directory_keeps_the_last_good_one(house: House) -> None:
    await change(await house.keeper(), to(TABLES))
    live = await house.live()
    routing = live.routing()
    await house.spoil()
    await live.refresh()
    assert [fault.key for fault in live.faults] == ["agents.jane.server"]
    assert live.routing() is routing
    with pytest.raises(Faults, match=r"agents\.jane\.server"):
        await live.change(lambda document: set_default(document, "custom"))
    await live.change(set_jane(server="shared"))
    assert live.faults == ()
    assert live.routing() is not routing


async def test_a_change_elsewhere_takes_effect(house: House) -> None:
    await change(await house.keeper(), to(TABLES))
    one, other = await house.live(), await house.live()
    await one.change(set_jane(address="jane@new.example"))
    assert other.routing().owner(address("jane@new.example")) is None
    await other.refresh()
    assert other.routing().owner(address("jane@new.example")) is not None
    routing = other.routing()
    await other.refresh()
    assert other.routing() is routing, "nothing changed, so nothing is read"


async def test_a_password_is_a_warning(house: House) -> None:
    keeper = await house.keeper()
    await change(keeper, to(TABLES))
    done = await change(keeper, lambda document: document["servers"]["custom"].update(password="hunter2"))
    (warning,) = await keeper.warnings(done.directory)
    assert (warning.file, warning.key) == (keeper.name, "servers.custom.password")
    assert "move it to the vault: relay secrets import" in warning.message
