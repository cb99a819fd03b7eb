"""The process of one worker, where a relay has several: `python -m relay.app.worker`, started by the supervisor."""

import sys

from relay.directory.reader_process import Apart
from relay.system.import_tuning import loading
from relay.workers.beginning import Beginning, end_with, read_beginning


def main() -> int:
    """Serve in the place that the supervisor names; return the exit status."""
    beginning: Beginning = read_beginning()
    end_with(beginning.supervisor)
    with Apart() as apart:
        if beginning.index == 0 and not beginning.settings.is_directory_stored:
            apart.begin_directory(beginning.settings.directory_path)
        with loading():
            from relay.app.process import work  # noqa: PLC0415  the directory is read meanwhile
        return work(beginning, apart)


if __name__ == "__main__":
    sys.exit(main())
