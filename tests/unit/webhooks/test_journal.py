"""The journal: what it keeps, what it forgets, and what is read of it after a kill."""

from pathlib import Path

from relay.delivery.history import History
from relay.store.queue.messages import NewEvent
from relay.webhooks.journal import Journal, left_behind
from relay.webhooks.subscriptions import Subscriptions
from tests.peers.told import capture_logs
from tests.unit.store.store_kit import MINUTE, NOW, attempt, new_message, open_queue
from tests.unit.webhooks.webhooks_kit import hook


def event(number: int) -> NewEvent:
    return NewEvent(f"e{number}", "https://crm.example/h", f"m{number}", NOW + number * MINUTE, '{"grüße": "\\u0000"}')


def left(folder: Path, place: int = 0, places: int = 1) -> list[NewEvent]:
    return [one for events in left_behind(folder, place, places).values() for one in events]


def test_what_is_kept_is_there_after_a_kill(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    journal.keep([event(1), event(2)])
    journal.keep([event(3)])
    assert left(tmp_path) == [event(1), event(2), event(3)]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    journal.close()


def test_what_is_in_the_store_is_forgotten_and_what_came_since_is_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    journal.keep([event(1)])
    journal.turn()
    journal.keep([event(2)])
    assert left(tmp_path) == [event(1), event(2)]
    journal.forget()
    assert left(tmp_path) == [event(2)]
    journal.turn()
    journal.forget()
    assert left(tmp_path) == []
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_while_the_store_is_away_nothing_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    for number in range(4):
        journal.keep([event(number)])
        journal.turn()  # and then the store says no
    journal.close()
    assert sorted(left(tmp_path)) == [event(number) for number in range(4)]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    journal.keep([event(1)])
    journal.keep([event(2)])
    journal.close()
    (path,) = (path for path in tmp_path.iterdir() if path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-5])
    assert left(tmp_path) == [event(1)]
    path.write_bytes(b"no JSON\n[1]\n[[1]]\n" + path.read_bytes())
    assert left(tmp_path) == [event(1)]


def test_each_process_reads_its_own_and_the_first_those_of_who_is_gone(tmp_path: Path) -> None:
    for place in range(4):
        journal = Journal(tmp_path, place)
        journal.keep([event(place)])
        journal.close()
    assert left(tmp_path, 1, 2) == [event(1)]
    assert sorted(left(tmp_path, 0, 2)) == [event(0), event(2), event(3)]


def test_a_disk_that_takes_nothing_is_told_once_and_harms_nobody(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "gone", 0)
    with capture_logs() as told:
        journal.keep([event(1)])
        journal.keep([event(2)])
        journal.turn()
        journal.forget()
        journal.close()
    assert [line["what"] for line in told] == [
        "events for webhooks cannot be kept over a kill: No such file or directory"
    ]


async def test_the_history_keeps_events_until_they_are_written(tmp_path: Path) -> None:
    async with open_queue(tmp_path / "relay.db") as queue:
        queue.subscribers = Subscriptions([hook()])
        history = History(queue)
        journal = history.journal = Journal(tmp_path, 0)
        ended = attempt(1, ended=NOW)
        history.record(new_message("m1", state="delivered", next_attempt=None), ended)
        (kept,) = left(tmp_path)
        assert kept.message == "m1"
        await history.flush()
        assert left(tmp_path) == []
        (written,) = await queue.outbox.due(hook().url, kept.at, 9)
        assert (written.id, written.body) == (kept.id, kept.body)
        assert await queue.outbox.add_missing([kept, event(9)]) == 1, "what is there already is known by its id"
        assert await queue.outbox.add_missing([]) == 0
        journal.close()
