"""What `make install DESTDIR=FOLDER PREFIX=/opt/relay` has put into a folder, on a machine: it runs, and goes again.

`python -m tests.e2e.packaging.local_install FOLDER`, by the command line of `overlay.apart`. It ends with 0 when that
was so.
"""

import sys
from pathlib import Path

from tests.e2e.packaging.overlay import overlay
from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient
from tests.peers.system import run, wait_until

ROOT = Path(__file__).parents[3]
UNITS = "/etc/systemd/system"


def main(folder: str) -> None:
    """Put it there, look at it, and take it away."""
    with overlay() as machine:
        machine.do("useradd", "--create-home", "jane")
        copied = run(["cp", "-a", f"{folder}/.", str(machine.root)])
        assert copied.status == 0, copied.text
        machine.do("systemd-sysusers")
        machine.do("systemd-tmpfiles", "--create", "relay.conf")
        machine.do("install", "-d", "-o", "relay", "-g", "relay", "-m", "0700", "/var/lib/relay")  # StateDirectory=
        machine.verify_units(UNITS)
        version = machine.do("/opt/relay/bin/relay", "--version")
        assert machine.do("/opt/relay/bin/relay", "--version", user="jane") == version
        machine.say("both users can run it")

        with machine.service(machine.upper.parent / "log", unit=f"{UNITS}/relay.service"):
            wait_until(greets, "the service")
            assert machine.path("/run/relay/submit.sock").is_socket(), "where docs/sendmail.md says"
            assert "takes" not in machine.do("/opt/relay/bin/relay", "status")
            sent = machine.try_("/opt/relay/bin/relay-sendmail", "you@customer.example", user="jane", data="hello\n")
            assert (sent.status, "5.1.8" in sent.err or "5.7.1" in sent.err) == (77, True), sent
        machine.say("the service runs by its unit, and hears jane")

        given = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PREFIX": "/opt/relay", "DESTDIR": str(machine.root)}
        done = run(["sh", str(ROOT / "etc/packaging/uninstall.sh")], env=given)
        assert done.status == 0, done.text
        left = [name for name in machine.written("relay") if not name.startswith(("var/lib/relay", "run/relay"))]
        assert left == ["etc/relay", "etc/relay/relay.toml"], left
        machine.say("it is gone but for settings and state")


def greets() -> bool:
    """Whether the service answers."""
    try:
        with RawClient(Endpoint(port=2525)):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
