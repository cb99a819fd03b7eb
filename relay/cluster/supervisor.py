"""The supervisor: starts the workers, replaces one that ends, and stands for all of them before systemd.

It hands no mail over and knows no secret, so there is little that could end it. Where it is killed all the same, the
kernel kills the workers with it (`relay.cluster.bootstrap`).

Where a worker cannot begin, as while the store is away, it turns that worker's clients away: they try again, and may
meet another worker. Else they would wait in the queue of its socket for as long as that takes.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from relay import log
from relay.cluster.bootstrap import Bootstrap
from relay.cluster.sockets import WorkerSockets
from relay.cluster.workers import Worker, Workers
from relay.config.settings import Settings
from relay.listener.replies import NOT_READY
from relay.listener.sockets import ListenError, PassedSockets
from relay.store.cluster.identity import Place
from relay.store.db.sqlite import file_number
from relay.system.process import fill_standard_streams
from relay.system.systemd import Systemd, from_environment

_GREETING = f"{NOT_READY}\r\n".encode()
_AT_ONCE = 100


class TurningAway:
    """The sockets of one worker, of which nobody else takes clients. `begin` and `end` may be called at any time."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        self._is_on = False

    def begin(self) -> None:
        """Turn away who waits and who comes, until `end`."""
        if not self._is_on:
            self._is_on = True
            for sock in self._sockets:
                sock.setblocking(False)
                asyncio.get_running_loop().add_reader(sock, _turn_away, sock)

    def end(self) -> None:
        """Leave clients to the worker."""
        if self._is_on:
            self._is_on = False
            for sock in self._sockets:
                asyncio.get_running_loop().remove_reader(sock)


def _turn_away(sock: socket.socket) -> None:
    for _ in range(_AT_ONCE):
        try:
            client, _ = sock.accept()
        except OSError:  # nobody is there any more
            return
        with client, suppress(OSError):
            client.setblocking(False)
            client.send(_GREETING)


# A worker that says nothing for so long is replaced; systemd's WatchdogSec counts where it is set.
_BEAT_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# One that has lived for so long ended by accident: the next begins at once.
_LONG_LIFE = 10.0
_STOP_SECONDS = 35.0  # a worker takes 30 at most
_RELOAD_SECONDS = 60.0


class Supervisor:
    """The parent of all workers. `run` goes on until SIGTERM or SIGINT; SIGHUP is passed on."""

    def __init__(
        self, settings: Settings, settings_file: Path | None, doors: WorkerSockets, total: int, systemd: Systemd
    ) -> None:
        self._doors = doors
        self._systemd = systemd
        self._bootstrap = Bootstrap(
            supervisor=os.getpid(),
            settings=settings,
            settings_file=settings_file,
            place=Place(total=total, life=0),
            line=-1,
            descriptors={},
            beat_seconds=systemd.watchdog_seconds or _BEAT_SECONDS,
        )
        self._workers = Workers()
        self._ready = [asyncio.Event() for _ in range(total)]
        self._has_begun = False  # what is wrong with this relay its first worker would have said
        self._is_serving = False
        self._told = ""  # the last status
        self._is_reload_due = False  # asked for before all workers could be told
        self._status = 0
        self._stop = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Return the exit status of the relay: that of a worker which could not begin, or 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._later(self._reload()))
        keepers = [asyncio.create_task(self._begin())]
        watch = asyncio.create_task(self._watch())
        await self._stop.wait()
        self._is_serving = False
        for job in (*keepers, watch):
            job.cancel()
        await self._end()
        return self._status

    async def _begin(self) -> None:
        """Start the first worker alone: what is wrong with this relay it says once, and it prepares the store."""
        self._later(self._keep(0))
        await self._until_ready([0])
        self._has_begun = True
        path = self._bootstrap.settings.database_path
        self._bootstrap = replace(self._bootstrap, store=file_number(path) if path else None)
        others = range(1, self._bootstrap.place.total)
        for index in others:
            self._later(self._keep(index))
        await self._until_ready(others)
        self._is_serving = True
        await self._systemd.ready(self._summary())
        if self._is_reload_due:
            await self._reload()

    async def _until_ready(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            await self._ready[index].wait()

    async def _keep(self, index: int) -> None:
        """Keep one place filled for as long as the relay serves."""
        life, pause, turning_away = 0, _FIRST_PAUSE, TurningAway(self._doors.own(index))
        while not self._stop.is_set():
            life, began = life + 1, time.monotonic()
            place = replace(self._bootstrap.place, index=index, life=life)
            bootstrap = replace(self._bootstrap, place=place, descriptors=self._doors.of(index))
            try:
                worker = await Worker.start(bootstrap, self._ready[index])
            except OSError as error:  # the machine has no room for another process just now
                log.broken(f"worker {index} cannot be started: {error.strerror}; it is tried again")
            else:
                status = await self._last(worker, turning_away)
                if self._stop.is_set():
                    turning_away.end()
                    return
                if not self._has_begun:  # it has said why
                    self._status = status if status > 0 else 1
                    self._stop.set()
                    return
                log.broken(f"worker {index} (process {worker.pid}) {_how(status)}; another takes its place")
            pause = _FIRST_PAUSE if time.monotonic() - began > _LONG_LIFE else min(2 * pause, _LONGEST_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()

    async def _last(self, worker: Worker, turning_away: TurningAway) -> int:
        """Let a worker be one of the relay until it ends; return its exit status.

        One that ends before it serves, though others do, cannot begin just now: nobody is to wait for it.
        """
        self._workers.add(worker)
        worker.on_status = self._status_changed
        if self._stop.is_set():  # it was started while the others were told to end
            worker.signal(signal.SIGTERM)
        hearing = asyncio.create_task(worker.hear(self._workers.pass_on))
        is_ready = self._ready[worker.index]
        leaving = asyncio.create_task(_when(is_ready, turning_away.end))
        status = await worker.ended()
        leaving.cancel()
        await hearing
        if self._has_begun and not is_ready.is_set():
            turning_away.begin()
        self._workers.remove(worker)
        self._ready[worker.index].clear()
        self._status_changed()
        return status

    async def _watch(self) -> None:
        """Replace a worker that hangs, and tell systemd that we live."""
        looked = fed = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            if now - looked > 2 * _LOOK_SECONDS:  # it was we who were stopped
                self._workers.excuse()
            looked = now
            for worker in self._workers:
                if worker.silent_seconds > self._bootstrap.beat_seconds:
                    log.broken(f"worker {worker.index} has said nothing for {worker.silent_seconds:.0f} s")
                    worker.signal(signal.SIGKILL)
            self._workers.tell_dropped(log.dropped_lines())
            is_due = self._systemd.watchdog_seconds and now - fed >= self._systemd.watchdog_seconds / 2 - _LOOK_SECONDS
            if is_due and any(worker.was_heard for worker in self._workers):
                fed = now
                await self._systemd.alive()

    async def _reload(self) -> None:
        if not self._is_serving:
            self._is_reload_due = True
            return
        await self._systemd.reloading()
        workers = list(self._workers)
        for worker in workers:
            worker.is_ready.clear()
            worker.signal(signal.SIGHUP)
        with suppress(TimeoutError):
            async with asyncio.timeout(_RELOAD_SECONDS):
                for worker in workers:
                    await worker.is_ready.wait()
        if self._is_serving:
            await self._systemd.ready(self._summary())

    async def _end(self) -> None:
        """End all workers in order; one that takes too long is killed."""
        self._doors.close()
        await self._systemd.stopping("ending what is under way")
        self._workers.signal(signal.SIGTERM)
        if self._jobs:
            await asyncio.wait(set(self._jobs), timeout=_STOP_SECONDS)
        self._workers.signal(signal.SIGKILL)
        if self._jobs:
            await asyncio.wait(set(self._jobs))

    def _status_changed(self) -> None:
        """Let `systemctl status` show how we are."""
        if self._is_serving and self._summary() != self._told:
            self._told = self._summary()
            self._later(self._systemd.status(self._told))

    def _summary(self) -> str:
        return f"{self._workers.status}; {self._bootstrap.place.total} workers"

    def _later(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)


def supervise(settings: Settings, settings_file: Path | None) -> int:
    """Run a relay with several workers until it is told to stop, and return its exit status."""
    fill_standard_streams()
    log.configure(settings.log.format, settings.log.level)
    log.print_behind()
    os.umask(0o077)
    systemd, total = from_environment(os.environ, os.getpid()), settings.worker_count
    try:
        with WorkerSockets(settings, PassedSockets(systemd.descriptors), total) as doors:
            return asyncio.run(Supervisor(settings, settings_file, doors, total, systemd).run())
    except ListenError as error:
        if sys.stderr is not None:
            sys.stderr.write(f"{error}\n")
        return 1


async def _when(event: asyncio.Event, do: Callable[[], None]) -> None:
    await event.wait()
    do()


def _how(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
