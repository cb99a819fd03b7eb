"""`relay serve` without the other commands, which would stay in memory for as long as it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli.arguments import config_first, config_of
from relay.cli.failures import failed
from relay.loading import loading
from relay.machine import find_settings_file

if TYPE_CHECKING:
    from relay.settings import Settings


def run(arguments: Sequence[str]) -> int:
    """Run the relay that a command line means, and return its exit code."""
    from relay.settings import load_settings

    first = config_first(arguments)
    try:
        settings_file = find_settings_file(config_of(first))
        return serve(load_settings(settings_file), settings_file)
    except Exception as error:
        return failed(error, first)


def serve(settings: "Settings", settings_file: Path | None) -> int:
    """Run a relay until it is told to stop, and return its exit code."""
    if settings.worker_count > 1:
        from relay.workers.supervisor import supervise

        return supervise(settings, settings_file)
    from relay.directory.apart import Apart

    with Apart() as apart:
        apart.begin(settings.directory_path)
        with loading():
            from relay.process import run as run_process

        return run_process(settings, settings_file, apart)
