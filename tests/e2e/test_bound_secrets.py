"""A credential is never said to another server than it was set for, whoever changes the directory and how."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.peers.api import ApiClient
from tests.peers.canaries import canary
from tests.peers.clients import Letter, python_smtplib
from tests.peers.console import ADMINISTRATOR, Console, console_process
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, open_server
from tests.peers.system import wait_until
from tests.peers.visitor import signed_in

pytestmark = pytest.mark.slow

# The same machine by another name: another host for those who bind a password to one.
ELSEWHERE = "localhost"


def asking_server(port: int) -> dict[str, object]:
    login = {"auth": "plain", "username": "mailer@acmejets.example", "allow_plaintext_password": True}
    return open_server(port, **login)


def directory(first: int, second: int) -> dict[str, object]:
    return {
        "default_server": "first",
        "servers": {"first": asking_server(first), "second": asking_server(second)},
        "channels": {"house": {"address": "house@acmejets.example"}},
        "agents": {"jane": {"address": "jane@acmejets.example", "override": True}},
    }


@pytest.fixture
def second() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture
def console(recorder: Recorder, second: Recorder) -> Iterator[Console]:
    with console_process(directory(recorder.port, second.port)) as console:
        set_passwords(console.relay)
        yield console


def set_passwords(relay: Relay) -> None:
    for noun, name in (("server", "first"), ("server", "second"), ("agent", "jane")):
        relay.set_password(noun, name, canary(name))


def logins(recorder: Recorder) -> int:
    return sum(line.startswith("AUTH") for one in recorder.conversations for line in one.commands)


def send(relay: Relay, name: str) -> str:
    """Send a message; return "" or the refusal."""
    letter = Letter(f"{name}@acmejets.example", ("you@customer.example",), b"Subject: hello\n\nhello\n")
    done = python_smtplib(relay.endpoint, letter)
    return done.text if done.status else ""


def default_by_command(console: Console) -> None:
    said = console.relay.command("server", "default", "second", "--dry-run").text
    assert "1 profile follows it" in said
    assert "1 profile with an account of its own stays at first: jane" in said
    assert console.relay.command("server", "default", "second").status == 0


def default_by_api(console: Console) -> None:
    answer = ApiClient(console.url, console.add_token("ci")).ask("POST", "/servers/second/default", {})
    assert answer.status == 200, answer.content
    assert (answer.json["followers"], answer.json["stay"]) == (["house"], ["jane"])


def default_by_page(console: Console) -> None:
    visitor = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
    said = visitor.get("/servers/second/default").text
    assert "stays at first: its password is for that server" in " ".join(re.sub("<[^>]*>", "", said).split())
    done = visitor.submit("/servers/second/default")
    assert done.status == 303, done.text


def default_by_file(console: Console) -> None:
    """Who writes the file and leaves the server out moves the sender there, and the password stays: nothing is sent."""
    relay = console.relay
    text = relay.directory_file.read_text()
    assert 'default_server = "first"' in text
    relay.write_directory_text(text.replace('default_server = "first"', 'default_server = "second"'))
    wait_until(lambda: console.run("server.show", name="second")["default"], "the changed file in effect", 20)


@pytest.mark.parametrize("change", [default_by_command, default_by_api, default_by_page, default_by_file])
def test_a_new_default_gets_no_password_of_an_agent(
    console: Console, recorder: Recorder, second: Recorder, change: Callable[[Console], None]
) -> None:
    relay = console.relay
    change(console)
    said = send(relay, "jane")
    if change is default_by_file:
        assert "no email password is configured" in said
        assert "needs a password for second" in relay.command("agent", "list").text
        assert len(recorder.messages) == 0
    else:
        assert said == ""
        assert len(recorder.messages) == 1, "her account is where it was"
    assert logins(second) == 0
    assert send(relay, "house") == ""
    assert len(second.messages) == 1


@pytest.mark.parametrize("is_put_back", [False, True], ids=["a new password", "the host put back"])
def test_mail_that_waits_is_held_and_freed(
    start_relay: StartRelay, recorder: Recorder, second: Recorder, *, is_put_back: bool
) -> None:
    relay = start_relay(directory(recorder.port, second.port), {"delivery": {"mode": "queued"}})
    set_passwords(relay)
    recorder.replies["MAIL"] = b"451 4.3.2 not now\r\n"
    assert send(relay, "jane") == ""
    wait_until(lambda: "4.3.2" in relay.ask("queue", "list")[0]["reason"], "a first attempt that failed")
    assert relay.command("server", "set", "first", f"host={ELSEWHERE}", f"port={second.port}").status == 0
    recorder.replies["MAIL"] = REPLIES["MAIL"]

    def waits_for_a_password() -> bool:
        reasons = [str(one["reason"]) for one in relay.ask("account", "list") if one["state"] == "held"]
        return any("was set for another server or host" in reason for reason in reasons)

    assert relay.command("queue", "retry", "--all").status == 0
    wait_until(waits_for_a_password, "the hold", 30)
    assert (logins(second), len(second.messages), len(recorder.messages)) == (0, 0, 0)
    if is_put_back:
        assert relay.command("server", "set", "first", "host=127.0.0.1", f"port={recorder.port}").status == 0
    else:
        relay.set_password("agent", "jane", canary("jane's new one"))
    there = recorder if is_put_back else second
    wait_until(lambda: len(there.messages) == 1, "what waited to leave", 30)
    assert len(recorder.messages) + len(second.messages) == 1


def by_command(console: Console, port: int) -> None:
    done = console.relay.command("server", "set", "first", f"host={ELSEWHERE}", f"port={port}")
    assert done.status == 0, done.text
    assert "set it again: relay" in done.text
    assert "must be set anew: jane" in done.text


def by_file(console: Console, port: int) -> None:
    path = console.relay.directory_file
    head, first, rest = path.read_text().partition("[servers.first]")
    entry, second, rest = rest.partition("[servers.second]")
    lines = [f'host = "{ELSEWHERE}"' if line.startswith("host") else line for line in entry.splitlines()]
    lines = [f"port = {port}" if line.startswith("port") else line for line in lines]
    console.relay.write_directory_text(head + first + "\n".join(lines) + "\n" + second + rest)
    wait_until(lambda: console.run("server.show", name="first")["host"] == ELSEWHERE, "the changed file in effect", 20)


def by_api(console: Console, port: int) -> None:
    api = ApiClient(console.url, console.add_token("ci"))
    answer = api.ask("PATCH", "/servers/first", {"host": ELSEWHERE, "port": port})
    assert answer.status == 200, answer.content
    assert (answer.json["password_set"], answer.json["password_for_another"]) == (False, True)
    kept = api.ask("PATCH", "/servers/first", {"host": ELSEWHERE, "keep_passwords": True})
    assert kept.status in {403, 422}, kept.content


def by_page(console: Console, port: int) -> None:
    visitor = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
    fields = {"host": ELSEWHERE, "port": str(port), "security": "none", "auth": "plain"}
    fields |= {"username": "mailer@acmejets.example", "address": "mailer@acmejets.example"}
    fields |= {"allow_plaintext_password": "true"}
    version = console.run("server.show", name="first")["version"]
    done = visitor.submit("/servers/first", **fields, version=version)
    assert done.status == 303, done.text
    assert "must be entered anew" in visitor.get(done.where).text
    assert "needs a password for first" in visitor.get("/servers").text
    assert "It needs a password for first." in visitor.get("/servers/first").text
    assert "needs a password for first" in visitor.get("/agents").text


@pytest.mark.parametrize("change", [by_command, by_file, by_api, by_page])
def test_another_host_gets_no_password(
    console: Console, recorder: Recorder, second: Recorder, change: Callable[[Console, int], None]
) -> None:
    relay = console.relay
    assert (send(relay, "jane"), send(relay, "house")) == ("", "")
    change(console, second.port)
    assert "no email password is configured" in send(relay, "jane")
    # The server's own account is for its administrator to mend: 451, and the client tries again.
    assert "password for the mail server is missing or wrong" in send(relay, "house")
    assert "needs a password for first" in relay.command("server", "list").text
    assert "needs a password for first" in relay.command("agent", "list").text
    assert "it needs a password for first" in relay.command("route", "house@acmejets.example").text
    assert (len(recorder.messages), logins(second), len(second.messages)) == (2, 0, 0)
    relay.set_password("agent", "jane", canary("jane's new one"))
    assert send(relay, "jane") == ""
    assert len(second.messages) == 1


BOUND = {"server/first": "127.0.0.1", "server/second": "127.0.0.1", "profile/jane": "first 127.0.0.1"}


def bound_in(relay: Relay) -> dict[str, str | None]:
    with closing(sqlite3.connect(relay.state_dir / "relay.db")) as store:
        return dict(store.execute("SELECT owner, bound_to FROM secrets"))


def from_before(start_relay: StartRelay, recorder: Recorder, second: Recorder) -> Relay:
    """A relay, not running, whose passwords were set before any was bound."""
    relay = start_relay(directory(recorder.port, second.port), starts=False)
    set_passwords(relay)
    with closing(sqlite3.connect(relay.state_dir / "relay.db")) as store, store:
        store.execute("UPDATE secrets SET bound_to = NULL")
    return relay


def test_an_older_backup_is_bound_to_where_its_directory_says(
    start_relay: StartRelay, recorder: Recorder, second: Recorder
) -> None:
    relay = from_before(start_relay, recorder, second)
    backup = str(relay.state_dir.parent / "older.backup")
    assert relay.command("backup", backup).status == 0
    assert relay.command("server", "set", "first", f"host={ELSEWHERE}", f"port={second.port}").status == 0
    assert relay.command("restore", backup).status == 0
    assert relay.command("server", "list").status == 0
    assert bound_in(relay) == BOUND


def test_a_store_from_before_works_on_and_is_bound(
    start_relay: StartRelay, recorder: Recorder, second: Recorder
) -> None:
    relay = from_before(start_relay, recorder, second)
    relay.start()
    assert (send(relay, "jane"), send(relay, "house")) == ("", "")
    assert bound_in(relay) == BOUND
    assert relay.command("server", "set", "first", f"host={ELSEWHERE}", f"port={second.port}").status == 0
    assert "no email password is configured" in send(relay, "jane")
    assert logins(second) == 0
