"""A backup takes over after a minute of several attempts in vain, for the mail that may go by it, and gives it back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from relay.config.faults import Faults
from relay.delivery.backup_server import Backups, by_backup, is_away, is_probe_due
from relay.delivery.holds import Unreached
from relay.delivery.outcome import State
from relay.directory.model import Account, Meaning
from relay.directory.routing import Route, Routing
from relay.directory.rules.servers import backup_warnings
from relay.directory.rules.validation import parse_directory
from relay.mail.address import Address
from relay.mail.reply import Reply
from relay.system.clock import utc_now
from relay.upstream.outcome import Failure, Outcome, Phase
from tests.peers.rows import Test, each_row
from tests.unit.delivery.bench_kit import CLIENT, MESSAGE, DeliveryKit, arrival_now, complete, envelope_of
from tests.unit.delivery.delivery_kit import dispatching, message_of, reached, stored, upstream_of


def rows(names: str, table: Mapping[str, tuple[Any, ...]]) -> Callable[[Test], Test]:
    return each_row(names, list(table.values()), ids=list(table))


SINCE = utc_now()
TAKEN = Outcome(host="h", accepted=Reply(250, "2.0.0", "Ok"))
SERVER = {"host": "127.0.0.1", "security": "none", "username": "mailer@acmejets.example", "password": "one"}


def away(phase: Phase = Phase.CONNECT, meaning: Meaning = Meaning.TEMPORARY) -> Failure:
    reply = Reply(451, "4.4.1", "The mail server cannot be reached")
    return Failure(phase=phase, reply=reply, meaning=meaning, from_server=False)


def directory(first: Mapping[str, Any] = SERVER, second: Mapping[str, Any] = SERVER, **support: Any) -> dict[str, Any]:
    channels = {"support": {"address": "support@acmejets.example", **support}}
    servers = {"main": {**first, "backup": "second"}, "second": second}
    return {"default_server": "main", "servers": servers, "channels": channels}


def unreached(seconds: float, times: int) -> Unreached:
    return Unreached("main", SINCE, SINCE + timedelta(seconds=seconds), times, Phase.CONNECT, "refused")


@rows(
    "seconds, times, expected",
    {
        "one attempt that took long": (90, 1, False),
        "two": (90, 2, False),
        "many at once": (5, 50, False),
        "just under a minute": (59.9, 4, False),
        "several over a minute": (60, 3, True),
    },
)
def test_a_server_is_away_after_several_attempts_over_a_minute(seconds: float, times: int, expected: bool) -> None:
    assert is_away(unreached(seconds, times)) is expected


@rows(
    "seconds, times, later, expected",
    {
        "suspected, and tried just now": (0, 1, 19.9, False),
        "suspected": (0, 1, 20, True),
        "away, and tried just now": (60, 4, 59.9, False),
        "away": (60, 4, 60, True),
    },
)
def test_a_suspected_server_is_probed_thrice_a_minute_and_one_that_is_away_once(
    seconds: float, times: int, later: float, expected: bool
) -> None:
    one = unreached(seconds, times)
    assert is_probe_due(one, one.last + timedelta(seconds=later)) is expected


def route_by_backup(tables: dict[str, Any]) -> Route | None:
    parsed = parse_directory(tables, "directory.toml")
    route = Routing(parsed).route(Address.parse("support@acmejets.example"))
    assert route is not None
    return by_backup(route, parsed)


@rows(
    "tables, account",
    {
        "the same address": (directory(), "second/mailer@acmejets.example"),
        "the same address, another login": (
            directory(second={**SERVER, "username": "key-1", "address": "Mailer@ACMEJETS.example"}),
            "second/key-1",
        ),
        "another address": (directory(second={**SERVER, "username": "other@acmejets.example"}), None),
        "no address": (directory(second={"host": "127.0.0.1", "security": "none", "auth": "none"}), None),
        "an account of its own": (directory(override=True, server="main"), "second/support@acmejets.example"),
    },
)
def test_mail_goes_by_the_backup_only_as_the_same_identity(tables: dict[str, Any], account: str | None) -> None:
    found = route_by_backup(tables)
    assert (str(found.account) if found else None) == account
    if found is not None:
        assert found.server.name == "second"
        assert "'main' cannot be reached, so it goes by its backup 'second'" in found.reason


@rows(
    "changes, key, words",
    {
        "itself": ({"main": {**SERVER, "backup": "main"}}, "servers.main.backup", "cannot take over from itself"),
        "nobody": ({"main": {**SERVER, "backup": "secnd"}}, "servers.main.backup", "did you mean 'second'?"),
        "a circle": (
            {"main": {**SERVER, "backup": "second"}, "second": {**SERVER, "backup": "main"}},
            "servers.second.backup",
            "go round in a circle",
        ),
        "an internal one": (
            {"main": {**SERVER, "backup": "second"}, "second": {**SERVER, "internal": True}},
            "servers.main.backup",
            "'second' is internal",
        ),
    },
)
def test_a_backup_is_another_server_in_no_circle(changes: dict[str, Any], key: str, words: str) -> None:
    tables = directory()
    with pytest.raises(Faults) as raised:
        parse_directory({**tables, "servers": {**tables["servers"], **changes}}, "directory.toml")
    assert any(fault.key == key and words in fault.message for fault in raised.value.faults), raised.value.faults


def test_check_warns_of_a_backup_by_which_mail_would_leave_as_somebody_else() -> None:
    tables = directory(second={**SERVER, "username": "other@acmejets.example"})
    ((key, words),) = backup_warnings(parse_directory(tables, "directory.toml"))
    assert key == "servers.main.backup"
    assert "as other@acmejets.example" in words
    assert not list(backup_warnings(parse_directory(directory(), "directory.toml")))


@dataclass
class Clock:
    now: datetime = field(default_factory=utc_now)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def prepared(delivery: DeliveryKit, tables: dict[str, Any]) -> tuple[Backups, Clock]:
    """A relay whose server main was tried in vain for a minute, but for the last attempt."""
    delivery.use(Routing(parse_directory(tables, "directory.toml")))
    backups, clock = delivery.attempts.backups, Clock()
    backups.clock = clock
    main = backups.directory().servers["main"]
    for _ in range(3):
        backups.note(main, away())
        clock.advance(29)
    return backups, clock


async def test_mail_goes_by_the_backup_from_the_minute_on_until_the_first_answers(delivery: DeliveryKit) -> None:
    backups, clock = prepared(delivery, directory())
    acceptance, main = delivery.acceptance, backups.directory().servers["main"]

    async def server_of_next() -> str:
        submission = acceptance.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
        assert (await complete(submission, MESSAGE)).is_success
        return upstream_of(delivery).transfers[-1].server.name

    assert backups.taken_over() == {}
    clock.advance(3)
    backups.note(main, away())
    assert backups.taken_over() == {"main": "second"}
    assert await server_of_next() == "second"
    assert upstream_of(delivery).transfers[-1].secret == delivery.attempts.secrets._vault.secret_of("one")
    for phase in (Phase.LOGIN, Phase.RCPT):
        backups.note(main, away(phase))
        assert backups.taken_over() == {}, "it was reached"
        assert await server_of_next() == "main"


@pytest.mark.parametrize("support", [{"override": True, "server": "main", "password": "own"}])
async def test_a_secret_goes_to_no_server_that_it_was_not_set_for(
    delivery: DeliveryKit, support: dict[str, Any]
) -> None:
    backups, clock = prepared(delivery, directory(**support))
    clock.advance(3)
    backups.note(backups.directory().servers["main"], away())
    id_ = await stored(delivery)
    async with dispatching(delivery):
        await reached(delivery, id_, State.DELIVERED)
    assert [one.server.name for one in upstream_of(delivery).transfers] == ["main"]
    no_login = {"host": "127.0.0.1", "security": "none", "auth": "none"}
    backups, clock = prepared(delivery, directory(second=no_login, **support))
    clock.advance(3)
    backups.note(backups.directory().servers["main"], away())
    id_ = await stored(delivery)
    async with dispatching(delivery):
        await reached(delivery, id_, State.DELIVERED)
    last = upstream_of(delivery).transfers[-1]
    assert (last.server.name, last.account, last.secret) == (
        "second",
        Account("second", "support@acmejets.example"),
        None,
    )


async def test_a_backup_whose_account_is_held_takes_nothing(delivery: DeliveryKit) -> None:
    backups, clock = prepared(delivery, directory())
    clock.advance(3)
    backups.note(backups.directory().servers["main"], away())
    account, identity = Account("second", "mailer@acmejets.example"), Address.parse("mailer@acmejets.example")
    refused = Failure(
        phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True
    )
    row = delivery.accounts.hold(account, identity, refused, "1", clock())
    route = delivery.attempts.routing().route(Address.parse("support@acmejets.example"))
    assert route is not None
    assert backups.way(route) is route
    delivery.accounts.begin_probe(row, clock())
    assert backups.way(route).account == account, "one message tries whether the hold is over"


async def test_what_waits_goes_by_the_backup_as_soon_as_that_takes_over(delivery: DeliveryKit) -> None:
    upstream = upstream_of(delivery)
    upstream.outcome = Outcome(host="h", failure=away())
    backups, clock = prepared(delivery, directory())
    id_ = await stored(delivery)
    async with dispatching(delivery):
        await reached(delivery, id_, State.QUEUED)
        await upstream.began.wait()
        upstream.outcome = TAKEN
        clock.advance(3)
        backups.note(backups.directory().servers["main"], away())
        await reached(delivery, id_, State.DELIVERED)
    assert [one.server.name for one in upstream.transfers] == ["main", "second"]
    message = await message_of(delivery, id_)
    assert message.server == "second"


async def test_probes_are_made_when_due_and_a_good_one_gives_the_mail_back(delivery: DeliveryKit) -> None:
    backups, clock = prepared(delivery, directory())
    asked: list[str] = []
    answers = [away(), None]

    async def reach(server: Any) -> Failure | None:
        asked.append(server.name)
        return answers.pop(0)

    backups.reach = reach
    backups.look()
    while backups._probes:
        await next(iter(backups._probes.values()))
    assert (asked, backups.taken_over()) == (["main"], {"main": "second"})
    backups.look()
    assert len(asked) == 1, "not yet due"
    clock.advance(60)
    backups.look()
    while backups._probes:
        await next(iter(backups._probes.values()))
    assert (len(asked), backups.taken_over()) == (2, {})
