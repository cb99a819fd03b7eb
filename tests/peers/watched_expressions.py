"""What the dashboard and the rules for alerts ask of Prometheus."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "etc/grafana/relay.json"
RULES = ROOT / "etc/prometheus/relay.rules.yml"
# What Prometheus itself knows of every job.
OF_PROMETHEUS = {"up"}
METRIC = re.compile(r"\b(?:relay|process)_[a-z_]+\b|\bup\b")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


def rule_expressions() -> Iterator[tuple[str, str]]:
    for alert in re.split(r"\n\s+- alert: ", RULES.read_text())[1:]:
        name, _, rest = alert.partition("\n")
        yield name, re.split(r"\n\s+(?:for|labels):", rest)[0]


EXPRESSIONS = {**dict(dashboard_expressions()), **dict(rule_expressions())}
