"""What `queue list` and `queue show` say of messages that are due and yet cannot leave."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.config.settings import Delivery
from relay.control.messages.queue_actions import StoreQueueActions
from relay.delivery.holds import Accounts
from relay.delivery.outcome import Schedule, State
from relay.directory.model import Account, Meaning
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.limits.limiter import Limiter
from relay.limits.local_ledger import LocalLedger
from relay.mail.reply import Reply
from relay.store.queue.messages import StoredMessage
from relay.store.queue.queue import Queue
from relay.upstream.outcome import Failure, Phase
from tests.unit.control.queue_kit import stored
from tests.unit.limits.limits_kit import Disk, Reach

ROUTING = Routing(
    parse_directory(
        {
            "default_server": "acmejets",
            "servers": {
                "acmejets": {
                    "host": "smtp.acmejets.example",
                    "username": "mailer@acmejets.example",
                    "messages_per_minute": 1,
                    "recipients_per_day": 2,
                }
            },
            "channels": {"support": {"address": "support@acmejets.example"}},
        },
        "directory.toml",
    )
)
SERVER = ROUTING.directory.servers["acmejets"]
MAILER = Account("acmejets", "mailer@acmejets.example")
SLOWER = Failure(phase=Phase.MAIL, reply=Reply(432, "4.3.2", "slow"), meaning=Meaning.THROTTLE, from_server=True)


class Bench:
    """Actions on the queue that are only asked about accounts: they need no store."""

    def __init__(self) -> None:
        self.accounts = Accounts(Schedule.of(Delivery()))
        disk = Disk(time.time())
        self.limiter = Limiter(LocalLedger(Reach(disk, "0"), wall=disk.wall), wall=disk.wall)
        queue: Queue = object.__new__(Queue)
        self.actions = StoreQueueActions(queue, lambda: ROUTING, self.accounts, limiter=self.limiter)

    async def send(self, recipients: int) -> None:
        permit = await self.limiter.permit(SERVER, MAILER, None)
        assert permit is not None
        await permit.charge(recipients)
        await permit.begin()
        permit.end(recipients)


def due(**facts: Any) -> StoredMessage:
    now = datetime.now(UTC) - timedelta(seconds=1)
    default: dict[str, Any] = {"next_attempt": now, "reason": "temporary: 451 4.3.0 later", "profile": "support"}
    return stored(**(default | facts))


async def test_a_message_that_is_due_says_what_its_account_waits_for() -> None:
    bench = Bench()
    assert bench.actions.waits_for(due()) == "temporary: 451 4.3.0 later"
    await bench.send(1)
    said = "waits for acmejets/mailer@acmejets.example: 1 message a minute, next in "
    for profile in ("support", None):  # nobody's mail leaves through the default server
        assert bench.actions.waits_for(due(profile=profile)).startswith(said)
        moment = bench.actions.next_attempt(due(profile=profile))
        assert moment is not None
        assert moment > datetime.now(UTC) + timedelta(seconds=30)


async def test_a_message_that_waits_for_something_else_says_that() -> None:
    bench = Bench()
    await bench.send(2)
    later = datetime.now(UTC) + timedelta(hours=1)
    for message in (
        due(next_attempt=later),
        due(profile="gone"),
        stored(State.HELD, reason="temporary: 451 4.3.0 later"),
    ):
        assert bench.actions.waits_for(message) == "temporary: 451 4.3.0 later"
        assert bench.actions.next_attempt(message) == message.next_attempt


async def test_a_pause_that_the_server_asked_for_is_said_first() -> None:
    bench = Bench()
    await bench.send(2)
    assert "2 recipients a day, next at " in bench.actions.waits_for(due())
    pause = bench.accounts.slow_down(SERVER, MAILER, SLOWER, datetime.now(UTC))
    assert pause is not None
    said = "waits for acmejets/mailer@acmejets.example: its server asks for a slower pace, next in "
    assert bench.actions.waits_for(due()).startswith(said)
