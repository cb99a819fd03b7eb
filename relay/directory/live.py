"""The directory in effect: what the file last said without a fault, its routing, and the watch over the file.

A bad edit changes nothing: the old directory stays in effect, and `faults` says what is wrong with the new one. So
does a file that vanishes: an unmounted disk or a slip of the hand must not turn every sender into nobody. Only at the
start a missing file is an empty directory. All reading happens in a thread, or in a process of its own
(`directory/apart.py`), so that ten thousand agents hold up no message.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from relay.collector import Collector
from relay.directory.apart import LARGE
from relay.directory.file import DirectoryFile, Edit, Fingerprint, Snapshot
from relay.directory.model import Directory, UnknownSender
from relay.directory.routing import Routing
from relay.directory.together import check_together
from relay.faults import Fault, Faults
from relay.settings import Settings
from relay.short_turns import in_short_turns

_POLL_SECONDS = 1.0  # a changed directory takes effect within 2 seconds


class OnEdit(Protocol):
    """Is told which directory took the place of which, and whether a person wrote the file."""

    def __call__(self, before: Directory, after: Directory, *, by_hand: bool) -> None:
        """Take note of an edit."""


class LiveDirectory:
    """One directory file in use. `LiveDirectory.open` makes one; `on_change` is told what took effect or why not.

    `on_edit` may be set later; the first reading is no edit. `read` says how the file is read. New `settings`
    count from the next reading on.
    """

    def __init__(
        self,
        settings: Settings,
        settings_file: str,
        on_change: Callable[["LiveDirectory"], None],
        read: Callable[[DirectoryFile], Snapshot] = DirectoryFile.read,
    ) -> None:
        self.settings = settings
        self._read = read
        self._settings_file = settings_file
        self._on_change = on_change
        self._file = DirectoryFile(settings.directory_path, self._check)
        self._seen = Fingerprint()  # the state of the file that was last read, good or bad
        self._had_file = False  # whether the directory in effect stands in a file, and not in the lack of one
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
        read: Callable[[DirectoryFile], Snapshot] = DirectoryFile.read,
    ) -> "LiveDirectory":
        """Read the file for the first time. Raises Faults."""
        live = cls(settings, settings_file, lambda _: None, read)
        await live.reload()
        if live.faults:
            raise Faults(live.faults)
        live._on_change = on_change
        return live

    def routing(self) -> Routing:
        """Return the routing of the directory in effect."""
        return self._routing

    async def reload(self) -> None:
        """Read the file now and put it into effect if it has no fault."""
        async with self._turn, self._made_large():
            await self._reload()

    async def refresh(self) -> None:
        """Read the file if it is another than the one that was read last; costs one look at it where it is not.

        After this, what a person saved a moment ago is in effect, or its faults are in `faults`.
        """
        async with self._turn:
            if self._file.has_changed(self._seen):
                async with self._made_large():
                    await self._reload()

    async def watch(self) -> None:
        """Reload whenever the file changes, for ever."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self.refresh()

    async def change(self, edit: Edit, check: Callable[[Directory], None] = lambda _: None) -> Directory:
        """Write a change, put it into effect, and return the new directory. Raises Faults, FileRefused, EditRefused.

        `check` looks at the directory that is about to be changed, and raises where it is not as the caller thinks:
        nobody else can change it between that look and the writing.
        """
        async with self._turn, self._made_large():
            await self._catch_up()  # what a person wrote meanwhile is theirs, and no part of this change
            known = Snapshot(self._routing.directory, self._seen)
            done = await in_short_turns(self._file.change, edit, must_exist=self._had_file, known=known, check=check)
            await self._use(done)
            self.on_edit(done.before or known.directory, done.directory, by_hand=False)
            return done.directory

    def _made_large(self) -> AbstractAsyncContextManager[None]:
        """Keep the garbage collector from it while a large directory is made; a small one is nothing to it."""
        return self._collector.at_rest() if self._file.fingerprint().size > LARGE else nullcontext()

    async def _catch_up(self) -> None:
        if self._file.has_changed(self._seen):
            await self._reload()

    async def preview(self, edit: Edit) -> Directory:
        """Return the directory that a change would make, and change nothing. Raises Faults, EditRefused."""
        return await in_short_turns(self._file.preview, edit)

    async def _reload(self) -> None:
        self._seen = self._file.fingerprint()  # before the reading: a change in between is seen next time
        try:
            snapshot = await in_short_turns(self._read, self._file)
            if self._had_file and snapshot.fingerprint == Fingerprint():
                raise Faults([Fault(str(self._file.path), "", "it has vanished; the one before stays in effect")])
            before = self._routing.directory
            await self._use(snapshot)
            self.on_edit(before, snapshot.directory, by_hand=True)
        except Faults as error:
            self.faults = error.faults
            self._on_change(self)

    def _check(self, directory: Directory) -> tuple[Fault, ...]:
        return check_together(self.settings, directory, settings_file=self._settings_file)

    async def _use(self, snapshot: Snapshot) -> None:
        unknown_sender = UnknownSender(self.settings.policy.unknown_sender)
        self._routing = await in_short_turns(Routing, snapshot.directory, unknown_sender)
        self.warnings = await in_short_turns(self._file.warnings, snapshot.directory)
        self._seen = snapshot.fingerprint
        self._had_file = snapshot.fingerprint != Fingerprint()
        self.faults = ()
        self._on_change(self)
