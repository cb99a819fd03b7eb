"""The process of one worker, where a relay has several: `python -m relay.app.worker`, started by the supervisor."""

import sys

from relay.cluster.bootstrap import Bootstrap, end_with, read_bootstrap
from relay.directory.reader_process import ReaderProcess
from relay.system.process import loading


def main() -> int:
    """Serve in the place that the supervisor names; return the exit status."""
    bootstrap: Bootstrap = read_bootstrap()
    end_with(bootstrap.supervisor)
    with ReaderProcess() as apart:
        if bootstrap.place.is_first and not bootstrap.settings.is_directory_stored:
            apart.begin_directory(bootstrap.settings.directory_path)
        with loading():
            from relay.app.process import work  # noqa: PLC0415  the directory is read meanwhile
        return work(bootstrap, apart)


if __name__ == "__main__":
    sys.exit(main())
