"""The dashboard and the alerts: each metric that they name exists, and Prometheus takes everything."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.metrics import Metrics, Now, WebhookFigures
from tests.peers.packages import program
from tests.peers.rows import each_row
from tests.peers.system import run
from tests.peers.watched_expressions import (
    DASHBOARD,
    EXPRESSIONS,
    METRIC,
    OF_PROMETHEUS,
    ROOT,
    RULES,
    dashboard_expressions,
    panels,
)

ALERT_TESTS = ROOT / "tests/alerts.yml"
PAGE = ROOT / "docs/monitoring.md"
_LABEL = re.compile(r"\b([a-z]+)\s*(?:=~|!=|=(?!=))|\bby \(([a-z, ]+)\)")
# Labels that Prometheus gives, or that a bucket has.
_GIVEN = {"job", "instance", "le"}
# What Grafana puts in the place of its variables.
_WORDS = {"$job": "relay", "$instance": "127.0.0.1:8025", "$__rate_interval": "1m"}


def metrics() -> Metrics:
    """A relay that has counted everything once."""
    counted = Metrics()
    counted.submitted("delivered", "acmejets")
    counted.delivered("acmejets", 1.0)
    counted.attempted("")
    counted.paced("acmejets")
    counted.overtaken(is_sent=True)
    counted.held("quota")
    counted.connected()
    counted.login_refused()
    counted.refused("5.7.1")
    counted.protected("TLSv1.3")
    counted.tls_failed()
    counted.protected_upstream("TLSv1.3")
    counted.webhook_told("1", 1)
    counted.alerted(is_told=True)
    return counted


WEBHOOKS = {"1": WebhookFigures(waiting=1, oldest_seconds=2.0, kept_back=0)}
TEXT = metrics().text(Now(queue={"queued": 1}, accounts_held=0, connections=1, webhooks=WEBHOOKS))
FAMILIES = tuple(text_string_to_metric_families(TEXT))
LABELS = {sample.name: set(sample.labels) for family in FAMILIES for sample in family.samples}
OURS = {family.name for family in FAMILIES if family.name.startswith("relay_")}


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", RULES.read_text())


@each_row("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_each_metric_and_label_that_is_asked_for_exists(expression: str) -> None:
    names = set(METRIC.findall(expression))
    assert names
    assert names <= LABELS.keys() | OF_PROMETHEUS
    asked = {
        word for found in _LABEL.findall(expression) for word in found[0].split() + found[1].replace(",", "").split()
    }
    known = _GIVEN.union(*(LABELS.get(name, set()) for name in names))
    assert asked <= known


def test_no_metric_of_ours_is_missing_on_the_dashboard() -> None:
    shown = " ".join(expression for _, expression in dashboard_expressions())
    assert [name for name in OURS if name not in shown] == []


def test_the_page_says_what_each_metric_and_alert_means() -> None:
    page = PAGE.read_text()
    names = [name + ("_total" if f"{name}_total" in LABELS else "") for name in OURS]
    assert [name for name in names if f"`{name}`" not in page] == []
    assert [alert for alert in alerts() if f"`{alert}`" not in page] == []
    told = set(re.findall(r"`(relay_[a-z_]+)`", page))
    assert told <= {*names, *LABELS}


def test_panels_stand_beside_each_other_and_say_what_they_show() -> None:
    places: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        grid = panel["gridPos"]
        area = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not area & places, panel["title"]
        assert max(x for x, _ in area) < 24, panel["title"]
        places |= area
    assert all(panel["title"] and panel["description"] for panel in panels())
    ids = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.needs("promtool")
def test_prometheus_takes_what_relay_counts() -> None:
    done = run([program("promtool"), "check", "metrics"], data=TEXT.encode())
    assert (done.status, done.text) == (0, "")


@pytest.mark.needs("promtool")
def test_prometheus_takes_the_alerts() -> None:
    done = run([program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES)])
    assert done.status == 0, done.text
    assert f"{len(alerts())} rules found" in done.text


@pytest.mark.needs("promtool")
def test_prometheus_takes_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    """As rules, which is the only way in which promtool reads an expression; variables have a value then."""
    rules = []
    for number, (_, expression) in enumerate(dashboard_expressions()):
        filled = re.sub(r"\$\w+", lambda found: _WORDS[found[0]], expression)
        rules.append({"record": f"panel:{number}", "expr": filled})
    file = tmp_path / "panels.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = run([program("promtool"), "check", "rules", str(file)])
    assert done.status == 0, done.text


@pytest.mark.needs("promtool")
def test_each_alert_speaks_when_it_is_to_and_is_silent_else() -> None:
    done = run([program("promtool"), "test", "rules", str(ALERT_TESTS)])
    assert done.status == 0, done.text
    played = ALERT_TESTS.read_text()
    assert [alert for alert in alerts() if f'alertname="{alert}"' not in played] == []
