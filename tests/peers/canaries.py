"""Passwords that a test can find again: every password of the end-to-end tests begins with one mark.

The mark is letters and digits, so that quoting for URLs, JSON, Python and quoted-printable leaves it as it is. As
base64 it has three faces, by where in a text it stands: "\\0user\\0password" of AUTH PLAIN, the password alone of AUTH
LOGIN, or anything else that someone encodes it with.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = "kanarie7Qx2Zr9"
# Lines are wrapped, folded and, in quoted-printable, broken after "=": the mark may go over such a place.
_BETWEEN = b"=\r\n\t "


def canary(whose: str) -> str:
    """Return a password: the same for the same name, with everything in it that somebody may have to quote."""
    return f"{MARK} {whose}'s/+\"%&<>\\ end"


def plain_canary(whose: str) -> str:
    """Return a password without anything to quote, for programs that cannot be given any other."""
    return f"{MARK}-{whose}"


def leaks_in(data: bytes) -> list[str]:
    """Return in which forms a canary is in the data; empty where none is."""
    joined = data.translate(None, _BETWEEN)
    return sorted({form for form, face in _FACES if face in data or face in joined})


def leaking_files(folder: Path, *, but: Iterable[str] = ()) -> list[str]:
    """Return "PATH: FORMS" for each file below a folder that holds a canary. `but` are names of files to leave out."""
    left_out = frozenset(but)
    return _leaking(path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in left_out)


def leaks_of_process(pid: int) -> list[str]:
    """Return the same for the arguments and the environment of a process, which others can see."""
    return _leaking(Path(f"/proc/{pid}/{name}") for name in ("cmdline", "environ"))


def _leaking(paths: Iterable[Path]) -> list[str]:
    return [f"{path}: {', '.join(forms)}" for path in paths if (forms := leaks_in(_read(path)))]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # gone meanwhile: what is not there tells nothing
        return b""


def _faces() -> Iterator[tuple[str, bytes]]:
    mark = MARK.encode()
    yield "plain", mark
    yield "reversed", mark[::-1]
    yield "hex", mark.hex().encode()
    yield "utf-16", MARK.encode("utf-16-le")
    for skipped in range(3):
        # Only groups of three that the mark fills alone look the same whatever stands around it.
        whole = mark[skipped : skipped + (len(mark) - skipped) // 3 * 3]
        yield "base64", b64encode(whole)


# In capitals, too: a verb of SMTP is made so, and what comes at the wrong moment is taken for one.
_FACES = tuple((form, way) for form, face in _faces() for way in (face, face.upper()))

RIGHT = canary("right")
WRONG = canary("wrong")
