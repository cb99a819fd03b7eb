"""System calls of a relay that fail for a while, as on a disk that is broken (libfiu)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.packages import program
from tests.peers.relay import Relay
from tests.peers.system import run

# For the mark `needs`.
NEEDS = ("fiu-run", "fiu-ctrl")
# errno(3): 30 EROFS.
READ_ONLY = "enable name=posix/io/rw/pwrite,failinfo=30"


def can_fail(prefix: Path) -> tuple[str, ...]:
    """Return the command line that runs a program whose calls can fail; `prefix`: where it is told so."""
    return (program("fiu-run"), "-x", "-f", str(prefix))


@contextmanager
def failing(relay: Relay, prefix: Path, *rules: str) -> Iterator[None]:
    """Let system calls of a relay that `can_fail` fail by these rules for a while."""
    assert relay.process is not None
    base, pid = [program("fiu-ctrl"), "-f", str(prefix)], str(relay.process.pid)
    names = [rule.partition("name=")[2].partition(",")[0] for rule in rules]

    def tell(*commands: str) -> None:
        done = run([*base, *(part for command in commands for part in ("-c", command)), pid])
        assert done.status == 0, done.text

    tell(*rules)
    yield
    tell(*(f"disable name={name}" for name in names))
