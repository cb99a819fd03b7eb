"""What a relay looks like at a glance, and what is to be done about each account in trouble."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.control.context import ControlContext
from relay.control.messages.queue_actions import StoreQueueActions
from relay.control.overview import Holder, advice
from relay.control.results import TroubledAccount
from relay.delivery.holds import Accounts
from relay.delivery.outcome import Schedule, State
from relay.directory.model import Account, Auth, Meaning, Server
from relay.mail.reply import Reply
from relay.upstream.outcome import Failure, Phase
from tests.unit.control.control_kit import AdminOperations, operations_in, parts_in, with_holds_read
from tests.unit.control.queue_kit import START, hold_row, new, stored

JANE = "acmejets/jane@acmejets.example"
MAILER = "acmejets/mailer@acmejets.example"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path) as parts:
        yield parts


async def test_a_new_relay_says_what_the_first_steps_are(tmp_path: Path) -> None:
    async with operations_in(tmp_path, {}) as operations:
        overview = await operations.run("overview", {})
        assert overview["steps"] == {"server": False, "profile": False, "delivered": False}
        assert (overview["troubled"], overview["accounts"], overview["mailboxes"]) == (0, [], [])
        assert overview["totals"] == {"came": 0, "sent": 0, "failed": 0, "removed": 0, "waiting": 0, "held": 0}
        assert overview.keys() >= {"since", "queue", "oldest", "directory", "listeners", "version", "running_since"}


async def test_the_totals_are_of_a_day_and_what_waits_is_of_now(parts: ControlContext) -> None:
    minutes = int((datetime.now(UTC) - START) / timedelta(minutes=1))
    delivered, failed = State.DELIVERED, State.FAILED
    await parts.queue.record([new(stored(delivered, id=f"aaaaaa{n}", minute=minutes - n)) for n in range(3)])
    await parts.queue.record([new(stored(failed, id="bbbbbb0", minute=minutes - 9)), new(stored(delivered, minute=0))])
    await parts.queue.add(new(stored(minute=minutes)), new(stored(State.HELD)), new(stored(State.UNKNOWN)))
    overview = await AdminOperations(parts).run("overview", {})
    assert overview["totals"] == {"came": 5, "sent": 3, "failed": 1, "removed": 0, "waiting": 2, "held": 1}
    assert overview["queue"] == {"queued": 1, "sending": 0, "unknown": 1, "held": 1}
    assert overview["oldest"] == "2025-11-24T09:00:00Z"
    assert overview["steps"] == {"server": True, "profile": True, "delivered": True}


async def test_accounts_in_trouble_come_with_what_to_do(parts: ControlContext) -> None:
    await parts.queue.put_hold(hold_row("acmejets", "jane@acmejets.example"))
    await parts.queue.put_hold(hold_row("acmejets", "mailer@acmejets.example", "support@acmejets.example"))
    await parts.queue.put_hold(hold_row("gone", "x/y"))
    for number in range(2):
        await parts.queue.add(new(stored(State.HELD, id=f"aaaaaa{number}", held_by=MAILER)))
    overview = await AdminOperations(await with_holds_read(parts)).run("overview", {})
    mailer, jane, gone = overview["accounts"]
    assert overview["troubled"] == 3
    assert (mailer["account"], mailer["waiting"], mailer["used_by"]) == (MAILER, 2, 1)
    assert mailer["holder"] == {"kind": "server", "name": "acmejets"}
    assert mailer["advice"].startswith("to send as support@acmejets.example, let the one who runs the server allow")
    assert (jane["account"], jane["state"], jane["reason"]) == (JANE, "held", "535 5.7.8 no")
    assert (jane["held_since"], jane["holder"]) == ("2025-11-24T09:00:00Z", {"kind": "agent", "name": "jane"})
    assert jane["advice"] == "set a new password for agent 'jane' with: relay agent password jane"
    assert gone["holder"] is None
    assert gone["advice"].startswith("nobody sends through this account any more")


async def test_an_account_that_goes_slower_is_told_after_the_held_ones(parts: ControlContext) -> None:
    now = datetime.now(UTC)
    accounts = Accounts(Schedule.of(parts.settings.delivery), [hold_row("acmejets", "mailer@acmejets.example")])
    routing = parts.directory.routing
    server = routing().directory.servers["other"]
    failure = Failure(phase=Phase.MAIL, reply=Reply(451, "4.7.0", "slower"), meaning=Meaning.THROTTLE, from_server=True)
    accounts.slow_down(server, Account("other", "mailer@other.example"), failure, now)
    actions = StoreQueueActions(parts.queue, routing, accounts)
    overview = await AdminOperations(replace(parts, queue_actions=actions)).run("overview", {})
    held, slowed = overview["accounts"]
    assert (held["state"], slowed["state"], slowed["waiting"]) == ("held", "slowed", None)
    assert "the server asks for a slower pace; mail goes on at 20" in slowed["advice"]
    assert "slower" in slowed["reason"]


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase.RESOLVE, "its name is not found"),
        (Phase.CONNECT, "look at its host and port"),
        (Phase.STARTTLS, "ca_file"),
    ],
)
async def test_a_server_that_nobody_reaches_is_told_with_what_to_do(
    parts: ControlContext, phase: Phase, words: str
) -> None:
    accounts = Accounts(Schedule.of(parts.settings.delivery))
    reply = Reply(451, "4.4.1", "The mail server cannot be reached")
    failure = Failure(phase=phase, reply=reply, meaning=Meaning.TEMPORARY, from_server=False, detail="refused")
    for server in ("other", "other", "gone"):
        accounts.servers.note(server, failure, lambda: datetime.now(UTC))
    actions = StoreQueueActions(parts.queue, parts.directory.routing, accounts)
    (one,) = (await AdminOperations(replace(parts, queue_actions=actions)).run("overview", {}))["unreached"]
    assert (one["server"], one["times"], one["reason"]) == ("other", 2, f"{reply} (refused)")
    assert words in one["advice"]
    assert one["advice"].endswith("test it with: relay server test other --to ADDRESS")


SERVER = Server(name="main", host="smtp.gmail.com", username="a@b.example")
OAUTH = replace(SERVER, auth=Auth.OAUTH2)


@pytest.mark.parametrize(
    ("means", "server", "expected"),
    [
        ("login-refused", SERVER, "relay agent password jane"),
        ("login-refused", OAUTH, "relay agent authorize jane"),
        ("identity-refused", SERVER, "Send mail as"),
        ("quota", SERVER, "mail goes on at 2025-11-24 10:00:00 UTC"),
        ("lock-out", SERVER, "mail goes on at 2025-11-24 10:00:00 UTC"),
        ("account-full", SERVER, "make room in it"),
        ("throttle", SERVER, "nothing needs to be done"),
        ("temporary", SERVER, "read the server's words"),
    ],
)
def test_the_advice_goes_by_what_the_answer_means(means: str, server: Server, expected: str) -> None:
    troubled = TroubledAccount(
        account="main/x",
        server="main",
        username="x",
        address="x@y.example",
        profiles=["jane"],
        state="held",
        held_since=None,
        reason="no",
        next_probe=None,
        means=means,
        until="2025-11-24T10:00:00Z",
    )
    assert expected in advice(troubled, Holder("agent", "jane", server))
    assert "None" not in advice(replace(troubled, until=None), Holder("agent", "jane", server))


async def test_a_server_whose_account_is_held_says_so_in_lists(parts: ControlContext) -> None:
    operations = AdminOperations(parts)
    assert [server["state"] for server in await operations.run("server.list", {})] == ["ok", "ok"]
    await parts.queue.put_hold(hold_row("acmejets", "mailer@acmejets.example"))
    await parts.queue.put_hold(hold_row("other", "sales@acmejets.example"))
    operations = AdminOperations(await with_holds_read(parts))
    page = await operations.run("server.page", {"sort": "state"})
    assert [(server["name"], server["state"]) for server in page["items"]] == [("acmejets", "held"), ("other", "ok")]
    assert (await operations.run("server.show", {"name": "acmejets"}))["state"] == "held"
