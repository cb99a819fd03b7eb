"""A relay whose store is a PostgreSQL: all that it has to remember is in there, and survives a kill of either."""

import signal
import threading
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection

import pytest

from tests.e2e.kills import check
from tests.e2e.kills import settings as kill_settings
from tests.e2e.ledger import Ledger
from tests.e2e.queued import queued_id, settings, state_of, submit, waiting
from tests.peers import postgres as peer
from tests.peers.canaries import RIGHT
from tests.peers.console import console_process
from tests.peers.fixtures import StartRelay
from tests.peers.postgres import Postgres, postgres_server
from tests.peers.recorder import REPLIES, Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs(*peer.NEEDS)
REFUSED = b"535 5.7.8 Not with this password\r\n"


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """A database without tables, for one relay."""
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop_database(name)


def test_a_day_in_the_life_of_a_relay_on_postgresql(url: str, recorder: Recorder) -> None:
    server = open_server(recorder.port, auth="plain", allow_plaintext_password=True)
    with console_process(one_channel(server), {**settings(), "store": url}) as console:
        relay = console.relay
        assert not (relay.state_dir / "relay.db").exists()
        relay.set_password("channel", "support", RIGHT)
        assert submit(relay).startswith("250 2.0.0 Ok: delivered via acmejets: ")
        recorder.replies["AUTH"] = REFUSED
        recorder.cut()
        id_ = queued_id(submit(relay))
        wait_until(lambda: state_of(relay, id_) == "held", "the hold")
        assert len(recorder.messages) == 1

        relay.signal(signal.SIGKILL)
        relay.stop()
        relay.start()
        assert [(entry["id"], entry["state"]) for entry in waiting(relay)] == [(id_, "held")]
        (held,) = [account for account in relay.ask("account", "list") if account["state"] == "held"]
        assert held["reason"] == "535 5.7.8 Not with this password"

        wait_until(console.answers, "the pages")
        listed = page(console.url, console.add_token("test"), "/api/v1/messages")
        assert id_ in listed
        assert "held" in listed
        assert any("channel" in entry["operation"] for entry in console.run("audit.list")["items"])

        recorder.replies["AUTH"] = REPLIES["AUTH"]
        assert relay.command("account", "release", str(held["account"])).status == 0
        wait_until(lambda: state_of(relay, id_) == "delivered", "delivery")
        assert len(recorder.messages) == 2
        assert {message["state"] for message in relay.ask("messages", "list")} == {"delivered"}


def page(url: str, token: str, path: str) -> str:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return text


def test_what_a_command_says_about_it(postgres: Postgres, url: str, start_relay: StartRelay) -> None:
    relay = start_relay({}, {"store": url.replace("relay@", "relay:hunter2@")}, starts=False)
    assert relay.ask("config", "show")["store"] == url.replace("relay@", "relay:***@")
    assert relay.ask("queue", "list") == []  # which made the tables
    for words in (("backup", str(relay.folder / "backup")), ("restore", str(relay.folder / "backup"))):
        done = relay.command(*words)
        assert done.status != 0
        assert "the store is in PostgreSQL, whose own tools copy it: pg_dump --format=custom" in done.err
    postgres.sql("postgres", f"ALTER DATABASE {url.partition('@/')[2].partition('?')[0]} ALLOW_CONNECTIONS false")
    done = relay.command("serve")
    assert done.status != 0
    assert "cannot be reached" in done.err
    assert "hunter2" not in done.text
    assert "Traceback" not in done.text


def test_another_master_key_is_refused(url: str, start_relay: StartRelay, recorder: Recorder) -> None:
    """The store knows under which key its passwords are sealed, so that every machine has to have that one."""
    directory = one_channel(open_server(recorder.port))
    start_relay(directory, {"store": url}, starts=False).set_password("channel", "support", RIGHT)
    other = start_relay(directory, {"store": url}, starts=False)
    done = other.command("serve")
    assert done.status != 0
    assert "master key" in done.err
    assert "psql" in done.err


def takes_mail(ledger: Ledger, relay: Relay, name: str) -> bool:
    return ledger.submit(relay, name).startswith("250")


def submit_many(ledger: Ledger, relay: Relay, prefix: str) -> None:
    for number in range(60):
        ledger.submit(relay, f"{prefix}.{number}")


@pytest.mark.slow
def test_while_postgresql_is_away_mail_goes_on_and_commands_say_so(start_relay: StartRelay, recorder: Recorder) -> None:
    with postgres_server() as server:
        url = server.url(server.new_database())
        relay = start_relay(one_channel(open_server(recorder.port)), {**settings(), "store": url})
        assert submit(relay).startswith("250 2.0.0 Ok: delivered via acmejets: ")
        server.kill()
        assert submit(relay).startswith("250 2.0.0 Ok: delivered via acmejets: ")
        recorder.replies["RCPT"] = b"451 4.3.2 Not now\r\n"
        assert submit(relay).startswith("451 4.3.0 ")
        said = f"the store {url} cannot be reached; check that PostgreSQL runs there"
        for words in (("queue", "list"), ("messages", "list")):
            done = relay.command(*words)
            assert done.status != 0
            assert said in done.err
            assert len(done.err.splitlines()) == 1
        done = relay.command("status")
        assert done.status == 0
        assert "running as process" in done.out
        assert said in done.out
        server.start()
        recorder.replies["RCPT"] = REPLIES["RCPT"]
        assert submit(relay).startswith("250 2.0.0 Ok: delivered via acmejets: ")
        # That a connection was refused is remembered for a second.
        wait_until(lambda: relay.command("messages", "list").status == 0, "an answer of the store")
        wait_until(lambda: len(relay.ask("messages", "list")) == 3, "the history of what was delivered meanwhile")
        assert len(recorder.messages) == 3


@pytest.mark.slow
def test_workers_share_a_postgresql(url: str, start_relay: StartRelay, recorder: Recorder) -> None:
    keys = {**kill_settings("queued"), "store": url, "workers": 2}
    relay = start_relay(one_channel(open_server(recorder.port)), keys)
    ledger = Ledger()
    clients = [threading.Thread(target=submit_many, args=(ledger, relay, f"{client}")) for client in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    check(ledger, relay, recorder, is_doubtful=False)
    assert len(ledger.promised) == 240


def has_promised(ledger: Ledger, number: int) -> bool:
    return len(ledger.promised) >= number


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_postgresql_loses_nothing_that_was_promised(start_relay: StartRelay, recorder: Recorder) -> None:
    """With durable commits; the relay lives through it and goes on by itself when PostgreSQL is back."""
    with postgres_server("fsync=on") as server:
        url = server.url(server.new_database())
        relay = start_relay(one_channel(open_server(recorder.port)), {**kill_settings("queued"), "store": url})
        ledger = Ledger()
        for number in range(5):
            clients = [
                threading.Thread(target=submit_many, args=(ledger, relay, f"{number}.{client}")) for client in range(4)
            ]
            for client in clients:
                client.start()
            wanted = len(ledger.promised) + 10 * (number + 1)
            wait_until(partial(has_promised, ledger, wanted), "mail that was taken", 60)
            server.kill()
            wait_until(lambda: not takes_mail(ledger, relay, f"{number}.meanwhile"), "mail that is refused")  # noqa: B023
            server.start()
            for client in clients:
                client.join(60)
            wait_until(partial(takes_mail, ledger, relay, f"{number}.again"), "mail that is taken again", 30)
        assert relay.process is not None
        assert relay.process.poll() is None
        check(ledger, relay, recorder, is_doubtful=True)
        assert len(ledger.promised) > 50, "the clients got somewhere"
