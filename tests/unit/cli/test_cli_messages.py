"""`relay messages`: the history, and following it."""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from relay.control.messages.follow import FollowOperation
from relay.control.transport.client import ControlClient
from relay.delivery.outcome import State
from relay.mail.header import Change, KeptChanges
from tests.peers.system import heeding_interrupts
from tests.unit.cli.cli_kit import CommandLine
from tests.unit.control.queue_kit import START, attempt, new, stored

SENT, FAILED = "aaaaaaaaaaaa111111111111", "bbbbbbbbbbbb111111111111"


@pytest.fixture(params=["here", "over the socket"])
def filled(request: pytest.FixtureRequest, peopled: CommandLine) -> Iterator[CommandLine]:
    """A command line whose relay delivered a message and failed with another; it runs, or it does not."""
    peopled.store(
        new(stored(State.DELIVERED, id=SENT, delivered=START, reply="250 2.0.0 Ok", server="other"), attempt()),
        new(stored(State.FAILED, id=FAILED, minute=1, reply="550 5.1.1 nobody\x1b[2J", to=("bob@customer.example",))),
    )
    if request.param == "here":
        yield peopled
    else:
        with peopled.running():
            yield peopled


def test_the_list_shows_what_went_wrong_and_the_newest_first(filled: CommandLine) -> None:
    lines = filled.good("messages", "list").splitlines()
    assert lines[0].split() == ["ID", "CREATED", "STATE", "SENDER", "TO"]
    assert lines[1].split()[0] == "bbbbbbbbbbbb"
    assert lines[2] == "  550 5.1.1 nobody [2J"
    assert lines[3].endswith("  delivered  jane@acmejets.example  ann@customer.example")
    assert max(map(len, lines)) <= 80


def test_the_list_for_scripts(filled: CommandLine) -> None:
    records = filled.ask("messages", "list")
    assert [record["id"] for record in records] == [FAILED, SENT]
    assert records[1].keys() >= {"message_id", "recipients", "profile", "server", "delivered", "reply"}
    assert filled.ask("messages", "list", "--to", "BOB@customer.example")[0]["id"] == FAILED
    assert filled.ask("messages", "list", "--sender", "jane@acmejets.example", "--state", "delivered")[0]["id"] == SENT
    assert filled.ask("messages", "list", "--message-id", f"<{SENT}@acmejets.example>")[0]["id"] == SENT
    assert filled.ask("messages", "list", "--since", "2025-11-24T09:00:30Z")[0]["id"] == FAILED
    assert filled.ask("messages", "list", "--since", "1s") == []


def test_nothing_found_is_a_sentence(filled: CommandLine) -> None:
    assert filled.good("messages", "list", "--since", "1s") == "there is no such message\n"
    done = filled("messages", "list", "--since", "yesterday")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("'yesterday' is no time; write how long ago")
    assert filled("messages", "list", "--to", "bob").code == 1


def test_show_tells_the_journey(filled: CommandLine) -> None:
    out = filled.good("messages", "show", "aaaaaaaa")
    assert "reply       250 2.0.0 Ok\n" in out
    assert "message-id  <aaaaaaaaaaaa111111111111@acmejets.example>\n" in out
    assert "  acmejets/jane@acmejets.example, temporary at rcpt\n    450 4.2.0 mailbox busy\n" in out
    shown = filled.ask("messages", "show", "aaaaaaaa")
    assert (shown["state"], shown["account"], len(shown["attempts"])) == ("delivered", "other/jane@acmejets.example", 1)


def test_show_tells_what_was_changed_in_the_header_of_a_message_that_is_over(filled: CommandLine) -> None:
    changes = KeptChanges((Change("From", "Jane <jane@acmejets.example>", "mailer@acmejets.example"),), 2)
    filled.store(new(stored(State.DELIVERED, id="ffffff111111"), attempt(changes=changes)))
    out = filled.good("messages", "show", "ffffff")
    changed = "From: rewritten from Jane <jane@acmejets.example> to mailer@acmejets.example"
    assert out.endswith(f"\nheader changes\n  {changed}\n  and 2 more\n")
    (tried,) = filled.ask("messages", "show", "ffffff")["attempts"]
    assert tried["changes"] == [
        {"field": "From", "before": "Jane <jane@acmejets.example>", "after": "mailer@acmejets.example"}
    ]
    assert tried["changes_left_out"] == 2
    (old,) = filled.ask("messages", "show", "aaaaaa")["attempts"]
    assert (old["changes"], old["changes_left_out"]) == (None, 0)


def test_following_needs_a_relay(peopled: CommandLine) -> None:
    done = peopled("messages", "list", "--follow")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("no relay is running, so nothing comes; start it with: relay serve --config ")
    assert peopled("messages", "--follow", "--json").json["ok"] is False


def test_following_begins_with_what_is_asked_for(peopled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes when it is shown, and ends the command well."""
    peopled.store(
        new(stored(State.DELIVERED, id=SENT, delivered=START)),
        new(stored(State.FAILED, id=FAILED, minute=1, reply="550 5.1.1 nobody", to=("bob@customer.example",))),
    )

    stream, shown = ControlClient.stream, threading.Semaphore(0)

    def watched(client: ControlClient, *asked: Any) -> Iterator[dict[str, Any]]:
        for item in stream(client, *asked):
            yield item
            if "begun" in item:
                shown.release()

    async def interrupt(*_: object) -> AsyncGenerator[list[dict[str, Any]]]:
        assert await asyncio.to_thread(shown.acquire, timeout=60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        while True:  # a signal that comes on the way into the system's recv() is heeded when that returns
            yield [{}]
            await asyncio.sleep(0.05)

    monkeypatch.setattr(ControlClient, "stream", watched)
    monkeypatch.setattr(FollowOperation, "_news", interrupt)
    with heeding_interrupts(), peopled.running():
        out = peopled.good("messages", "list", "--follow", "--since", "2025-11-24T09:00:00Z")
        assert [line.split()[0] for line in out.splitlines()] == ["ID", "aaaaaaaaaaaa", "bbbbbbbbbbbb", "550"]
        out = peopled.good("messages", "list", "--follow", "--json", "--to", "bob@customer.example", "--since", "9999d")
        assert [json.loads(line)["id"] for line in out.splitlines()] == [FAILED]
        assert peopled.good("messages", "--follow") == ""


def test_following_ends_with_the_relay(peopled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def end(*_: object) -> AsyncGenerator[list[dict[str, Any]]]:
        pages: list[list[dict[str, Any]]] = []
        for page in pages:
            yield page

    monkeypatch.setattr(FollowOperation, "_news", end)
    with peopled.running():
        done = peopled("messages", "list", "--follow")
    assert (done.code, done.out, done.err) == (1, "", "the relay has ended, so nothing comes any more\n")


@pytest.mark.parametrize("arguments", [["--json"], ["--follow", "list"], ["--json", "show", SENT]])
def test_options_stand_behind_the_verb(arguments: list[str], peopled: CommandLine) -> None:
    done = peopled("messages", *arguments)
    assert done.code == 2
    assert "relay messages list --follow" in done.out + done.err
