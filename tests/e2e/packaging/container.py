"""The Containerfile and the service of compose.yaml, read; and done without a container engine, line by line.

`python -m tests.e2e.packaging.container IMAGE`, by the command line of `overlay.apart`: on a machine with Debian it
does what makes the image from what was built (the folder IMAGE), and runs it as an engine would: by itself, and as
compose.yaml says, where nothing but the volume and what is in memory can be written. What apt-get would bring is there
already, or it fails. It ends with 0 when all of that went well.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.e2e.packaging.overlay import Overlay, overlay
from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient
from tests.peers.system import run, wait_until

FOLDER = Path(__file__).parents[3] / "etc/packaging"
FILE = FOLDER / "Containerfile"
COMPOSE = FOLDER / "compose.yaml"


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


def composed() -> dict[str, Any]:
    """The one service of compose.yaml."""
    ((name, service),) = yaml.safe_load(COMPOSE.read_text())["services"].items()
    assert name == "relay"
    return dict(service)


def main(image: str) -> None:
    """Make it, run it, ask how it is, and end it; and once more as compose.yaml has it."""
    with overlay() as machine:
        for name, rest in last_stage():
            if name == "COPY":
                copied = run(["cp", "-a", f"{image}/.", str(machine.root)])
                assert copied.status == 0, copied.text
            elif name == "RUN" and not rest.startswith("apt-get "):
                machine.do("sh", "-ec", rest)
        _serve(machine, {}, json.loads(value("HEALTHCHECK").removeprefix("CMD ")))
        service = composed()
        _confine(machine, service)
        instruction, *health = service["healthcheck"]["test"]
        assert instruction == "CMD"
        _serve(machine, service["environment"], health)


def _confine(machine: Overlay, service: Mapping[str, Any]) -> None:
    """Let nothing be written there but in the volume, which is new, and in memory."""
    assert service["read_only"]
    volume = machine.path(value("VOLUME"))
    assert [one.partition(":")[2] for one in service["volumes"]] == [value("VOLUME")]
    _mount("--rbind", str(machine.root), str(machine.root))
    _mount("-t", "tmpfs", "-o", "uid=2525,gid=2525,mode=0700", "none", str(volume))
    for one in service["tmpfs"]:
        place, _, options = one.partition(":")
        _mount("-t", "tmpfs", "-o", options, "none", str(machine.path(place)))
    _mount("-o", "remount,bind,ro", str(machine.root))
    assert machine.try_("touch", "/etc/relay/new").status != 0


def _mount(*arguments: str) -> None:
    done = run(["mount", *arguments])
    assert done.status == 0, done.text


def _serve(machine: Overlay, environment: Mapping[str, str], health: Sequence[str]) -> None:
    user, _, group = value("USER").partition(":")
    command = [*json.loads(value("ENTRYPOINT")), *json.loads(value("CMD"))]
    as_user = ("chroot", "--userspec", f"{user}:{group}", "--groups=", str(machine.root))
    # Nothing comes from the folder, home or terminal of whoever starts a container.
    given = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    with subprocess.Popen([*as_user, *command], env=given) as process:
        try:
            wait_until(_greets, "the service in the container")
            machine.do(*health, user=user)
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
