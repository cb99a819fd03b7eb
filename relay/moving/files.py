"""Reads the files of Postfix and msmtp. The one place here with I/O.

A table whose text is gone is asked of `postmap -s`, where there is one. Nothing else is ever run.
"""

import os
import socket
import subprocess
from pathlib import Path

from relay.moving.found import CannotRead, Found
from relay.moving.msmtp import read_msmtp
from relay.moving.postfix import read_postfix
from relay.moving.postfix_settings import TableUnavailable

# A main.cf has some kilobytes; a table of ten thousand senders less than one megabyte.
_MOST_BYTES = 64 * 1024**2
_POSTMAP_SECONDS = 20
_SYSTEM_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin"


def find_postfix(path: Path) -> Found:
    """Return what a main.cf, or the folder that holds it, says. Raises CannotRead."""
    file = path / "main.cf" if path.is_dir() else path
    folder = file.absolute().parent

    def source(kind: str, name: str) -> tuple[str, str]:
        return _table(kind, folder / name, folder)

    return read_postfix(_text(file), str(file.absolute()), source, _host_name())


def find_msmtp(path: Path) -> Found:
    """Return what a msmtprc says. Raises CannotRead."""
    if path.is_dir():
        raise CannotRead(f"{path} is a folder; name the file, such as ~/.msmtprc or /etc/msmtprc")
    return read_msmtp(_text(path), str(path), str(Path.home()))


def _host_name() -> str:
    """Return what Postfix takes for myhostname by itself: the system's name, and a domain where it has none."""
    name = socket.gethostname()
    return name if "." in name else f"{name}.localdomain"


def _text(path: Path) -> str:
    """Return the text of a file; octets that are no UTF-8 are kept as they are, for whoever cares about that value."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CannotRead(f"{path}: it cannot be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise CannotRead(f"{path}: it is too long for a file of settings")
    if b"\0" in content:
        raise CannotRead(f"{path}: it is not text")
    return content.decode(errors="replace").replace("\r\n", "\n")


def _table(kind: str, path: Path, folder: Path) -> tuple[str, str]:
    try:
        return _text(path), str(path)
    except CannotRead as error:
        if kind in {"texthash", "file"} or path.exists():
            raise TableUnavailable(str(error)) from None
    spec = f"{kind}:{path}"
    command = ["postmap", "-c", str(folder), "-s", spec]
    search = f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}"
    try:
        done = subprocess.run(  # noqa: S603 - the program is fixed, the path is one of main.cf
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_POSTMAP_SECONDS,
            check=False,
            env={**os.environ, "PATH": search},
        )
    except (OSError, subprocess.TimeoutExpired):
        raise TableUnavailable(f"{path} is not there, and postmap, which could read {spec}, is not, either") from None
    if done.returncode:
        raise TableUnavailable(f"{path} is not there, and postmap cannot read {spec}")
    return done.stdout.decode(errors="replace"), f"postmap -s {spec}"
