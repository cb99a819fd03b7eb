"""The Helm chart: what it makes is what Kubernetes takes, and the service in it is the one that the image has."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from relay import __version__
from relay.config.settings import load_settings
from tests.e2e.packaging.chart import CHART, RELEASE, environment, pod, render, rendered, values
from tests.e2e.packaging.container import composed, value

pytestmark = pytest.mark.needs("go")

OLDEST, NEWEST = "1.27", "1.37"
STORE = {"RELAY_STORE": "postgresql://relay@db.example/relay", "RELAY_DIRECTORY": "database"}
SECRETS = {"RELAY_MASTER_KEY": {"secret": "relay", "key": "master-key"}}
LARGER: dict[str, Any] = {
    "replicas": 3,
    "settings": {**values()["settings"], **STORE, "RELAY_WORKERS": 2, "RELAY_LOG__LEVEL": 'a "b"\\c: d\n# e'},
    "secrets": SECRETS,
    "service": {"type": "LoadBalancer", "annotations": {"a.example/b": "yes"}},
    "storage": {"size": "20Gi", "className": "fast"},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "mail", "operator": "Exists"}],
    "serviceMonitor": {"enabled": True, "interval": "1m", "tokenSecret": "metrics", "tokenKey": "token"},
}


@pytest.mark.parametrize("changed", [{}, LARGER], ids=["as it comes", "larger"])
def test_what_it_makes_is_what_kubernetes_takes(changed: dict[str, Any]) -> None:
    made = rendered(values(**changed))
    for (kind, _), one in made.items():
        if kind != "ServiceMonitor":  # a resource of the Prometheus operator, which Kubernetes does not know
            kubernetes_validate.validate(one, OLDEST, strict=True)
            kubernetes_validate.validate(one, NEWEST, strict=True)
    kinds = {kind for kind, _ in made}
    assert kinds - {"ServiceMonitor"} == {"Service", "StatefulSet", "PodDisruptionBudget"}
    assert ("ServiceMonitor" in kinds) == bool(changed)


def test_what_is_chosen_is_in_it() -> None:
    made = rendered(values(**LARGER))
    sets = made["StatefulSet", RELEASE]["spec"]
    (claim,) = sets["volumeClaimTemplates"]
    assert (sets["replicas"], claim["spec"]["storageClassName"]) == (3, "fast")
    template = sets["template"]["spec"]
    assert {key: template[key] for key in ("imagePullSecrets", "nodeSelector", "tolerations")} == {
        key: LARGER[key] for key in ("imagePullSecrets", "nodeSelector", "tolerations")
    }
    (container,) = template["containers"]
    variables = {one["name"]: one.get("value") or one["valueFrom"] for one in container["env"]}
    assert variables["RELAY_MASTER_KEY"] == {"secretKeyRef": {"name": "relay", "key": "master-key"}}
    assert {name: variables[name] for name in LARGER["settings"]} == {
        name: str(text) for name, text in LARGER["settings"].items()
    }
    service = made["Service", RELEASE]
    assert (service["spec"]["type"], service["metadata"]["annotations"]) == ("LoadBalancer", {"a.example/b": "yes"})
    (endpoint,) = made["ServiceMonitor", RELEASE]["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "metrics", "key": "token"}


def test_several_relays_without_one_store_are_refused() -> None:
    done = render("statefulset.yaml", values(replicas=2))
    assert done.status != 0
    assert "set settings.RELAY_STORE (docs/cluster.md), or replicas: 1" in done.err


def test_every_pod_is_found_by_what_looks_for_it() -> None:
    made = rendered(values(**LARGER))
    labels = made["StatefulSet", RELEASE]["spec"]["template"]["metadata"]["labels"]
    for (kind, _), one in made.items():
        if kind != "ServiceMonitor":
            selector = one["spec"]["selector"]
            assert selector.get("matchLabels", selector) == labels
    found = [one for (kind, _), one in made.items() if kind == "Service" and one["metadata"].get("labels") == labels]
    assert [one["metadata"]["name"] for one in found] == [RELEASE], "metrics are read of each pod once"
    (endpoint,) = made["ServiceMonitor", RELEASE]["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in found[0]["spec"]["ports"]}


def test_it_is_confined_as_the_image_and_compose_have_it() -> None:
    template, service = pod(), composed()
    user = template["securityContext"]["runAsUser"]
    assert value("USER") == f"{user}:{template['securityContext']['runAsGroup']}"
    assert f"{template['terminationGracePeriodSeconds']}s" == service["stop_grace_period"]
    for container in (*template["initContainers"], *template["containers"]):
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"] is service["read_only"] is True
        assert confined["capabilities"]["drop"] == service["cap_drop"]
    (container,) = template["containers"]
    assert [str(one["containerPort"]) for one in container["ports"]] == value("EXPOSE").split()
    assert values()["settings"] == service["environment"]


def test_its_settings_are_good_ones() -> None:
    (container,) = pod()["containers"]
    settings = load_settings(None, environment(container))
    assert (settings.node, settings.state_dir) == (f"{RELEASE}-0", Path("/var/lib/relay/state"))
    assert [one.trusted_networks for one in settings.listeners] == [()]


def test_helm_reads_it_as_a_chart_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["apiVersion"], chart["name"], chart["appVersion"]) == ("v2", "relay", __version__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", chart["version"])
    assert values()["image"] == f"relay:{__version__}"
    assert f"exec {RELEASE}-0 --container relay -- relay admin link" in render("NOTES.txt", values()).out
