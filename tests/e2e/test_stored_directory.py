"""Two relays with one directory in the database: what one is told, the other one goes by within two seconds."""

import json
import tomllib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.peers import postgres as peer
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.postgres import Postgres
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs(*peer.NEEDS)
PATIENCE = 15.0  # of all others, on a machine that is busy
NEWS = "news@acmejets.example"
SECRET = "secret@acmejets.example"
ACCOUNT = f"secure/{SECRET}"
BODY = b"Subject: x\r\n\r\nx\r\n"
LISTENING = "FROM pg_stat_activity WHERE query LIKE 'LISTEN %%' AND datname = %s"


@dataclass
class Two:
    """Two relays at one database, whose master key both have."""

    one: Relay
    other: Relay
    postgres: Postgres
    database: str
    good: Path

    def cut_listening(self) -> int:
        """End the connections by which relays are called; return how many there were."""
        cut = f"SELECT pg_terminate_backend(pid) {LISTENING}"
        return len(self.postgres.sql(self.database, cut, self.database))

    def both_listen(self) -> bool:
        """Whether both are called."""
        return len(self.postgres.sql(self.database, f"SELECT pid {LISTENING}", self.database)) == 2


@pytest.fixture
def two(postgres: Postgres, recorder: Recorder) -> Iterator[Two]:
    with two_with(postgres, recorder, agents=0) as found:
        yield found


@contextmanager
def two_with(postgres: Postgres, recorder: Recorder, *, agents: int) -> Iterator[Two]:
    """Two relays that run, with so many agents."""
    database = postgres.new_database()
    settings = {"store": postgres.url(database), "directory": "database"}
    directory = one_channel(open_server(recorder.port))
    directory["servers"]["secure"] = open_server(recorder.port, auth="plain", username="mailer@acmejets.example")
    directory["channels"]["secret"] = {"address": SECRET, "server": "secure", "override": True}
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(relay_process(directory, {**settings, "node": name}, starts=False))
            for name in ("one", "other")
        )
        imported = one.command("directory", "import")
        assert imported.status == 0, imported.text
        fill(postgres, database, agents)
        (other.state_dir / "master.key").write_bytes((one.state_dir / "master.key").read_bytes())
        (other.state_dir / "master.key").chmod(0o600)
        for relay in (one, other):
            relay.directory_file.rename(relay.folder / "good.toml")  # nothing but the database says it
            relay.fork()
            wait_until(relay.greets, "the relay's greeting", 20 + agents / 1000)
        found = Two(one, other, postgres, database, one.folder / "good.toml")
        wait_until(found.both_listen, "both listening")
        yield found
    postgres.drop_database(database)


def fill(postgres: Postgres, database: str, agents: int) -> None:
    """Write so many agents past Relay, as an import does, which takes its time for them."""
    copy = "COPY directory_entries (kind, name, place, changed, entry) FROM STDIN"
    with postgres.connected(database) as connection, connection.cursor().copy(copy) as rows:
        for n in range(agents):
            entry = {"address": f"agent{n}@acmejets.example", "full_name": f"Agent {n}", "group": f"team{n % 40}"}
            rows.write_row(("agents", f"agent{n}", 1000 + n, 1, json.dumps(entry)))


def accepts(relay: Relay, sender: str) -> bool:
    with relay.connect() as client:
        return client.envelope(sender)[0].startswith("250")


def has_faults(relay: Relay) -> bool:
    return not relay.ask("status")["directory"]["ok"]


def logs_in_with(relay: Relay, recorder: Recorder, password: str) -> bool:
    """Send a message over a new connection; tell whether its login has this password, which nothing else shows."""
    recorder.cut()
    with relay.connect() as client:
        assert client.submit(SECRET, "you@customer.example", BODY).startswith("250")
    login = b64encode(b"\0" + SECRET.encode() + b"\0" + password.encode())
    return login in bytes(recorder.conversations[-1].received)


def is_held(relay: Relay) -> bool:
    return ACCOUNT in {one["account"] for one in relay.ask("account", "list") if one["state"] == "held"}


def done(relay: Relay, *words: str) -> str:
    found = relay.command(*words)
    assert found.status == 0, found.text
    return found.text


def test_a_change_at_one_is_in_effect_at_the_other(two: Two, recorder: Recorder) -> None:
    done(two.one, "channel", "add", "news", "--address", NEWS)
    wait_until(partial(accepts, two.other, NEWS), "the new channel", PATIENCE)
    done(two.other, "channel", "set", "news", "address=letter@acmejets.example")
    wait_until(lambda: not accepts(two.one, NEWS), "the new address", PATIENCE)
    assert accepts(two.one, "letter@acmejets.example")
    done(two.one, "channel", "remove", "news")
    wait_until(lambda: not accepts(two.other, "letter@acmejets.example"), "the channel to go", PATIENCE)
    for relay in (two.one, two.other):
        assert relay.ask("status")["directory"]["ok"]
        assert [one["name"] for one in relay.ask("channel", "list")] == ["secret", "support"]
        assert tomllib.loads(relay.command("directory", "export").out) == tomllib.loads(two.good.read_text())


@pytest.mark.slow
def test_without_a_call_it_looks(two: Two) -> None:
    for number in range(3):
        assert two.cut_listening() == 2 or number
        done(two.one, "channel", "add", f"news{number}", "--address", f"n{number}@acmejets.example")
        wait_until(partial(accepts, two.other, f"n{number}@acmejets.example"), "the new channel", PATIENCE)


@pytest.mark.slow
def test_a_new_password_at_one_counts_at_the_other(two: Two, recorder: Recorder) -> None:
    for number, password in enumerate((RIGHT, WRONG)):
        two.one.set_password("channel", "secret", password)
        if number == 0:
            wait_until(lambda: two.other.ask("channel", "show", "secret")["password_set"], "a password", PATIENCE)
        wait_until(partial(logs_in_with, two.other, recorder, password), f"password {number}", PATIENCE)


@pytest.mark.slow
def test_a_hold_at_one_holds_at_the_other(two: Two, recorder: Recorder) -> None:
    two.one.set_password("channel", "secret", WRONG)
    wait_until(lambda: two.other.ask("channel", "show", "secret")["password_set"], "the password", PATIENCE)
    recorder.replies["AUTH"] = b"535 5.7.8 Not with this password\r\n"
    with two.one.connect() as client:
        assert client.submit(SECRET, "you@customer.example", BODY).startswith("451")
    wait_until(partial(is_held, two.other), "the hold", PATIENCE)
    done(two.other, "account", "release", ACCOUNT)
    wait_until(lambda: not is_held(two.one), "the release", PATIENCE)


@pytest.mark.slow
def test_who_is_second_sees_what_the_first_did(two: Two) -> None:
    done(two.one, "channel", "add", "news", "--address", NEWS)
    refused = two.other.command("channel", "add", "news", "--address", "x@acmejets.example")
    assert refused.status == 1
    assert "there is a channel 'news' already" in refused.err
    refused = two.other.command("channel", "add", "letters", "--address", NEWS)
    assert refused.status == 1
    place = f"the directory in {two.postgres.url(two.database)}"
    assert f"{place}: channels.letters.address: {NEWS} belongs to channel 'news' already" in refused.err


@pytest.mark.slow
def test_a_directory_with_faults_keeps_the_last_good_one(two: Two) -> None:
    """Another version of relay may write what this one does not know."""
    for statement in (
        """UPDATE directory_entries SET entry = '{"address": "nobody", "new": 1}' WHERE name = 'support'""",
        """UPDATE directory SET number = 99, changes = '["another"]'""",
        "UPDATE bulletin SET number = number + 1",
    ):
        two.postgres.sql(two.database, statement)
    for relay in (two.one, two.other):
        wait_until(partial(has_faults, relay), "the fault", PATIENCE)
        assert accepts(relay, "support@acmejets.example")
        assert "channels.support.new" in str(relay.ask("status")["directory"]["faults"])
    done(two.one, "directory", "import", str(two.good))
    wait_until(lambda: not has_faults(two.other), "the good one", PATIENCE)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_with_100_000_agents_a_change_is_at_the_other(postgres: Postgres, recorder: Recorder) -> None:
    """How long that takes is measured by `make bench LOADS=size`."""
    with two_with(postgres, recorder, agents=100_000) as two:
        for n in range(2):
            new, fresh = f"new{n}@acmejets.example", f"fresh{n}@acmejets.example"
            has_new, has_fresh = partial(accepts, two.other, new), partial(accepts, two.other, fresh)
            for words, is_there in (
                (("agent", "set", "agent77777", f"address={new}"), has_new),
                (("agent", "add", f"fresh{n}", "--address", fresh), has_fresh),
                (("agent", "remove", f"fresh{n}"), lambda has_fresh=has_fresh: not has_fresh()),
            ):
                done(two.one, *words)
                wait_until(is_there, " ".join(words), 60)
        assert not has_faults(two.other)
        refused = two.one.command("agent", "set", "agent9", "address=agent8@acmejets.example")
        assert "agent8@acmejets.example belongs to agent 'agent8' already" in refused.err
