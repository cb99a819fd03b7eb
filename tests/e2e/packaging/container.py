"""The Containerfile, read; and its last part done without a container engine, line by line.

`python -m tests.e2e.packaging.container IMAGE`, by the command line of `overlay.apart`: on a machine with Debian it
does what makes the image from what was built (the folder IMAGE), and runs it as an engine would. What apt-get would
bring is there already, or it fails. It ends with 0 when all of that went well.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from tests.e2e.packaging.overlay import Overlay, overlay
from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient
from tests.peers.system import run, wait_until

FILE = Path(__file__).parents[3] / "etc/packaging/Containerfile"


def instructions() -> list[tuple[str, str]]:
    """The lines of the Containerfile: instruction and the rest."""
    lines = (line for line in FILE.read_text().splitlines() if line and not line.startswith("#"))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def last_stage() -> list[tuple[str, str]]:
    """Those that make the image."""
    lines = instructions()
    return lines[max(index for index, (name, _) in enumerate(lines) if name == "FROM") + 1 :]


def value(wanted: str) -> str:
    """The rest of the one line of the image with an instruction."""
    (rest,) = (rest for name, rest in last_stage() if name == wanted)
    return rest


def main(image: str) -> None:
    """Make it, run it, ask how it is, and end it."""
    with overlay() as machine:
        for name, rest in last_stage():
            if name == "COPY":
                copied = run(["cp", "-a", f"{image}/.", str(machine.root)])
                assert copied.status == 0, copied.text
            elif name == "RUN" and not rest.startswith("apt-get "):
                machine.do("sh", "-ec", rest)
        _serve(machine)


def _serve(machine: Overlay) -> None:
    user = value("USER")
    command = [*json.loads(value("ENTRYPOINT")), *json.loads(value("CMD"))]
    as_user = ("chroot", "--userspec", f"{user}:{user}", "--groups=", str(machine.root))
    # Nothing comes from the folder, home or terminal of whoever starts a container.
    with subprocess.Popen([*as_user, *command], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}) as process:
        try:
            wait_until(_greets, "the service in the container")
            machine.do(*shlex.split(" ".join(json.loads(value("HEALTHCHECK").removeprefix("CMD ")))), user=user)
            kept = machine.path(value("VOLUME"))
            assert (kept / "relay.db").stat().st_uid == kept.stat().st_uid == 2525
        finally:
            process.terminate()
        assert (value("STOPSIGNAL"), process.wait(40)) == ("SIGTERM", 0)


def _greets() -> bool:
    try:
        with RawClient(Endpoint(port=2525)):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
