"""Pages, API and logins of two relays at one database: who is known at one is known at the other; so is who guesses."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from tests.peers import postgres as peer
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.console import Console
from tests.peers.postgres import Postgres
from tests.peers.recorder import Recorder
from tests.peers.relay import Table, one_channel, open_server, relay_process
from tests.peers.system import LOOPBACK, free_port, wait_until
from tests.peers.visitor import Visitor, signed_in

pytestmark = [pytest.mark.needs(*peer.NEEDS), pytest.mark.slow]
LIMIT = 4
Two = tuple[Console, Console]


@pytest.fixture
def consoles(postgres: Postgres, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Two relays with open pages, and the same master key."""
    database = postgres.new_database()
    directory = one_channel(open_server(recorder.port))
    directory["agents"] = {"jane": {"address": "jane@acmejets.example"}}
    shared = {
        "store": postgres.url(database),
        "secrets": {"master_key": f"file:{tmp_path_factory.mktemp('key') / 'master.key'}"},
        "limits": {"login_failures": LIMIT},
    }
    with ExitStack() as stack:
        one, two = (stack.enter_context(pages(directory, {**shared, "node": name})) for name in ("one", "two"))
        yield one, two
    postgres.drop_database(database)


@contextmanager
def pages(directory: Table, settings: dict[str, Any]) -> Iterator[Console]:
    port = free_port()
    web = {"address": f"{LOOPBACK}:{port}", "public_url": f"http://{LOOPBACK}:{port}"}
    with relay_process(directory, {**settings, "web": web}) as relay:
        console = Console(relay, port)
        wait_until(console.answers, "the pages")
        yield console


def test_who_signs_in_at_one_is_signed_in_at_the_other_at_once(consoles: Two) -> None:
    one, two = consoles
    for number in range(5):
        # Nobody waits for the other to have heard of the new person and password.
        name = f"ada{number}"
        here = signed_in(one, name, one.add_person(name))
        there = Visitor(two.url, here.cookie)
        assert there.get("/").status == 200, "the first that the other hears of it"
        assert here.get("/").status == 200
        assert there.submit("/sign-out").status == 303
        assert here.get("/").where.startswith("/sign-in"), "out of both"


def test_a_new_password_at_one_ends_the_sessions_of_both(consoles: Two) -> None:
    one, two = consoles
    ada = signed_in(two, "ada", one.add_person("ada"))
    eve = signed_in(one, "eve", two.add_person("eve"))
    assert (ada.get("/").status, Visitor(one.url, ada.cookie).get("/").status) == (200, 200)
    one.run("admin.remove", name="ada")
    assert [Visitor(console.url, ada.cookie).get("/").status for console in consoles] == [303, 303]
    assert [Visitor(console.url, eve.cookie).get("/").status for console in consoles] == [200, 200]


def test_links_and_tokens_of_one_are_good_at_the_other(consoles: Two) -> None:
    one, two = consoles
    token = one.add_token("script")
    asked = Visitor(two.url).get("/api/v1/status", Authorization=f"Bearer {token}")
    assert asked.status == 200
    path = "/welcome/" + str(one.run("agent.invite", name="jane")["url"].rpartition("/")[2])
    jane = Visitor(two.url)
    taken = jane.post(path, {"password": RIGHT}, Origin=two.url)
    assert taken.status == 303, taken.text
    jane.cookie = taken.cookie()
    where = Visitor(one.url, jane.cookie).get("/").where
    assert where, "a page of hers"
    assert not where.startswith("/sign-in")
    assert Visitor(one.url).get(path).status == 410, "good for once"
    assert signed_in(one, "jane", RIGHT).cookie


def test_who_guesses_passwords_has_as_many_attempts_as_at_one(consoles: Two) -> None:
    one = consoles[0]
    right = one.add_person("ada")
    for number in range(LIMIT):
        assert Visitor(consoles[number % 2].url).sign_in("ada", WRONG).status == 403
    time.sleep(3)  # a right password that is looked at before all failures are known takes them back
    for console in consoles:
        wait_until(partial(barred, console, "ada", right), "that it knows of all")
    wait_until(lambda: [guess(console) for console in consoles * 2][-1].startswith("421"), "the listeners too", 20)
    assert guess(one).startswith("421")


def barred(console: Console, name: str, password: str) -> bool:
    """Whether even the right password is not looked at."""
    return Visitor(console.url).sign_in(name, password).status == 429


def guess(console: Console) -> str:
    with console.relay.connect() as client:
        return client.log_in("jane", WRONG)
