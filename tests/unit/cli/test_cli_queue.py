"""`relay queue` and its verbs, on the store itself and over the socket of a relay."""

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.cli.app import run
from relay.control.json_values import as_json
from relay.control.results import NOT_RUNNING
from relay.control.transport.client import ControlClient
from relay.delivery.outcome import State
from relay.store.queue.messages import StoredMessage
from tests.unit.cli.cli_kit import CommandLine
from tests.unit.control.queue_kit import BYTES, attempt, hold_row, new, stored

FIRST, HELD, THIRD = "aaaaaaaaaaaa111111111111", "bbbbbbbbbbbb111111111111", "cccccccccccc111111111111"


def _recent(*states: State, minutes: float, **facts: Any) -> StoredMessage:
    """A message that came some minutes ago, due in ten and a half."""
    now = datetime.now(UTC)
    message = stored(*states, **facts)
    due = now + timedelta(minutes=10.5) if message.next_attempt else None
    return replace(message, created=now - timedelta(minutes=minutes), next_attempt=due)


@pytest.fixture(params=["here", "over the socket"])
def filled(request: pytest.FixtureRequest, peopled: CommandLine) -> Iterator[CommandLine]:
    """A command line whose relay has three messages; it runs, or it does not."""
    peopled.store(
        new(_recent(minutes=180.5, id=FIRST, reason="temporary: 450 4.2.0 busy"), attempt()),
        new(_recent(State.HELD, minutes=5.5, id=HELD, profile="sales", reason="held by hand")),
        new(_recent(minutes=1.5, id=THIRD, sender="", profile=None, to=("a@x.example", "b@x.example", "c@x.example"))),
        new(_recent(State.DELIVERED, minutes=1, id="dddddddddddd111111111111")),
    )
    if request.param == "here":
        yield peopled
    else:
        with peopled.running():
            yield peopled


def test_the_list_is_a_table_with_the_reasons(filled: CommandLine) -> None:
    assert filled.good("queue", "list").splitlines() == [
        "ID            STATE   CREATED  NEXT     SENDER                 TO",
        "aaaaaaaaaaaa  queued  3 h ago  in 10 m  jane@acmejets.example  ann@customer.example",
        "  temporary: 450 4.2.0 busy",
        "bbbbbbbbbbbb  held    5 m ago           jane@acmejets.example  ann@customer.example",
        "  held by hand",
        "cccccccccccc  queued  1 m ago  in 10 m  <>                     a@x.example +2",
    ]


def test_the_list_for_scripts(filled: CommandLine) -> None:
    records = filled.ask("queue", "list")
    assert [record["id"] for record in records] == [FIRST, HELD, THIRD]
    assert records[0].keys() >= {"state", "recipients", "created", "next_attempt", "reason", "size", "server"}
    assert [one["id"] for one in filled.ask("queue", "list", "--profile", "sales", "--state", "held")] == [HELD]
    assert filled.ask("queue", "list", "--profile", "support") == []


def test_an_empty_list_is_a_sentence(filled: CommandLine) -> None:
    assert filled.good("queue", "list", "--profile", "support") == "no such message waits\n"
    done = filled("queue", "list", "--state", "hled", "--json")
    assert done.code == 1
    assert done.json["error"].startswith("there is no state 'hled'; did you mean 'held'?")


def test_an_empty_queue_is_a_sentence(peopled: CommandLine) -> None:
    assert peopled.good("queue", "list") == "the queue is empty\n"
    assert peopled.ask("queue", "list") == []
    assert peopled.good("queue", "retry", "--all") == "0 messages will be tried now\n"


def test_show_tells_the_journey(filled: CommandLine) -> None:
    out = filled.good("queue", "show", "aaaaaaaa")
    lines = out.splitlines()
    assert lines[0].split() == ["id", FIRST]
    assert "(3 h ago)" in out
    assert "(in 10 m)" in out
    assert "127.0.0.1, says it is laptop" in out
    assert f"size          {len(BYTES)} bytes\n" in out
    assert out.partition("\nrecipients\n")[2].startswith("  queued     ann@customer.example\n\nattempts\n")
    assert "  acmejets/jane@acmejets.example, temporary at rcpt\n    450 4.2.0 mailbox busy\n" in out
    assert max(map(len, lines)) <= 80
    assert filled.ask("queue", "show", "aaaaaaaa")["id"] == FIRST


def test_hold_release_remove(filled: CommandLine) -> None:
    out = filled.good("queue", "hold", "aaaaaaaa")
    hint = f"relay queue release aaaaaaaaaaaa --config {filled.settings_file}"
    assert out == f"message {FIRST} is held; let it go on with: {hint}\n"
    how = f"held by hand; let it go on with: relay queue release --config {filled.settings_file}\n"
    for words in (["queue", "list"], ["queue", "show", FIRST], ["messages", "show", FIRST]):
        assert how in filled.good(*words)
    assert filled.good("queue", "release", "aaaaaaaaaaaa") == f"message {FIRST} goes on\n"
    assert filled.good("queue", "remove", FIRST) == f"message {FIRST} is removed\n"
    done = filled("queue", "remove", FIRST)
    assert (done.code, done.out) == (1, "")
    why = f"see relay messages show --config {filled.settings_file}"
    assert done.err == f"message {FIRST} is removed and no longer waiting; {why}\n"


def test_retry(filled: CommandLine) -> None:
    done = filled("queue", "retry", "aaaaaa", "bbbbbb")
    assert (done.code, done.out) == (0, "1 message will be tried now\n")
    assert done.err == f"1 could not: held, or under way; see relay queue show --config {filled.settings_file}\n"
    assert filled("queue", "retry", "bbbbbb").code == 1, "nothing of what was asked is done"
    assert filled.good("queue", "retry", "--all") == "1 message will be tried now\n"
    assert filled.good("queue", "retry", "--profile", "sales") == "0 messages will be tried now\n"


@pytest.mark.parametrize("words", [[], ["--all", "--profile", "jane"], ["aaaaaa", "--all"]])
def test_retry_wants_to_know_what(words: list[str], peopled: CommandLine) -> None:
    done = peopled("queue", "retry", *words)
    assert (done.code, done.err) == (2, "say which messages: their ids, or --profile P, or --all\n")


def test_an_export_is_the_message_byte_for_byte(filled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        assert run(["--config", str(filled.settings_file), "queue", "export", "bbbbbbb"]) == 0
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    assert buffer.getvalue() == BYTES


def test_a_list_whose_reader_is_gone_ends_quietly_by_sigpipe(peopled: CommandLine) -> None:
    peopled.store(*(new(stored(minute=number)) for number in range(1500)))
    command = [sys.executable, "-m", "relay.cli.app", "--config", str(peopled.settings_file), "queue", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("ID ")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == -signal.SIGPIPE


def test_accounts_are_listed_and_released(peopled: CommandLine) -> None:
    jane, mailer = "acmejets/jane@acmejets.example", "acmejets/mailer@acmejets.example"
    pair = hold_row("acmejets", "mailer@acmejets.example", "support@acmejets.example")
    probe = datetime.now(UTC) + timedelta(minutes=10.5)
    holds = [replace(hold_row("acmejets", "jane@acmejets.example"), next_probe=probe), pair]
    peopled.store(new(stored(State.HELD, held_by=jane)), holds=holds)
    lines = peopled.good("account", "list").splitlines()
    assert lines[0].split() == ["ACCOUNT", "STATE", "SINCE", "PROFILES", "CONNECTIONS"]
    assert lines[1].startswith(f"{jane} ")
    assert lines[2] == "  535 5.7.8 no; tried again in 10 m"
    assert lines[3].startswith(f"{mailer} as support@acmejets.example ")
    assert {record["state"] for record in peopled.ask("account", "list")} == {"held", "ok"}
    done = peopled("queue", "release", peopled.ask("queue", "list")[0]["id"])
    assert done.err.endswith(f"relay account release {jane} --config {peopled.settings_file}\n")
    assert peopled.good("account", "release", jane) == f"account {jane} is released\n"
    assert [record["state"] for record in peopled.ask("queue", "list")] == ["queued"]
    done = peopled("account", "release", jane, "--json")
    assert done.code == 2, "there is nothing to be said in JSON"
    assert peopled("account", "release", jane).err == f"account {jane} is not held\n"


def test_the_status_of_a_running_relay(peopled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    created = datetime.now(UTC) - timedelta(hours=3)
    held = {"account": "acmejets/u", "address": "", "held_since": created.isoformat(), "reason": "535 5.7.8 no"}
    running = {"running": True, "version": "1", "pid": 1, "since": "2025", "listeners": ["127.0.0.1:2525"]}
    queue = {"queue": {"queued": 2, "sending": 0, "unknown": 0, "held": 1}, "oldest": created.isoformat()}
    mailbox = {
        "owner": "channel/support",
        "host": "imap.acmejets.example",
        "state": "ok",
        "checked": None,
        "reason": "",
    }
    mailboxes = [mailbox, {**mailbox, "reason": "the mailbox of channel 'support': no\x1b[2J"}]
    found = {**as_json(NOT_RUNNING), **running, **queue, "accounts_held": [held] * 12, "mailboxes": mailboxes}
    monkeypatch.setattr(ControlClient, "status", lambda _: found)
    lines = peopled.good("status").splitlines()
    assert "queue      2 queued, 1 held; the oldest came 3 h ago" in lines
    assert "held       12 accounts" in lines
    assert lines.count("  acmejets/u, 3 h ago:") == lines.count("    535 5.7.8 no") == 10
    assert f"  and 2 more: relay account list --config {peopled.settings_file}" in lines
    assert lines[-1] == "  returned mail is not looked for: the mailbox of channel 'support': no [2J"
    monkeypatch.setattr(
        ControlClient, "status", lambda _: {**as_json(NOT_RUNNING), **running, "queue": {"queued": 0, "held": 0}}
    )
    lines = peopled.good("status").splitlines()
    assert "queue      empty" in lines
    assert lines[-1] == "held       no account"


def test_a_relay_that_takes_no_mail_for_want_of_room_still_runs(
    peopled: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = {"running": True, "version": "1", "pid": 1, "since": "2025", "listeners": ["127.0.0.1:2525"]}
    full = {"store": {"ok": False, "reason": "full", "trouble": "/var/lib/relay has 10 MiB left"}}
    monkeypatch.setattr(ControlClient, "status", lambda _: {**as_json(NOT_RUNNING), **running, **full})
    assert "store      full: /var/lib/relay has 10 MiB left" in peopled.good("status").splitlines()
    assert peopled.ask("status")["store"]["ok"] is False


def test_the_status_over_the_socket_counts(peopled: CommandLine) -> None:
    peopled.store(new(_recent(minutes=180.5)), holds=[hold_row("acmejets", "u")])
    with peopled.running():
        status = peopled("status", "--json").json
    assert status["queue"] == {"queued": 1, "sending": 0, "unknown": 0, "held": 0}
    assert [held["account"] for held in status["accounts_held"]] == ["acmejets/u"]
