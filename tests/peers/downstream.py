"""Mail servers that have the relay as their smarthost: Debian's own packages, in an overlay of this machine.

They cannot be installed beside Postfix, so tests/packages.txt has their packages as files, and each is installed where
it is used. `python -m tests.peers.downstream NAME PORT SENDER TO` runs in a mount namespace of its own: it sends one
message, and the mail server goes on until SIGTERM.
"""

import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.packaging.overlay import PATH, Overlay, overlay
from tests.peers.packages import program
from tests.peers.system import free_port, private_folder, running, wait_until

_DOCS = Path(__file__).parent.parent.parent / "docs/mail-servers.md"
_MESSAGE = "From: {sender}\nTo: {to}\nSubject: hello\n\nhello\n"


def documented(server: str, port: int) -> str:
    """Return the settings that docs/mail-servers.md has for a mail server, with this port of the relay."""
    (block,) = re.findall(rf"^## {server}\n.*?```\n(.*?)```", _DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert block.count("2525") == 1
    return str(block.replace("2525", str(port)))


@contextmanager
def downstream(name: str, port: int, sender: str, to: str) -> Iterator[Path]:
    """Run one of `SERVERS`, which sends a message by the relay at this port; gives the file with what it says."""
    with private_folder(name) as folder:
        command = (program("unshare"), "--mount", sys.executable, "-m", __spec__.name, name, str(port), sender, to)
        with running(command, folder / "said"):
            yield folder / "said"


def _exim(machine: Overlay, port: int) -> Sequence[str]:
    machine.path("/etc/exim4/update-exim4.conf.conf").write_text(documented("Exim", port))
    for command in re.findall(r"^(?:sed|update-exim4\.conf).*$", _DOCS.read_text(), re.MULTILINE):
        machine.do("sh", "-c", command)
    return ("/usr/sbin/exim4", "-bdf", "-q1s", "-oX", str(free_port()))


def _nullmailer(machine: Overlay, port: int) -> Sequence[str]:
    machine.path("/etc/nullmailer/remotes").write_text(documented("nullmailer", port))
    machine.path("/etc/nullmailer/me").write_text("mail.acmejets.example\n")
    return ("setpriv", "--reuid", "mail", "--regid", "mail", "--clear-groups", "/usr/sbin/nullmailer-send")


def _opensmtpd(machine: Overlay, port: int) -> Sequence[str]:
    machine.path("/etc/smtpd.conf").write_text(documented("OpenSMTPD", port))
    return ("/usr/sbin/smtpd", "-d")


# Of each the packages, and how it is set up and run.
SERVERS: dict[str, tuple[tuple[str, ...], Callable[[Overlay, int], Sequence[str]]]] = {
    "exim": (("exim4-base.deb", "exim4-config.deb", "exim4-daemon-light.deb"), _exim),
    "nullmailer": (("nullmailer.deb",), _nullmailer),
    "opensmtpd": (("opensmtpd.deb",), _opensmtpd),
}


def _install(machine: Overlay, packages: Sequence[str]) -> None:
    policy = machine.path("/usr/sbin/policy-rc.d")
    policy.write_text("#!/bin/sh\nexit 101\n")  # nothing is started by its package
    policy.chmod(0o755)
    machine.path("/etc/mailname").write_text("mail.acmejets.example\n")
    machine.do("dpkg", "--remove", "--force-depends", "postfix")
    machine.do("dpkg", "--install", "--force-depends", *(program(package) for package in packages))


def _main(name: str, port: str, sender: str, to: str) -> None:
    packages, set_up = SERVERS[name]
    with overlay() as machine:
        _install(machine, packages)
        command = set_up(machine, int(port))
        # Our own search path may have folders that are not there.
        with running(["chroot", str(machine.root), *command], Path("/dev/stderr"), env={"PATH": PATH}):
            sendmail = ("/usr/sbin/sendmail", "-f", sender, to)
            message = _MESSAGE.format(sender=sender, to=to)
            wait_until(lambda: machine.try_(*sendmail, data=message).status == 0, f"{name} takes the message")
            signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    _main(*sys.argv[1:])
