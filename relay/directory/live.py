"""The directory in effect: what its storage last said without a fault, its routing, and the watch over it.

A bad edit changes nothing: the old directory stays in effect, and `faults` says what is wrong with the new one. So
does one that vanishes: an unmounted disk or a slip of the hand must not turn every sender into nobody. Only at the
start a missing one is an empty directory. All reading happens in a thread, or in a process of its own
(`relay.directory.reader_process`), so that ten thousand agents hold up no message. Whether a file keeps it or the
database, only its storage knows (`relay.directory.storage`).
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from typing import Protocol, TypeAlias

from relay.config.faults import Fault, Faults
from relay.config.settings import Settings
from relay.directory.directory import Directory
from relay.directory.file import DirectoryFile, FileStorage, ReadFile
from relay.directory.routing import Routing, UnknownSender
from relay.directory.rules.validation import check_together, warnings_together
from relay.directory.storage import Check, Edit, Snapshot, Storage
from relay.system.process import Collector, in_short_turns

_POLL_SECONDS = 1.0  # a changed directory takes effect within 2 seconds


OpenStorage: TypeAlias = Callable[[Check], Storage]
"""Makes what keeps the directory, which asks about every one whether it suits what stands elsewhere."""


class OnEdit(Protocol):
    """Is told which directory took the place of which, and whether a person wrote the file."""

    def __call__(self, before: Directory, after: Directory, *, by_hand: bool) -> None:
        """Take note of an edit."""


class LiveDirectory:
    """One directory in use. `LiveDirectory.open` makes one; `on_change` is told what took effect or why not.

    `on_edit` may be set later; the first reading is no edit. `storage` makes what keeps it; left out, that is the file
    which the settings name. New `settings` count from the next reading on. `is_for_commands`: what the two files do
    not agree on at the first reading is left as it is, so that commands can mend it step by step.
    """

    def __init__(
        self,
        settings: Settings,
        settings_file: str,
        on_change: Callable[["LiveDirectory"], None] = lambda _: None,
        storage: OpenStorage | None = None,
        *,
        is_for_commands: bool = False,
    ) -> None:
        self.settings = settings
        self._left: frozenset[Fault] | None = None if is_for_commands else frozenset()
        self._settings_file = settings_file
        self._on_change = on_change
        self._storage = (storage or in_file(settings))(self._check)
        self._seen = self._storage.absent  # the state that was last read, good or bad
        self._was_there = False  # whether the directory in effect stands somewhere, and not for the lack of one
        self._turn = asyncio.Lock()
        self._collector = Collector()
        self._routing = Routing(Directory())
        self.faults: tuple[Fault, ...] = ()
        self.warnings: tuple[Fault, ...] = ()
        self.on_edit: OnEdit = lambda before, after, *, by_hand: None  # noqa: ARG005

    @classmethod
    async def open(
        cls,
        settings: Settings,
        settings_file: str,
        on_change: Callable[["LiveDirectory"], None] = lambda _: None,
        storage: OpenStorage | None = None,
        *,
        is_for_commands: bool = False,
    ) -> "LiveDirectory":
        """Read it for the first time. Raises Faults, and what its storage raises where it cannot be reached."""
        live = cls(settings, settings_file, storage=storage, is_for_commands=is_for_commands)
        await live.begin()
        if live.faults:
            raise Faults(live.faults)
        live._on_change = on_change
        return live

    async def begin(self) -> None:
        """Read it for the first time; what is wrong with it is in `faults`. Raises as `follow`."""
        async with self._turn, self._made_large():
            await self._reload()

    def routing(self) -> Routing:
        """Return the routing of the directory in effect."""
        return self._routing

    async def reload(self) -> None:
        """Read it now and put it into effect if it has no fault. Where it cannot be reached, all stays as it is."""
        with suppress(*self._storage.unreachable):
            async with self._turn, self._made_large():
                await self._reload()

    async def refresh(self) -> None:
        """Read it if it is another than the one that was read last; costs one look at it where it is not.

        After this, what a person saved a moment ago is in effect, or its faults are in `faults`. Where it cannot be
        reached, the one in effect stays.
        """
        with suppress(*self._storage.unreachable):
            await self.follow()

    async def follow(self) -> None:
        """Do what `refresh` does. Raises what the storage raises where it cannot be reached."""
        async with self._turn:
            await self._catch_up()

    async def watch(self) -> None:
        """Reload whenever it changes, for ever."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self.refresh()

    async def change(self, edit: Edit, check: Callable[[Directory], None] = lambda _: None) -> Directory:
        """Write a change, put it into effect, and return the new directory. Raises Faults, ChangeRefused, EditRefused.

        `check` looks at the directory that is about to be changed, and raises where it is not as the caller thinks:
        nobody else can change it between that look and the writing.
        """
        async with self._turn, self._made_large():
            await self._look()  # what a person wrote meanwhile is theirs, and no part of this change
            known = Snapshot(self._routing.directory, self._seen)
            done = await self._storage.change(edit, must_exist=self._was_there, known=known, check=check)
            await self._use(done)
            self.on_edit(done.before or known.directory, done.directory, by_hand=False)
            return done.directory

    def _made_large(self) -> AbstractAsyncContextManager[None]:
        """Keep the garbage collector from it while a large directory is made; a small one is nothing to it."""
        return self._collector.at_rest() if self._storage.is_large else nullcontext()

    async def _catch_up(self) -> None:
        if await self._storage.state() != self._seen:
            async with self._made_large():
                await self._reload()

    async def preview(self, edit: Edit) -> Directory:
        """Return the directory that a change would make, and change nothing. Raises Faults, EditRefused."""
        return await self._storage.preview(edit)

    async def _look(self) -> None:
        if await self._storage.state() != self._seen:
            await self._reload()

    async def _reload(self) -> None:
        state = await self._storage.state()  # before the reading: a change in between is seen next time
        try:
            snapshot = await self._storage.read()
            if self._was_there and snapshot.state == self._storage.absent:
                raise Faults([Fault(self._storage.name, "", "it has vanished; the one before stays in effect")])
            before = self._routing.directory
            await self._use(snapshot)
            if self._storage.is_edited_by_hand:
                self.on_edit(before, snapshot.directory, by_hand=True)
        except Faults as error:
            self._seen = state
            self.faults = error.faults
            self._on_change(self)

    def _check(self, directory: Directory) -> tuple[Fault, ...]:
        faults = check_together(
            self.settings, directory, settings_file=self._settings_file, directory_file=self._storage.name
        )
        if self._left is None:
            self._left = frozenset(faults)
        return tuple(fault for fault in faults if fault not in self._left)

    async def _use(self, snapshot: Snapshot) -> None:
        unknown_sender = UnknownSender(self.settings.policy.unknown_sender)
        self._routing = await in_short_turns(Routing, snapshot.directory, unknown_sender, snapshot.index)
        of_both = warnings_together(self.settings, snapshot.directory, self._settings_file)
        self.warnings = (*of_both, *await self._storage.warnings(snapshot.directory))
        self._seen = snapshot.state
        self._was_there = snapshot.state != self._storage.absent
        self.faults = ()
        self._on_change(self)


def in_file(settings: Settings, read: ReadFile = DirectoryFile.read) -> OpenStorage:
    """Let the file keep the directory that the settings name; `read` says how it is read."""
    return partial(FileStorage, settings.directory_path, read=read)
