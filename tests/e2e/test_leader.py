"""Several relays at one PostgreSQL: what must be done once is done by one of them, and another goes on with it."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.e2e import oauth_kit as oauth
from tests.e2e.queued import SENDER, settings, submit
from tests.e2e.refused_logins import REFUSED, commands, with_login
from tests.peers import mailboxes
from tests.peers import postgres as peer
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.mailboxes import MailboxServer
from tests.peers.oidc import IdentityServer
from tests.peers.postgres import Postgres
from tests.peers.recorder import REPLIES, Recorder
from tests.peers.relay import Relay, Table, one_channel, open_server
from tests.peers.short_windows import Windows, short_windows
from tests.peers.system import wait_until

pytestmark = [pytest.mark.needs(*peer.NEEDS), pytest.mark.slow]
USER = "support@acmejets.example"
# The lease of who leads has 5 seconds in the place of 15 (`tests.peers.short_windows`), and all else is in proportion.
LASTS = 5
SHORT = short_windows(lead=LASTS)
# With this one nobody leads because the lease of another has ended: no test takes so long.
ENDLESS = Windows(
    {
        f"relay.cluster.leader_election.{name}": 900.0 * part
        for name, part in (("LASTS_SECONDS", 1), ("TRUSTED_SECONDS", 0.8))
    }
)
# In what time another leads, and what a busy machine adds.
TAKEN_OVER = 25.0


class StartNode(Protocol):
    """Starts a relay at the database of this test."""

    def __call__(self, name: str, directory: Table, *, windows: Windows = SHORT, **settings: Any) -> Relay: ...


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A database for all relays of a test."""
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)


@pytest.fixture
def start_node(database: str, postgres: Postgres, start_relay: StartRelay, tmp_path: Path) -> StartNode:
    """All have the same master key."""
    key = f"file:{tmp_path / 'master.key'}"

    def start(name: str, directory: Table, *, windows: Windows = SHORT, **more: Any) -> Relay:
        keys = {**settings("queued"), "store": postgres.url(database), "secrets": {"master_key": key}, "node": name}
        relay = start_relay(directory, {**keys, **more}, starts=False)
        relay.windows = windows
        relay.start()
        return relay

    return start


def leads(relay: Relay) -> bool:
    return bool(relay.ask("status")["leads"])


def who_leads(relays: list[Relay]) -> Relay:
    """The one that leads, as soon as one does; never are there two."""

    def found() -> list[Relay]:
        leading = [relay for relay in relays if leads(relay)]
        assert len(leading) <= 1, "two lead at once"
        return leading

    return wait_until(found, "a relay that leads", TAKEN_OVER)[0]


def pair(start_node: StartNode, directory: Table, *, windows: Windows = SHORT, **more: Any) -> tuple[Relay, Relay]:
    """Two relays: the one that leads, and the other."""
    relays = [start_node(name, directory, windows=windows, **more) for name in ("one", "two")]
    leader = who_leads(relays)
    return leader, next(relay for relay in relays if relay is not leader)


def test_one_leads_and_another_does_at_once_when_it_ends_or_is_drained(
    start_node: StartNode, recorder: Recorder
) -> None:
    """Nobody waits for the end of a lease that was given up."""
    directory = one_channel(open_server(recorder.port))
    first, second = pair(start_node, directory, windows=ENDLESS)
    listed = {one["name"]: one["leads"] for one in second.ask("node", "list")}
    assert listed == {first.ask("status")["node"]: True, second.ask("status")["node"]: False}
    assert first.stop() == 0
    wait_until(lambda: leads(second), "the other leading")
    first.start()
    assert not leads(first)
    assert second.command("node", "drain", "two" if "two" in str(second.ask("status")["node"]) else "one").status == 0
    wait_until(lambda: leads(first), "the other, when this one is drained")
    assert not leads(second)
    assert [one["name"] for one in second.ask("node", "list") if one["leads"]] == [first.ask("status")["node"]]


@pytest.mark.parametrize(
    ("lasts", "windows"), [(LASTS, SHORT), pytest.param(15, short_windows(), marks=pytest.mark.long)]
)
def test_a_killed_leader_is_followed_by_another_and_its_own_restart_waits_for_nothing(
    lasts: int, windows: Windows, start_node: StartNode, recorder: Recorder, postgres: Postgres, database: str
) -> None:
    first, second = pair(start_node, one_channel(open_server(recorder.port)), windows=windows)
    until = "SELECT until FROM duties WHERE name = 'lead'"
    first.signal(signal.SIGKILL)
    ends = postgres.sql(database, until)[0][0]
    wait_until(lambda: leads(second), "the other leading", TAKEN_OVER + lasts)
    began = postgres.sql(database, until)[0][0] - lasts * 1_000_000
    assert began >= ends, "not before its lease has ended, by the clock of the database"
    second.stop()
    second.windows = ENDLESS
    second.start()
    wait_until(lambda: leads(second), "a lease that will not end", TAKEN_OVER)
    second.signal(signal.SIGKILL)
    second.stop()
    second.start()
    wait_until(lambda: leads(second), "the same node, which knows that it had it")


@pytest.mark.timeout(300)
def test_a_leader_that_was_stopped_leads_no_more_when_it_goes_on(start_node: StartNode, recorder: Recorder) -> None:
    first, second = pair(start_node, one_channel(open_server(recorder.port)))
    for _ in range(2):
        first.signal(signal.SIGSTOP)
        wait_until(partial(leads, second), "the other leading", TAKEN_OVER)
        first.signal(signal.SIGCONT)
        for _ in range(4):
            assert [leads(first), leads(second)] == [False, True]
        wait_until(partial(_has_lost_it, first), "that it knows it")
        first, second = second, first


def _has_lost_it(relay: Relay) -> bool:
    return '"what": "lead", "is_ours": false' in relay.log


@pytest.mark.timeout(240)
def test_a_held_account_is_probed_by_one_login_at_a_time_over_all(start_node: StartNode, recorder: Recorder) -> None:
    keys = settings("queued", probe=["2s", "1s"])
    relays = pair(start_node, with_login(recorder), **keys)
    relays[0].set_password("channel", "support", RIGHT)
    wait_until(lambda: takes_mail(relays[1]), "the password at the other")
    recorder.replies["AUTH"] = REFUSED
    began = time.monotonic()
    for relay in relays * 4:
        assert " queued as " in submit(relay)
    wait_until(lambda: held(relays[1]), "the hold, at the other, too")
    wait_until(lambda: len(commands(recorder, "AUTH")) >= 6, "probes", 30)
    logins, seconds = len(commands(recorder, "AUTH")), time.monotonic() - began
    # The first at each of the two before it heard of the hold; then one after 2 s, and one each second after that,
    # with a tenth of spread. Two that probe would make twice as many.
    assert logins <= 2 + 1 + (seconds - 2) / 0.9 + 1, (logins, seconds)

    leader, other = relays
    leader.signal(signal.SIGSTOP)
    wait_until(partial(leads, other), "the other leading", TAKEN_OVER)
    before = len(commands(recorder, "AUTH"))
    wait_until(lambda: len(commands(recorder, "AUTH")) > before, "its probes", 10)
    leader.signal(signal.SIGCONT)
    began, before = time.monotonic(), len(commands(recorder, "AUTH"))
    wait_until(lambda: len(commands(recorder, "AUTH")) >= before + 4, "more probes", 20)
    logins, seconds = len(commands(recorder, "AUTH")) - before, time.monotonic() - began
    assert logins <= 1 + seconds / 0.9 + 1, ("one more that was under way", logins, seconds)

    recorder.replies["AUTH"] = REPLIES["AUTH"]
    wait_until(lambda: len(recorder.messages) == 8, "what was held", 20)
    wait_until(lambda: not any(held(relay) for relay in relays), "that both know it")
    assert len(recorder.messages) == 8, "each once"


def takes_mail(relay: Relay) -> bool:
    """Whether it takes mail of the channel: of one without a password it takes none."""
    with relay.connect() as client:
        return client.envelope(SENDER, "you@customer.example")[0].startswith("250")


def held(relay: Relay) -> list[Any]:
    return [one for one in relay.ask("account", "list") if one["state"] == "held"]


def test_a_new_password_at_one_relay_releases_what_all_hold(start_node: StartNode, recorder: Recorder) -> None:
    leader, other = pair(start_node, with_login(recorder), **settings("queued", probe=["1h"]))
    leader.set_password("channel", "support", WRONG)
    wait_until(lambda: takes_mail(other), "the password at the other")
    recorder.replies["AUTH"] = REFUSED
    for relay in (leader, other):
        submit(relay)
    wait_until(lambda: held(leader) and held(other), "the hold")
    recorder.replies["AUTH"] = REPLIES["AUTH"]
    other.set_password("channel", "support", RIGHT)
    wait_until(lambda: len(recorder.messages) == 2, "both messages", 20)
    wait_until(lambda: not held(leader) and not held(other), "that both know it")


@pytest.mark.needs(*mailboxes.NEEDS)
def test_a_mailbox_of_returned_mail_is_read_by_one(
    start_node: StartNode, recorder: Recorder, mailbox_host: MailboxServer, certificates: Certificates
) -> None:
    mailbox_host.add_users({USER: RIGHT})
    directory = one_channel(open_server(recorder.port))
    place = {"host": "localhost", "port": mailbox_host.imaps_port, "ca_file": str(certificates.ca_file)}
    directory["channels"]["support"]["incoming"] = {**place, "watch_bounces": True}
    first, second = pair(start_node, directory)
    before = logins(mailbox_host)
    words = ("channel", "password", "support", "--incoming", "--password-stdin")
    assert second.command(*words, data=RIGHT + "\n").status == 0
    wait_until(lambda: [one["state"] for one in first.ask("status")["mailboxes"]] == ["ok"], "a look into it", 70)
    assert second.ask("status")["mailboxes"] == []
    wait_until(lambda: logins(mailbox_host) > before, "the login, as Dovecot tells it")
    assert logins(mailbox_host) == before + 1
    assert first.stop() == 0
    wait_until(lambda: [one["state"] for one in second.ask("status")["mailboxes"]] == ["ok"], "the other's look", 15)
    wait_until(lambda: logins(mailbox_host) > before + 1, "the other's login, as Dovecot tells it")
    assert logins(mailbox_host) == before + 2


def logins(host: MailboxServer) -> int:
    return host.log.read_text().count("Info: Login: user=<support@")


@pytest.mark.needs("dovecot", "submission")
def test_a_refresh_token_that_is_good_for_once_is_spent_once(
    start_node: StartNode,
    identity: IdentityServer,
    dovecot: Dovecot,
    certificates: Certificates,
) -> None:
    """Both need a new token at the same moment, over and over, and renew it ahead; the provider forgives nothing."""
    identity.behaviour.rotates = True
    relays = pair(start_node, oauth.directory(identity, dovecot, certificates), windows=SHORT, **oauth.QUICK)
    account = f"code/code@{oauth.DOMAIN}"
    identity.behaviour.lives = -30  # the mail server finds it expired, whatever the provider says
    assert oauth.by_code(relays[0], identity).status == 0
    identity.behaviour.lives = None
    wait_until(lambda: oauth.token_of(relays[1], account)["state"] == "ok", "that the other has it, too")
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(partial(submit_some, count=1), relays))
        assert identity.asked == ["authorization_code", "refresh_token"], "one renewal for both"

        identity.behaviour.seconds = 4  # of which each is renewed after 3, or by who needs it after 3.6
        assert oauth.by_code(relays[1], identity).status == 0
        before = len(identity.asked)
        while len(identity.asked) < before + 3:
            replies += [*pool.map(partial(submit_some, count=5), relays)]
    refused = [reply for some in replies for reply in some if not reply.startswith("250 2.0.0 Ok: delivered")]
    assert not refused
    assert [oauth.token_of(relay, account)["state"] for relay in relays] == ["ok", "ok"], "no token was spent twice"
    assert not any(held(relay) for relay in relays)


def submit_some(relay: Relay, count: int) -> list[str]:
    return [oauth.submit(relay, "code", f"{relay.port}-{number}@customer.example") for number in range(count)]
