"""The directory in effect while its file is edited, broken, removed and put back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from relay.config.faults import Faults
from relay.config.settings import load_settings
from relay.directory import live
from relay.directory.document import Document
from relay.directory.edit import add_entry, remove_entry
from relay.directory.kinds import SERVER, set_default
from relay.directory.live import LiveDirectory
from relay.directory.storage import ChangeRefused, DirectoryChanged
from relay.directory.values import EditRefused
from tests.peers.work import counted_turns
from tests.unit.directory.directory_kit import HOUSE, address

NEWS = address("news@acme.example")
WITHOUT_SALES = HOUSE.replace("[channels.sales]", "[channels.trade]").replace("sales@", "trade@")
BROKEN = HOUSE.replace('server = "shared"', 'server = "shard"')
VANISHED = "has vanished; the one before stays in effect"
DEFAULT_FOR_STRANGERS = 'policy.unknown_sender = "default"\n'


class House:
    """A directory file and what is live of it. `told` counts the changes that were announced."""

    def __init__(self, folder: Path, policy: str) -> None:
        settings_file = folder / "relay.toml"
        settings_file.write_text(f'state_dir = "{folder}"\n{policy}')
        self.settings = load_settings(settings_file, {})
        self.file = self.settings.directory_path
        self.told = 0
        self.live: LiveDirectory
        self._change = asyncio.Event()

    async def open(self) -> LiveDirectory:
        self.live = await LiveDirectory.open(self.settings, "relay.toml", self._note)
        return self.live

    def sends_as(self, sender: str) -> bool:
        return self.live.routing().owner(address(sender)) is not None

    @property
    def faults(self) -> str:
        return "\n".join(map(str, self.live.faults))

    async def next_change(self) -> None:
        """Wait for the next announcement. DESIGN promises it within 2 seconds, which a busy machine does not keep."""
        assert live._POLL_SECONDS <= 1.0
        async with asyncio.timeout(20):
            await self._change.wait()
        self._change.clear()

    def _note(self, _live: LiveDirectory) -> None:
        self.told += 1
        self._change.set()


def house(folder: Path, text: str | None = HOUSE, policy: str = "") -> House:
    made = House(folder, policy)
    if text is not None:
        made.file.write_text(text)
    return made


@asynccontextmanager
async def watched(made: House) -> AsyncIterator[None]:
    task = asyncio.create_task(made.live.watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def replace_file(path: Path, text: str) -> None:
    """As editors save: another file takes the name."""
    new = path.with_suffix(".edited")
    new.write_text(text)
    new.replace(path)


def news_by_shared(document: Document) -> None:
    document["channels"]["news"]["server"] = "shared"


async def test_a_missing_file_at_the_start_is_an_empty_directory(tmp_path: Path) -> None:
    made = house(tmp_path, None)
    await made.open()
    assert made.live.faults == ()
    assert not made.live.routing().directory.servers
    await made.live.reload()
    assert made.live.faults == ()


async def test_a_broken_file_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Faults, match="did you mean 'shared'"):
        await house(tmp_path, BROKEN).open()


async def test_the_watch_sees_an_edit_within_two_seconds(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    async with watched(made):
        replace_file(made.file, WITHOUT_SALES)
        await made.next_change()
        assert made.sends_as("trade@acme.example")
        assert not made.sends_as("sales@acme.example")
        made.file.write_text(HOUSE)
        await made.next_change()
        assert made.sends_as("sales@acme.example")
    assert made.told == 2


async def test_the_watch_sees_a_file_that_was_missing_at_the_start(tmp_path: Path) -> None:
    made = house(tmp_path, None)
    await made.open()
    async with watched(made):
        replace_file(made.file, HOUSE)
        await made.next_change()
    assert made.sends_as("sales@acme.example")


async def test_a_bad_edit_keeps_the_old_directory_until_it_is_mended(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    routing = made.live.routing()
    async with watched(made):
        replace_file(made.file, BROKEN)
        await made.next_change()
        assert "agents.jane.server" in made.faults
        assert made.live.routing() is routing
        replace_file(made.file, HOUSE)
        await made.next_change()
        assert made.live.faults == ()


async def test_a_vanished_file_keeps_the_old_directory_and_is_a_fault(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    routing = made.live.routing()
    kept = made.file.rename(tmp_path / "away")
    async with watched(made):
        await made.next_change()
        assert VANISHED in made.faults
        assert str(made.file) in made.faults
        assert made.live.routing() is routing
        await made.live.reload()  # SIGHUP does not empty it either
        assert VANISHED in made.faults
        assert made.live.routing() is routing
        await made.next_change()
        kept.rename(made.file)
        await made.next_change()
        assert made.live.faults == ()
        assert made.sends_as("sales@acme.example")


async def test_a_vanished_file_is_told_once_by_the_watch(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    made.file.unlink()
    await made.live.refresh()
    await made.live.refresh()
    assert made.told == 1
    assert VANISHED in made.faults


async def test_a_file_that_vanishes_after_a_bad_edit_is_vanished(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    replace_file(made.file, BROKEN)
    await made.live.refresh()
    made.file.unlink()
    await made.live.refresh()
    assert VANISHED in made.faults
    assert made.sends_as("sales@acme.example")


async def test_a_file_that_came_after_the_start_may_vanish_too(tmp_path: Path) -> None:
    made = house(tmp_path, None)
    await made.open()
    await made.live.change(lambda document: add_entry(document, SERVER, "first", {"host": "smtp.acme.example"}))
    made.file.unlink()
    await made.live.refresh()
    assert VANISHED in made.faults
    assert "first" in made.live.routing().directory.servers


async def test_a_vanished_file_is_not_begun_anew_by_a_command(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    made.file.unlink()
    with pytest.raises(ChangeRefused, match="has vanished; put it back, or restart relay to begin with an empty one"):
        await made.live.change(lambda document: add_entry(document, SERVER, "first", {"host": "smtp.acme.example"}))
    assert not made.file.exists()
    assert made.sends_as("sales@acme.example")


async def test_refresh_reads_only_what_changed(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    routing = made.live.routing()
    await made.live.refresh()
    assert made.live.routing() is routing
    assert made.told == 0
    replace_file(made.file, WITHOUT_SALES)
    await asyncio.gather(*(made.live.refresh() for _ in range(5)))
    assert made.sends_as("trade@acme.example")
    assert made.told == 1


async def test_a_change_is_in_effect_when_it_returns(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    directory = await made.live.change(news_by_shared)
    assert directory is made.live.routing().directory
    route = made.live.routing().route(NEWS)
    assert route is not None
    assert route.server.name == "shared"
    assert made.told == 1
    await made.live.refresh()
    assert made.told == 1, "our own writing is not read again"


async def test_a_change_keeps_a_hand_edit_that_nobody_has_read_yet(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    replace_file(made.file, WITHOUT_SALES)
    await made.live.change(news_by_shared)
    assert made.sends_as("trade@acme.example")
    assert not made.sends_as("sales@acme.example")


async def test_a_hand_edit_in_the_middle_of_a_change_refuses_it(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()

    def edit(document: Document) -> None:
        replace_file(made.file, WITHOUT_SALES)
        news_by_shared(document)

    with pytest.raises(DirectoryChanged, match="changed by somebody else"):
        await made.live.change(edit)
    assert made.file.read_text() == WITHOUT_SALES
    assert made.sends_as("sales@acme.example")
    await made.live.refresh()
    assert made.sends_as("trade@acme.example")


async def test_a_refused_change_changes_nothing(tmp_path: Path) -> None:
    made = house(tmp_path)
    await made.open()
    routing = made.live.routing()
    with pytest.raises(EditRefused):
        await made.live.change(lambda document: set_default(document, "nowhere"))
    with pytest.raises(Faults, match=r"channels\.sales\.server"):
        await made.live.change(lambda document: document["channels"]["sales"].update(server="nowhere"))
    assert made.file.read_text() == HOUSE
    assert made.live.routing() is routing
    assert made.live.faults == ()


async def test_a_change_that_relay_toml_does_not_allow_is_refused(tmp_path: Path) -> None:
    only_server = 'default_server = "a"\n[servers.a]\nhost = "smtp.acme.example"\nusername = "mailer@acme.example"\n'
    made = house(tmp_path, only_server, DEFAULT_FOR_STRANGERS)
    await made.open()

    def remove(document: Document) -> None:
        remove_entry(document, SERVER, "a")

    def without_account(document: Document) -> None:
        del document["servers"]["a"]["username"]

    with pytest.raises((Faults, EditRefused)):
        await made.live.change(remove)
    with pytest.raises(Faults, match=r"servers\.a\.address: a sender that is nobody's"):
        await made.live.change(without_account)
    assert made.file.read_text() == only_server
    assert made.live.routing().route(address("stranger@elsewhere.example")) is not None


async def test_reading_ten_thousand_agents_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    agents = "".join(f'[agents.a{n}]\naddress = "a{n}@acme.example"\n' for n in range(10_000))
    made = house(tmp_path)
    await made.open()
    replace_file(made.file, HOUSE + agents)
    await made.live.refresh()  # the first large one is counted, which is the longer the more the tests have in memory
    replace_file(made.file, HOUSE + agents.replace("@acme", "@other"))
    reading = asyncio.create_task(made.live.refresh())
    async with counted_turns() as work:
        await reading
    assert made.sends_as("a9999@other.example")
    assert work.most < 1_000, "fewer than there are agents by far"
