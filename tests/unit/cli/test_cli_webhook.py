"""`relay webhook`: how webhooks answer, one event to try them, and what they are told again."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.store.db.database import open_database
from relay.store.queue.messages import NewEvent
from relay.store.queue.outbox import Outbox, WebhookState, insert_events
from tests.peers.webhook_receiver import Receiver, webhook_receiver
from tests.unit.cli.cli_kit import CommandLine


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with webhook_receiver(tmp_path) as opened:
        yield opened


def hook(relay: CommandLine, receiver: Receiver, more: str = "") -> None:
    table = receiver.table
    with relay.settings_file.open("a") as file:
        file.write(f'[[webhook]]\nurl = "{table["url"]}"\nsecret_from = "{table["secret_from"]}"\n{more}')


def write(relay: CommandLine, receiver: Receiver, *ages: timedelta, is_failing: bool = False) -> None:
    """Put told events of these ages into the store."""

    async def add() -> None:
        database = await open_database(relay.state_dir / "relay.db")
        now = datetime.now(UTC)
        rows = [NewEvent(f"e{n}", receiver.url, f"m{n}", now - age, "{}") for n, age in enumerate(ages)]
        await database.write(lambda c: insert_events(c, rows))
        outbox = Outbox(database)
        await outbox.told([one.number for one in await outbox.due(receiver.url, now, 100)], now)
        if is_failing:
            reason = "it answers 503 Service Unavailable"
            await outbox.put_state(
                WebhookState(url=receiver.url, failures=2, since=now, next_attempt=now, reason=reason)
            )
        await database.close()

    asyncio.run(add())


def test_without_any_it_says_so(relay: CommandLine) -> None:
    assert relay.good("webhook", "list") == "relay.toml names no webhook\n"
    assert relay.ask("webhook", "list") == []
    done = relay("webhook", "test", "1", "--json")
    assert done.json["error"].startswith("there is no webhook 1; relay.toml names none, see: relay webhook list")
    assert relay("webhook", "replay", "--since", "2h").code == 1


def test_a_test_posts_one_signed_event(relay: CommandLine, receiver: Receiver) -> None:
    hook(relay, receiver)
    assert "took it" in relay.good("webhook", "test", "1")
    (event,) = [line["event"] for line in receiver.lines()]
    assert (event["type"], event["data"]["webhook"]) == ("relay.test", 1)
    assert relay("webhook", "test", "2").err.startswith("there is no webhook 2; they are numbered 1 to 1, see: relay ")
    receiver.kill()
    done = relay("webhook", "test", "1", "--json")
    assert (done.code, done.json["ok"], [step["step"] for step in done.json["steps"]]) == (1, False, ["secret", "post"])


def test_a_bad_secret_is_said_without_it(relay: CommandLine, receiver: Receiver) -> None:
    hook(relay, receiver)
    (receiver.ledger.with_name("secret")).write_text("geheim-1\n")
    done = relay("webhook", "test", "1", "--json")
    assert done.code == 1
    assert [step["step"] for step in done.json["steps"]] == ["secret"]


def test_the_list_says_how_each_answers(relay: CommandLine, receiver: Receiver) -> None:
    hook(relay, receiver, 'events = ["failed"]\nprofiles = ["support"]\n')
    (new,) = relay.ask("webhook", "list")
    assert (new["number"], new["state"], new["waiting"], new["held"]) == (1, "new", 0, 0)
    assert (new["url"], new["events"], new["profiles"]) == (receiver.url.partition("?")[0], ["failed"], ["support"])
    write(relay, receiver, is_failing=True)
    (failing,) = relay.ask("webhook", "list")
    assert (failing["state"], failing["failures"]) == ("failing", 2)
    assert "503" in relay.good("webhook", "list")
    assert "key=1" not in relay.good("webhook", "list")


def test_a_replay_tells_again_what_happened_since(relay: CommandLine, receiver: Receiver) -> None:
    hook(relay, receiver)
    write(relay, receiver, timedelta(hours=5), timedelta(hours=1), timedelta(minutes=1))
    assert relay.good("webhook", "replay", "--since", "2h") == "2 events told again\n"
    assert relay.ask("webhook", "replay", "--since", "6h", "--webhook", "1") == {"events": 1}
    (one,) = relay.ask("webhook", "list")
    assert one["waiting"] == 3
    assert relay("webhook", "replay", "--since", "6h", "--webhook", "9").code == 1
    assert "three days" in relay("webhook", "replay", "--since", "9d").err
