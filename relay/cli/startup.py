"""The command line before the commands are loaded: where `--config` stands, and which commands need no others.

`relay serve` runs without the other commands, which would stay in memory for as long as it runs.
"""

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

COMPLETING = "_RELAY_COMPLETE"
"""The variable in which a shell asks what may stand here, instead of running it."""


def for_sendmail(words: Sequence[str]) -> Sequence[str] | None:
    """Return what stands behind `sendmail` where that is the command, with or without `--config FILE`; else None."""
    skipped = 2 if words[:1] == ["--config"] else int(bool(words) and words[0].startswith("--config="))
    return words[skipped + 1 :] if words[skipped : skipped + 1] == ["sendmail"] else None


def is_serve(words: Sequence[str]) -> bool:
    """Whether the command is `serve`, with or without `--config FILE`, and nothing else is said."""
    return _apart(words)[1] == ["serve"]


def config_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `--config FILE` in front, wherever it stood before a `--`."""
    front, rest = _apart(arguments)
    return front + rest


def config_of(arguments: Sequence[str]) -> Path | None:
    """Return the settings file that arguments name which begin with `--config`; the last one counts."""
    named: str | None = None
    for before, argument in pairwise(["", *arguments]):
        if before == "--config":
            named = argument
        elif argument.startswith("--config="):
            named = argument.removeprefix("--config=")
        elif argument != "--config":
            break
    return None if named is None else Path(named)


def _apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return each `--config FILE` before a `--`, and the rest."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif argument == "--config":
            value = next(remaining, None)
            (rest if value is None else front).extend([argument] if value is None else [argument, value])
        elif argument.startswith("--config="):
            front.append(argument)
        else:
            rest.append(argument)
    return front, rest


def run_serve(arguments: Sequence[str]) -> int:
    """Run the relay that a command line means, and return its exit code."""
    from relay.cli.output import failed
    from relay.config.machine import find_settings_file

    config = config_of(config_first(arguments))
    try:
        return serve(find_settings_file(config))
    except Exception as error:
        return failed(error, config, as_json=False)


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


def _load() -> Callable[..., int]:
    """Return what runs the relay; to load it takes most of the time until that is there."""
    from relay.system.process import loading

    with loading():
        from relay.app.process import run as run_process

    return run_process


def _speaks_of_workers(settings_file: Path | None) -> bool:
    """Whether there may be several: then this process is not one of them, and must not load what they need."""
    if "RELAY_WORKERS" in os.environ:
        return True
    try:
        return settings_file is not None and b"workers" in settings_file.read_bytes()
    except OSError:
        return False  # who reads it says what is wrong
