"""This machine once more, to install things in: an overlay of its running root, with processes and a network apart.

What is written goes to memory: it is gone in the end, and the machine itself has nothing of it. Only a program that was
started by `apart` may make one.
"""

import fcntl
import os
import re
import shlex
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.peers.packages import program
from tests.peers.system import Finished, run, running

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# netdevice(7).
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
# Linux, Documentation/admin-guide/devices.txt.
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
# What a relay of this machine may have, which the other one has not.
_OURS = ("/etc/relay", "/var/lib/relay", "/opt/relay", "/usr/local/bin/relay", "/usr/local/lib/relay")
PACKAGED_UNIT = "/usr/lib/systemd/system/relay.service"


def apart(module: str, *arguments: str) -> Sequence[str]:
    """Return the command line that runs a module of ours in namespaces of its own: mounts, processes and network."""
    spaces = ("--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc")
    return (program("unshare"), *spaces, sys.executable, "-m", module, *arguments)


class Overlay:
    """The other machine. `root` is where its files are seen from here, `upper` has only what is new in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.upper = folder / "upper"
        self._started = time.monotonic()

    def say(self, what: str) -> None:
        """Tell whoever watches how far we are."""
        sys.stdout.write(f"{time.monotonic() - self._started:5.1f} s  {what}\n")
        sys.stdout.flush()

    def try_(self, *argv: str, user: str = "root", data: str = "") -> Finished:
        """Run a program there to its end."""
        as_user = ("--userspec", f"{user}:{user}", "--groups=") if user != "root" else ()
        home = "/root" if user == "root" else f"/home/{user}"
        env = {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "USER": user}
        return run(["chroot", *as_user, str(self.root), *argv], data=data.encode(), env=env, seconds=90)

    def do(self, *argv: str, user: str = "root", data: str = "") -> str:
        """Run one that must succeed, and return what it printed."""
        done = self.try_(*argv, user=user, data=data)
        assert done.status == 0, f"{shlex.join(argv)} ended with {done.status}: {done.text}"
        return done.out

    def verify_units(self, folder: str) -> None:
        """Let systemd look through our units in a folder."""
        units = [f"{folder}/{path.name}" for path in self.path(folder).glob("relay*")]
        assert len(units) == 5
        done = self.try_("systemd-analyze", "verify", *units)
        assert (done.status, done.text) == (0, "")

    def path(self, name: str) -> Path:
        """Where an absolute path of that machine is seen from here; links in it are not followed."""
        return self.root / name.lstrip("/")

    def written(self, word: str) -> list[str]:
        """Return the files and folders that are new there and have a word in their path."""
        found = (str(path.relative_to(self.upper)) for path in self.upper.rglob("*"))
        # What is removed there and stays here has a mark in its place.
        return sorted(path for path in found if word in path and os.path.lexists(self.root / path))

    @contextmanager
    def service(
        self, log: Path, *before: str, environment: Mapping[str, str] | None = None, unit: str = PACKAGED_UNIT
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run the service by the command line of its unit, as systemd would: its user, and no privilege.

        `before`: the command line of a program that runs it, and becomes it.
        """
        text = self.path(unit).read_text()
        command = shlex.split(self._value(text, "ExecStart"))
        user = self._value(text, "User")
        assert self._value(text, "CapabilityBoundingSet") == ""
        given = {
            "PATH": PATH,
            "RUNTIME_DIRECTORY": f"/run/{self._value(text, 'RuntimeDirectory')}",
            "STATE_DIRECTORY": f"/var/lib/{self._value(text, 'StateDirectory')}",
            **(environment or {}),
        }
        variables = [f"{name}={value}" for name, value in given.items()]
        powerless = (
            "setpriv",
            "--reuid",
            user,
            "--regid",
            user,
            "--clear-groups",
            "--no-new-privs",
            "--bounding-set=-all",
        )
        masked = ("sh", "-c", f'umask {self._value(text, "UMask")}; exec "$@"', "sh")
        # A program before it gives its child few variables of its own, so env comes behind.
        argv = ("chroot", str(self.root), *before, "env", *variables, *powerless, *masked, *command)
        with running(argv, log, env={"PATH": PATH}) as process:
            yield process

    @staticmethod
    def _value(text: str, key: str) -> str:
        (value,) = re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)
        return str(value)


@contextmanager
def overlay() -> Iterator[Overlay]:
    """Make one. Needs the namespaces of `apart`."""
    _open_loopback()
    folder = Path(tempfile.mkdtemp(prefix="overlay-"))
    # Memory, because an overlay wants a file system below it that is none itself.
    _mount("-t", "tmpfs", "-o", "mode=0755", "none", str(folder))
    made = Overlay(folder)
    try:
        for inner in (made.root, made.upper, folder / "work"):
            inner.mkdir()
        options = f"lowerdir=/,upperdir={made.upper},workdir={folder}/work"
        _mount("-t", "overlay", "-o", options, "none", str(made.root))
        _mount("-t", "proc", "none", str(made.root / "proc"))
        for name, mode in (("dev", "0755"), ("run", "0755"), ("tmp", "1777")):
            _mount("-t", "tmpfs", "-o", f"mode={mode}", "none", str(made.root / name))
        _make_devices(made.root / "dev")
        made.do("rm", "-rf", *_OURS)
        yield made
    finally:
        # Nothing is removed by its path: with what is mounted there it could be the machine's. The mounts are gone with
        # the namespace at the latest.
        run(["umount", "--recursive", "--lazy", str(folder)])
        with suppress(OSError):
            folder.rmdir()


def _make_devices(folder: Path) -> None:
    """Make the devices that every program counts on; others could change this machine."""
    for name, (major, minor) in _DEVICES.items():
        os.mknod(folder / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        (folder / name).chmod(0o666)
    (folder / "fd").symlink_to("/proc/self/fd")


def _mount(*arguments: str) -> None:
    done = run(["mount", *arguments])
    assert done.status == 0, done.text


def _open_loopback() -> None:
    """Let 127.0.0.1 work in a network namespace that is new."""
    assert os.geteuid() == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
