"""Run as a program: `change_and_die.py FILE STEP` changes a directory file and is killed at a step of the writing."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from relay.directory import file as module
from relay.directory.kinds import set_default


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    path, step = Path(sys.argv[1]), sys.argv[2]
    if step == "fsync":
        os.fsync = die
    elif step == "rename":
        Path.replace = die  # type: ignore[method-assign]
    elif step == "folder":
        module.sync_folder = die  # type: ignore[attr-defined]
    module.DirectoryFile(path).change(lambda document: set_default(document, "shared"))
