"""The Helm chart, rendered by render.go: Go's own templates, with what Helm gives them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.peers.clients.libraries import GO_ENVIRONMENT
from tests.peers.clients.surroundings import surroundings
from tests.peers.packages import program
from tests.peers.system import Finished, run

CHART = Path(__file__).parents[3] / "etc/packaging/chart"
RELEASE = "mail"
_RENDER = Path(__file__).with_name("render.go")


def values(**changed: Any) -> dict[str, Any]:
    """Return values.yaml with other values in it."""
    return {**yaml.safe_load((CHART / "values.yaml").read_text()), **changed}


def render(template: str, given: Mapping[str, Any]) -> Finished:
    """Render one template of the chart by the values."""
    text = json.dumps({"Values": given, "Release": {"Name": RELEASE, "Namespace": "post"}})
    argv = [program("go"), "run", str(_RENDER), str(CHART / "templates" / template)]
    return run(argv, data=text.encode(), env=surroundings(**GO_ENVIRONMENT), seconds=120)


def rendered(given: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what the chart makes of values, by kind and name."""
    found = {}
    for template in sorted(path.name for path in (CHART / "templates").glob("*.yaml")):
        done = render(template, given)
        assert done.status == 0, done.text
        for made in yaml.safe_load_all(done.out):
            if made is not None:
                found[made["kind"], made["metadata"]["name"]] = made
    return found


def pod() -> dict[str, Any]:
    """Return how a pod is made by the values that come with the chart."""
    return dict(rendered(values())["StatefulSet", RELEASE]["spec"]["template"]["spec"])


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of a container; those that the cluster would know have a value here, too."""
    return {one["name"]: one.get("value", f"{RELEASE}-0") for one in container["env"]}
