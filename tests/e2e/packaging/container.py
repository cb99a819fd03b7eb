"""The Containerfile and the service of compose.yaml, read; and done without a container engine, line by line.

`python -m tests.e2e.packaging.container IMAGE`, by the command line of `overlay.apart`: on a machine with Debian it
does what makes the image from what was built (the folder IMAGE), and runs it as an engine would: by itself, as
compose.yaml says and as the chart makes pods; in both, nothing but the volume and what is in memory can be written.
What apt-get would bring is there already, or it fails. It ends with 0 when all of that went well.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import yaml  # type: ignore[import-untyped]

from tests.e2e.packaging.chart import environment, pod
from tests.e2e.packaging.overlay import Overlay, overlay
from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient
from tests.peers.system import run, wait_until

FOLDER = Path(__file__).parents[3] / "etc/packaging"
FILE = FOLDER / "Containerfile"
COMPOSE = FOLDER / "compose.yaml"
Health: TypeAlias = Callable[[Overlay], bool]


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
    """Make it, run it, ask how it is, and end it; and once more as compose.yaml has it, and as a pod."""
    with overlay() as machine:
        for name, rest in last_stage():
            if name == "COPY":
                copied = run(["cp", "-a", f"{image}/.", str(machine.root)])
                assert copied.status == 0, copied.text
            elif name == "RUN" and not rest.startswith("apt-get "):
                machine.do("sh", "-ec", rest)
        _serve(machine, {}, _says(json.loads(value("HEALTHCHECK").removeprefix("CMD "))))
        service = composed()
        assert service["read_only"]
        assert [one.partition(":")[2] for one in service["volumes"]] == [value("VOLUME")]
        instruction, *health = service["healthcheck"]["test"]
        assert instruction == "CMD"
        with _confined(machine, {value("VOLUME"): "uid=2525,gid=2525,mode=0700", **_in_memory(service["tmpfs"])}):
            _serve(machine, service["environment"], _says(health))
        _serve_pod(machine)


def _serve_pod(machine: Overlay) -> None:
    """Run what is in a pod of the chart. Its volume is the group's, as Kubernetes makes it by fsGroup."""
    template = pod()
    (first,), (container,) = template["initContainers"], template["containers"]
    places = {one["mountPath"]: "gid=2525,mode=2775" for one in container["volumeMounts"]}
    probes = [container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    with _confined(machine, places):
        machine.do(*first["command"], user="2525")
        _serve(machine, environment(container), lambda _: all(_answers(path) for path in probes))


def _answers(path: str) -> bool:
    """Whether a probe is answered that comes from the machine of the pod, by its address."""
    request = urllib.request.Request(f"http://127.0.0.1:8025{path}", headers={"Host": "10.244.1.7:8025"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bool(answer.status == 200)


def _says(command: Sequence[str]) -> Health:
    return lambda machine: bool(machine.do(*command, user="2525"))


def _in_memory(places: Sequence[str]) -> dict[str, str]:
    """Return the options of tmpfs by its place, as Compose writes both."""
    return {place: options for place, _, options in (one.partition(":") for one in places)}


@contextmanager
def _confined(machine: Overlay, places: Mapping[str, str]) -> Iterator[None]:
    """Let nothing be written there but in new volumes, by their places and options."""
    _mount("--rbind", str(machine.root), str(machine.root))
    for place, options in places.items():
        _mount("-t", "tmpfs", "-o", options, "none", str(machine.path(place)))
    _mount("-o", "remount,bind,ro", str(machine.root))
    assert machine.try_("touch", "/etc/relay/new").status != 0
    yield
    done = run(["umount", "--recursive", str(machine.root)])
    assert done.status == 0, done.text


def _mount(*arguments: str) -> None:
    done = run(["mount", *arguments])
    assert done.status == 0, done.text


def _serve(machine: Overlay, variables: Mapping[str, str], is_well: Health) -> None:
    user, _, group = value("USER").partition(":")
    command = [*json.loads(value("ENTRYPOINT")), *json.loads(value("CMD"))]
    as_user = ("chroot", "--userspec", f"{user}:{group}", "--groups=", str(machine.root))
    # Nothing comes from the folder, home or terminal of whoever starts a container.
    given = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **variables}
    with subprocess.Popen([*as_user, *command], env=given) as process:
        try:
            wait_until(_greets, "the service in the container")
            assert is_well(machine)
            kept = machine.path(variables.get("RELAY_STATE_DIR", value("VOLUME")))
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
