"""`relay messages`: the history, and following it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from relay.cli.messages import News
from relay.delivery.lifecycle import State
from relay.mail.change import Change, KeptChanges
from relay.store.messages import NewMessage
from tests.cli.cli_kit import CommandLine
from tests.control.queue_kit import START, attempt, new, stored

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


def test_what_comes_is_printed_as_it_comes(filled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are where something comes; the last one is ended by Ctrl-C."""
    now = datetime.now(UTC)
    filled_in = [
        [_came(now + timedelta(seconds=2), "cccccc"), _came(now + timedelta(seconds=1), "dddddd")],
        [],
        [_came(now + timedelta(seconds=1.5), "eeeeee")],
    ]
    _pauses(monkeypatch, [partial(filled.store, *news) for news in filled_in])
    out = filled.good("messages", "list", "--follow", "--json")
    assert [json.loads(line)["id"][:6] for line in out.splitlines()] == ["dddddd", "cccccc", "eeeeee"]


def test_following_begins_with_what_is_asked_for(filled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    _pauses(monkeypatch, [])
    lines = filled.good("messages", "list", "--follow", "--since", "2025-11-24T09:00:00Z").splitlines()
    assert [line.split()[0] for line in lines] == ["ID", "aaaaaaaaaaaa", "bbbbbbbbbbbb", "550"]
    _pauses(monkeypatch, [])
    assert filled.good("messages", "list", "--follow") == ""


def test_a_message_that_is_listed_late_is_not_missed_and_none_is_told_twice() -> None:
    news = News(START)
    assert news.since == START
    assert _told(news, ["b", 120], ["a", 60]) == ["a", "b"]
    assert news.since == START + timedelta(seconds=60)
    assert _told(news, ["c", 130], ["b", 120], ["late", 100], ["a", 60]) == ["late", "c"]
    assert _told(news, ["c", 130], ["b", 120], ["late", 100]) == []


def _told(news: News, *messages: list[str | int]) -> list[str]:
    records = [{"id": id_, "created": (START + timedelta(seconds=int(second))).isoformat()} for id_, second in messages]
    return [record["id"] for record in news.among(records)]


def _came(when: datetime, id_: str) -> NewMessage:
    message = stored(State.DELIVERED, id=id_ * 4)
    return new(replace(message, created=when))


def _pauses(monkeypatch: pytest.MonkeyPatch, happenings: list[Callable[[], None]]) -> None:
    """Let something happen in each pause between two polls, and Ctrl-C in the one after."""
    coming = iter(happenings)

    def sleep(seconds: float) -> None:
        assert seconds == 1.0
        happening = next(coming, None)
        if happening is None:
            raise KeyboardInterrupt
        happening()

    monkeypatch.setattr("relay.cli.messages.sleep", sleep)
