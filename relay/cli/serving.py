"""`relay serve` without the other commands, which would stay in memory for as long as it runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli.arguments import config_first, config_of
from relay.cli.failures import failed
from relay.config.machine import find_settings_file
from relay.system.interpreter import loading

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.directory.reader_process import ReaderProcess


def run(arguments: Sequence[str]) -> int:
    """Run the relay that a command line means, and return its exit code."""
    first = config_first(arguments)
    try:
        return serve(find_settings_file(config_of(first)))
    except Exception as error:
        return failed(error, first)


def serve(settings_file: Path | None) -> int:
    """Run a relay until it is told to stop, and return its exit code. Raises Faults."""
    from relay.directory.reader_process import ReaderProcess

    with ReaderProcess() as apart:
        apart.begin(settings_file)
        if not _speaks_of_workers(settings_file):
            _load()  # while the files are read
        settings = apart.settings(settings_file)
        if settings.worker_count == 1:
            return _load()(settings, settings_file, apart)
    from relay.cluster.supervisor import supervise

    return supervise(settings, settings_file)


def _load() -> "Callable[[Settings, Path | None, ReaderProcess], int]":
    with loading():
        from relay.app.process import run as run_process

    return run_process


def _speaks_of_workers(settings_file: Path | None) -> bool:
    """Whether there may be several: then this process is not one of them, and must not load what they need."""
    try:
        return settings_file is not None and b"workers" in settings_file.read_bytes()
    except OSError:
        return False  # who reads it says what is wrong
