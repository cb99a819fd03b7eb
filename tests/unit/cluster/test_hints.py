"""What workers tell each other and nobody keeps."""

from datetime import UTC, datetime

from relay.cluster.hints import share_pauses, share_server_health
from relay.config.settings import Delivery
from relay.delivery.holds import Accounts
from relay.delivery.outcome import Schedule
from relay.directory.model import Account, Meaning, Server
from relay.mail.reply import Reply
from relay.upstream.outcome import Failure, Outcome, Phase
from tests.unit.cluster.cluster_kit import several, until

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
SERVER, JANE = Server(name="acmejets", host="h", max_connections=8), Account("acmejets", "jane")
SLOWER = Failure(phase=Phase.MAIL, reply=Reply(432, "4.3.2", "slower"), meaning=Meaning.THROTTLE, from_server=True)
AWAY = Failure(
    phase=Phase.CONNECT, reply=Reply(451, "4.4.1", "away"), meaning=Meaning.TEMPORARY, from_server=False, detail="cut"
)


def accounts() -> Accounts:
    return Accounts(Schedule.of(Delivery()))


async def test_pauses_and_servers_that_are_away_are_known_to_all() -> None:
    async with several(2) as (one, two):
        here, there = accounts(), accounts()
        for peers, known in ((one, here), (two, there)):
            share_pauses(peers, known)
            share_server_health(peers, known.servers)
        pause = here.slow_down(SERVER, JANE, SLOWER, NOW)
        here.servers.note("acmejets", Outcome(host="h", failure=AWAY), lambda: NOW)
        await until(lambda: bool(there.servers.unreached(NOW)))
        assert there.slowness_of(JANE, NOW) == pause
        assert there.servers.unreached(NOW) == here.servers.unreached(NOW)
        there.release("acmejets", "jane")
        there.servers.note("acmejets", Outcome(host="h", accepted=Reply(250, "2.0.0", "Ok")), lambda: NOW)
        await until(lambda: not here.servers.unreached(NOW))
        assert here.slowness_of(JANE, NOW) is None


async def test_one_that_begins_is_told_what_is_known() -> None:
    async with several(2) as (one, two):
        here, there = accounts(), accounts()
        share_pauses(one, here)
        share_server_health(one, here.servers)
        pause = here.slow_down(SERVER, JANE, SLOWER, NOW)
        here.servers.note("acmejets", Outcome(host="h", failure=AWAY), lambda: NOW)
        share_pauses(two, there)  # what was told before is lost
        share_server_health(two, there.servers)
        two.begin()
        await until(lambda: bool(there.servers.unreached(NOW)))
        assert there.slowness_of(JANE, NOW) == pause
