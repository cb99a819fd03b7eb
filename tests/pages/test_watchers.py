"""/healthz, /readyz and /metrics: what programs that watch a relay are told, on good days and on bad ones."""

import json
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.pages.posting import post
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.system import LOOPBACK, free_port, wait_until
from tests.peers.visitor import Page, Visitor, signed_in
from tests.peers.watched_expressions import EXPRESSIONS, METRIC, OF_PROMETHEUS

# What a stranger is not told.
_INSIDE = ("/", "Error", "sqlite", "relay.db", "directory.toml", "Traceback", "acmejets")


@pytest.fixture
def own_console(upstream: Recorder, tmp_path: Path) -> Iterator[Console]:
    """A relay that may be broken. It has a webhook that would be told of reports alone."""
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + b64encode(bytes(32)).decode())
    secret.chmod(0o600)
    hook = {"url": f"http://{LOOPBACK}:{free_port()}", "secret_from": f"file:{secret}", "events": ["returned"]}
    with console_process(one_channel(open_server(upstream.port)), {"webhook": [hook]}) as running:
        yield running


def readiness(console: Console) -> tuple[int, dict[str, object]]:
    page = Visitor(console.url).get("/readyz")
    assert page.headers["Content-Type"] == "application/json"
    return page.status, json.loads(page.content)


def test_on_a_good_day(console: Console) -> None:
    page = Visitor(console.url).get("/healthz")
    assert (page.status, page.text) == (200, "ok\n")
    assert readiness(console) == (200, {"ready": True, "reason": ""})
    # Whoever asks may know this machine by any name.
    for path in ("/healthz", "/readyz"):
        assert Visitor(console.url).get(path, Host="relay.internal:80").status == 200


def test_the_counters_are_open_to_this_machine(console: Console) -> None:
    post(console, "Counted")
    page = Visitor(console.url).get("/metrics")
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/plain; version=")
    assert "# TYPE relay_" in page.text


def test_what_dashboard_and_alerts_ask_for_is_there_from_the_start(own_console: Console) -> None:
    """A series that begins with its first event has no increase by it."""
    families = tuple(text_string_to_metric_families(Visitor(own_console.url).get("/metrics").text))
    named = {sample.name for family in families for sample in family.samples}
    asked = {name for expression in EXPRESSIONS.values() for name in METRIC.findall(expression)} - OF_PROMETHEUS
    assert len(asked) > 20
    assert asked - named == set()
    counted = {
        f"{sample.name} {sample.labels}": sample.value
        for family in families
        for sample in family.samples
        if family.type in {"counter", "histogram"} and family.name.startswith("relay_")
    }
    # Whoever waited for it to listen was a client.
    assert {key for key, value in counted.items() if value} <= {"relay_connections_opened_total {}"}
    for reply in ("4.3", "5.7"):
        assert f"relay_refusals_total {{'reply': '{reply}'}}" in counted


def test_the_counters_are_told_under_any_name_to_who_has_a_token(console: Console) -> None:
    """Prometheus knows this machine by another name; the page of another site that does has no token."""
    visitor, elsewhere = Visitor(console.url), "mail.internal:8025"
    token = console.add_token("prometheus", "viewer")
    assert visitor.get("/metrics", Host=elsewhere, Authorization=f"Bearer {token}").status == 200
    assert visitor.get("/metrics", Host=elsewhere, Authorization="Bearer guessed").status == 401
    assert visitor.get("/metrics", Host=elsewhere, Authorization="").status == 401
    assert visitor.get("/metrics", Host=elsewhere).status == 421
    assert visitor.get("/api/v1/status", Host=elsewhere, Authorization=f"Bearer {token}").status == 421


def test_a_fault_in_the_directory_is_a_reason_until_it_is_mended(console: Console) -> None:
    good = console.relay.directory_file.read_text()
    console.relay.write_directory_text(good + "\nno_such_key = 1\n")
    wait_until(lambda: readiness(console)[0] == 503, "the fault")
    told = readiness(console)[1]
    assert told["ready"] is False
    assert "the directory has faults" in str(told["reason"])
    assert not [word for word in _INSIDE if word in str(told["reason"])]
    # It still does what it did before.
    assert Visitor(console.url).get("/healthz").status == 200
    post(console, "Sent meanwhile")
    console.relay.write_directory_text(good)
    wait_until(lambda: readiness(console)[0] == 200, "the good directory")


def break_store(console: Console) -> None:
    """Overwrite the store's pages, as a disk that fails does."""
    file = console.relay.state_dir / "relay.db"
    with closing(sqlite3.connect(file)) as store:
        # So that nobody goes on with a page that was read before.
        store.execute("CREATE TABLE other_program (x)")
        store.commit()
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = file.stat().st_size
    with file.open("r+b") as pages:
        pages.seek(100)  # the header stays: it is a database, but a damaged one
        pages.write(b"\xff" * (size - 100))


def check_quiet(page: Page, path: str) -> None:
    assert not [
        word for word in ("Traceback", ".py", "sqlite", "OperationalError", "no such table") if word in page.text
    ], (
        path,
        page.text,
    )


@pytest.mark.slow
def test_a_broken_store_is_a_reason_and_no_page_tells_more_than_a_sentence(own_console: Console) -> None:
    boss = signed_in(own_console, ADMINISTRATOR, canary(ADMINISTRATOR))
    token = own_console.add_token("writer")
    assert boss.get("/agents").status == 200
    break_store(own_console)
    status, told = readiness(own_console)
    assert (status, told["ready"]) == (503, False)
    assert told["reason"] == "the store is damaged"
    assert Visitor(own_console.url).get("/healthz").status == 200
    for path in ("/", "/agents", "/messages", "/queue", "/profile", "/sign-in", "/welcome/x", "/events", "/nothing"):
        page = boss.get(path)
        assert page.status == 503, (path, page.status, page.text)
        assert "relay's log says" in unescape(page.text), (path, page.text)
        check_quiet(page, path)
    for path in ("/agents", "/status", "/messages"):
        page = boss.get(f"/api/v1{path}", Authorization=f"Bearer {token}")
        assert page.status == 503, (path, page.status)
        check_quiet(page, path)
    page = Visitor(own_console.url).sign_in(ADMINISTRATOR, canary(ADMINISTRATOR))
    assert page.status == 503
    check_quiet(page, "/sign-in")
    assert "Traceback" not in own_console.relay.log


@pytest.mark.parametrize(
    "headers", [{"X_Forwarded_For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"X_Real_IP": "192.0.2.1"}]
)
def test_the_counters_are_not_for_whom_a_web_server_asks(console: Console, headers: dict[str, str]) -> None:
    assert Visitor(console.url).get("/metrics").status == 200
    assert Visitor(console.url).get("/metrics", **headers).status == 401


@pytest.mark.slow
def test_whatever_is_wrong_with_the_store_is_told(own_console: Console) -> None:
    with closing(sqlite3.connect(own_console.relay.state_dir / "relay.db")) as store:
        store.execute("ALTER TABLE messages RENAME TO gone")
        store.commit()
    status, told = readiness(own_console)
    assert (status, told) == (503, {"ready": False, "reason": "the store cannot be read"})
    metrics = Visitor(own_console.url).get("/metrics")
    assert metrics.status == 503
    assert not [word for word in _INSIDE if word in metrics.text]
    assert Visitor(own_console.url).get("/healthz").status == 200
