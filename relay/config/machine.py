"""What the settings take from the machine where the file says nothing: its name, the folders and file of this user."""

import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from relay.config.endpoint import is_host_name

SYSTEM_STATE = Path("/var/lib/relay")
SYSTEM_RUNTIME = Path("/run/relay")
NO_HOME = Path("/nonexistent")  # as Debian calls it in passwd(5)
SYSTEM_SETTINGS = Path("/etc/relay/relay.toml")


@cache
def machine_name() -> str:
    """Return this machine's full name, or the best that it knows of itself; "localhost" only as the last resort.

    It may ask DNS, once; so commands, which need no name, do not call it.
    """
    names = [name for name in (socket.getfqdn(), socket.gethostname()) if is_host_name(name)]
    return next((name for name in names if not name.startswith("localhost")), "localhost")


def short_machine_name() -> str:
    """Return what this machine calls itself. Asks nobody."""
    return socket.gethostname() or "localhost"


def home(environ: Mapping[str, str]) -> Path:
    """Return the user's own folder; for a user whom the system does not know, one that is not there."""
    try:
        return Path(environ.get("HOME") or Path.home())
    except RuntimeError:
        return NO_HOME


def find_settings_file(explicit: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the settings file: --config, $RELAY_CONFIG, the user's, the system's; None where there is none."""
    named = explicit or environ.get("RELAY_CONFIG")
    if named:
        return Path(named)
    candidates = (home(environ) / ".config/relay/relay.toml", SYSTEM_SETTINGS)
    return next((path for path in candidates if path.exists()), None)


def default_state_dir(environ: Mapping[str, str], user: int) -> Path:
    """Return where state is kept: the system's folder for root and the service's user, else the user's own."""
    from_systemd = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if from_systemd:
        return Path(from_systemd)
    if user == 0 or _owner(SYSTEM_STATE) == user:
        return SYSTEM_STATE
    return home(environ) / ".local/share/relay"


def default_runtime_dir(environ: Mapping[str, str], state_dir: Path) -> Path:
    """Return where the sockets are.

    /run/relay belongs to the relay whose state is in /var/lib/relay: another one (a second instance, a person's own)
    keeps its sockets beside its state, so that two never meet at one socket.
    """
    from_systemd = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if from_systemd:
        return Path(from_systemd)
    if state_dir == SYSTEM_STATE and os.access(SYSTEM_RUNTIME, os.W_OK | os.X_OK):
        return SYSTEM_RUNTIME
    return state_dir


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None
