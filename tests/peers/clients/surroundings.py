"""What a client finds around it: nobody's home folder, and no password on its command line."""

import os
from collections.abc import Mapping

_OUR_OWN = {"HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
SECONDS = 30.0


def surroundings(**more: str) -> Mapping[str, str]:
    """An environment that names no configuration of the person who runs the tests, with `more` beside."""
    return {"PATH": os.environ.get("PATH", os.defpath), **_OUR_OWN, **more}
