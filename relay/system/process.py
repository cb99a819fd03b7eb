"""What holds for the whole process: the garbage collector, the switch interval of threads, and its descriptors.

Nothing else in Relay sets the interpreter so. Both settings go back to Python's defaults when the last user of another
value is done.

The collector is off while modules are loaded. A full collection visits every object, in one step, and what is loaded
stays: a start of the service would have a hundred collections for nothing, a tenth of its time. Afterwards everything
alive is moved out of the collector's sight (`gc.freeze`).

It is off while a directory is made, too. With ten thousand agents a full collection takes 50 to 100 ms, in which no
message moves, and a new directory would start several. What is alive then is frozen: a directory has no reference
cycles, so it is freed when nobody refers to it any more. Cyclic garbage that is frozen with it is collected when much
more is frozen than before, because that collection is such a step itself.

A thread that computes lets others run after 5 ms (`sys.setswitchinterval`), and the event loop asks for its turn some
thirty times for a message, so that a message takes 150 ms while a thread computes. With a shorter interval it takes a
tenth.

Commands load this first of all: it imports asyncio only where it is used.

The descriptors of this process: how many it may have open (RLIMIT_NOFILE), and those that it is given.
"""

import gc
import os
import resource
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_ORDINARY = 0.005  # seconds; Python's default
_SHORT = 0.0005  # each switch costs some microseconds
_TIMES = 100  # counting what is frozen takes a moment, too: some 5 to 15 ms
_GROWTH = 1.25


class _Setting:
    """A setting of the process, for as long as somebody wants it. Several threads may change that at once."""

    def __init__(self, begin: Callable[[], object], end: Callable[[], object]) -> None:
        self._begin = begin
        self._end = end
        self._count = 0
        self._lock = Lock()

    def __enter__(self) -> None:
        """Set it, for the first."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._begin()

    def __exit__(self, *_: object) -> None:
        """Set it back, after the last."""
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._end()


_collector_off = _Setting(gc.disable, gc.enable)
_short_turns = _Setting(lambda: sys.setswitchinterval(_SHORT), lambda: sys.setswitchinterval(_ORDINARY))


@contextmanager
def loading() -> Iterator[None]:
    """Turn the collector off within, and afterwards never look at what is there by then."""
    with _collector_off:
        try:
            yield
        finally:
            gc.freeze()


class Collector:
    """The process's garbage collector, for one who makes many objects again and again."""

    def __init__(self) -> None:
        self._times = 0
        self._most = 0.0  # objects that may be frozen before they are collected

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Turn it off, then freeze what is alive, and now and then collect what was frozen before."""
        with loading():  # whoever is cancelled meanwhile must not leave it at rest for ever
            try:
                yield
            finally:
                self._times += 1
                if self._times % _TIMES == 0 and gc.get_freeze_count() > self._most:
                    import asyncio  # noqa: PLC0415

                    await asyncio.to_thread(_look_everywhere)
                    self._most = 0.0
        self._most = self._most or gc.get_freeze_count() * _GROWTH


def _look_everywhere() -> None:
    gc.unfreeze()
    gc.collect()


async def in_short_turns(job: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Run a long job in a thread, and let the event loop run every half millisecond."""
    import asyncio  # noqa: PLC0415

    with _short_turns:
        return await asyncio.to_thread(job, *args, **named)


_BESIDES = 512  # the pages' clients, the store, the log, upstream connections that wait, whatever a library opens

_LAST_STANDARD = 2  # stderr


def raise_descriptor_limit(connections: int) -> None:
    """Raise our own limit, as far as we are allowed to, to what so many clients need.

    A client may cost three: its connection, the file of a large message, and one connection upstream while that is
    handed over. systemd and most shells give 1,024 and allow many more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * connections + _BESIDES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def fill_standard_streams() -> None:
    """Fill the places of stdin, stdout and stderr that are closed, so that no file of ours is opened there.

    For reading alone: what is written there fails, and counts as lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDONLY)  # the lowest that is free
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.set_inheritable(number, True)


def make_uninheritable() -> None:
    """Let no program that we start have what we were given: sockets of systemd, or a line to the supervisor.

    What we open ourselves is closed in it anyway. uvloop closes nothing else, and a listening socket in a command that
    hangs would keep our address taken.
    """
    with suppress(OSError):  # no /dev/fd: then nobody knows what there is
        for number in [int(one.name) for one in Path("/dev/fd").iterdir()]:
            with suppress(OSError):  # that of the listing is closed by now
                if number > _LAST_STANDARD:
                    os.set_inheritable(number, False)
