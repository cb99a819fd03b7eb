"""Who may send as whom: clients log in at a real relay, and the last station sees what left."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import tomli_w

from tests.peers.canaries import canary
from tests.peers.fixtures import StartRelay
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.rows import each_row
from tests.peers.sink import Sink

SUPPORT, SALES = "support@acmejets.example", "sales@acmejets.example"
JANE, JOE = "jane@acmejets.example", "joe@acmejets.example"
NOBODY = "boss@acmejets.example"
REFUSED_FROM = "550 5.7.1 From header <%s> does not match the sender <%s>"
LOGINS = {
    "channel": ["support"],
    "agent": ["jane", "joe"],
    "application": ["crm", "everyone"],
}


def directory(port: int) -> dict[str, Any]:
    """Profiles that send as themselves, and two applications."""
    own = {"override": True}
    return {
        "default_server": "acmejets",
        "servers": {"acmejets": open_server(port)},
        "channels": {"support": {"address": SUPPORT, **own}, "sales": {"address": SALES, **own}},
        "agents": {
            "jane": {
                "address": JANE,
                "aliases": ["j.doe@acmejets.example"],
                "group": "flights",
                "may_send_as": ["support"],
                **own,
            },
            "joe": {"address": JOE, "group": "flights", **own},
        },
        "applications": {
            "crm": {"may_send_as": ["support", "group:flights"]},
            "everyone": {"may_send_as": ["*"]},
        },
    }


def set_login(relay: Relay, noun: str, name: str, password: str) -> None:
    option = () if noun == "application" else ("--login",)
    done = relay.command(noun, "password", name, *option, "--password-stdin", data=password + "\n")
    assert done.status == 0, done.text


@pytest.fixture(scope="module")
def relay(sink: Sink) -> Iterator[Relay]:
    with relay_process(directory(sink.port)) as relay:
        for noun, names in LOGINS.items():
            for name in names:
                set_login(relay, noun, name, canary(name))
        yield relay


@dataclass(frozen=True, slots=True)
class Try:
    """A client sends as `sender` with From `author`. It leaves as `left`, or is refused with `reply`."""

    login: str
    sender: str
    author: str = ""
    left: str = ""
    reply: str = "250 "

    @property
    def name(self) -> str:
        """How the test is called, and whom it writes to."""
        return f"{self.login or 'network'}-{self.sender or 'null'}-{self.author or 'same'}".replace("@", "=")


def not_yours(sender: str, login: str) -> str:
    return f"550 5.7.1 <{sender}>: {login} may not send as this address"


TRIES = [
    Try("jane", JANE, left=JANE),
    Try("JANE@AcmeJets.example", JANE, left=JANE),
    Try("jane", "j.doe@acmejets.example", left=JANE),
    Try("jane", "jane+4711@acmejets.example", left="jane+4711@acmejets.example"),
    Try("jane", SUPPORT, left=SUPPORT),
    Try("jane", SALES, reply=not_yours(SALES, "jane")),
    Try("jane", JOE, reply=not_yours(JOE, "jane")),
    Try("jane@acmejets.example", JOE, reply=not_yours(JOE, "jane")),
    Try("jane", NOBODY, reply=f"550 5.7.1 <{NOBODY}>: no channel or agent sends from this address"),
    Try("support", SUPPORT, left=SUPPORT),
    Try("support", JANE, reply=not_yours(JANE, "support")),
    Try("crm", SUPPORT, left=SUPPORT),
    Try("crm", JANE, left=JANE),
    Try("crm", JOE, left=JOE),
    Try("crm", SALES, reply=not_yours(SALES, "crm")),
    Try("everyone", SALES, left=SALES),
    Try("", SALES, left=SALES),
    # From: of the same profile, of another one that the login may use, of one that it may not, of nobody.
    Try("jane", JANE, "j.doe@acmejets.example", left=JANE),
    Try("jane", JANE, SUPPORT, left=JANE),
    Try("jane", SUPPORT, JANE, left=SUPPORT),
    Try("jane", JANE, SALES, reply=REFUSED_FROM % (SALES, JANE)),
    Try("jane", JANE, NOBODY, reply=REFUSED_FROM % (NOBODY, JANE)),
    Try("crm", JANE, JOE, left=JANE),
    Try("crm", JANE, NOBODY, reply=REFUSED_FROM % (NOBODY, JANE)),
    Try("everyone", JANE, NOBODY, left=JANE),
    Try("", JANE, NOBODY, left=JANE),
    # The null sender belongs to whoever stands in From.
    Try("jane", "", JANE, left=JANE),
    Try("jane", "", SUPPORT, left=SUPPORT),
    Try("jane", "", SALES, reply="550 5.7.1 "),
    Try("jane", "", NOBODY, reply="550 5.7.1 "),
    Try("crm", "", JOE, left=JOE),
]


@each_row("attempt", TRIES, ids=lambda attempt: attempt.name)
def test_a_login_sends_as_what_it_may_and_nothing_else(attempt: Try, relay: Relay, sink: Sink) -> None:
    recipient = f"{attempt.name}@customer.example"
    author = attempt.author or attempt.sender
    with relay.connect() as client:
        if attempt.login:
            assert client.log_in(attempt.login, canary(attempt.login.partition("@")[0].lower())).startswith("235 2.7.0")
        reply = client.submit(
            attempt.sender, recipient, f"From: Jane <{author}>\r\nSubject: hello\r\n\r\nhello\r\n".encode()
        )
    assert reply.startswith(attempt.reply), relay.last_words
    if not attempt.left:
        assert sink.to(recipient) == []
        return
    arrived = sink.wait_for(recipient)
    (field,) = arrived.header.get_all("From", [])
    assert [address.addr_spec for address in field.addresses] == [attempt.left]
    assert arrived.sender == (attempt.left if attempt.sender else "")


def test_with_reject_a_from_of_another_profile_is_refused_even_where_the_login_may_use_it(
    start_relay: StartRelay, sink: Sink
) -> None:
    relay = start_relay(directory(sink.port), {"policy": {"from_mismatch": "reject"}})
    set_login(relay, "agent", "jane", canary("jane"))
    with relay.connect() as client:
        assert client.log_in("jane", canary("jane")).startswith("235 ")
        content = f"From: {SUPPORT}\r\n\r\nhello\r\n".encode()
        assert client.submit(JANE, "you@customer.example", content).startswith(REFUSED_FROM % (SUPPORT, JANE))


def test_a_listener_that_requires_logins_trusts_no_network(start_relay: StartRelay, sink: Sink) -> None:
    relay = start_relay(directory(sink.port), starts=False)
    settings = tomllib.loads(relay.settings_file.read_text())
    settings["listener"][0]["auth"] = "required"
    relay.settings_file.write_text(tomli_w.dumps(settings))
    relay.start()
    set_login(relay, "application", "everyone", canary("everyone"))
    content = f"From: {SALES}\r\n\r\nhello\r\n".encode()
    with relay.connect() as client:
        assert client.submit(SALES, "required@customer.example", content).startswith("530 5.7.0")
        assert client.submit("", "required@customer.example", content).startswith("530 5.7.0")
        assert client.log_in("everyone", canary("everyone")).startswith("235 ")
        assert client.submit(SALES, "required@customer.example", content).startswith("250 ")
    assert sink.wait_for("required@customer.example").sender == SALES


def test_a_password_that_is_set_changed_or_removed_counts_at_once(start_relay: StartRelay, sink: Sink) -> None:
    relay = start_relay(directory(sink.port))

    def reply(name: str, whose: str) -> str:
        with relay.connect() as client:
            return client.log_in(name, canary(whose))[:9]

    assert reply("joe", "old") == "535 5.7.8"
    set_login(relay, "agent", "joe", canary("old"))
    assert reply("joe", "old") == "235 2.7.0"
    set_login(relay, "agent", "joe", canary("new"))
    assert (reply("joe", "old"), reply("joe", "new")) == ("535 5.7.8", "235 2.7.0")
    assert relay.command("agent", "remove", "joe").status == 0
    assert reply("joe", "new") == "535 5.7.8"
    done = relay.command("agent", "add", "joe", "--address", JOE)
    assert done.status == 0, done.text
    assert relay.ask("agent", "show", "joe")["login_set"] is False
    assert reply("joe", "new") == "535 5.7.8"


def test_an_unknown_name_and_a_wrong_password_look_alike(relay: Relay) -> None:
    replies: set[str] = set()
    for number in range(2):
        for name in ("jane", f"nobody{number}"):
            with relay.connect() as client:
                replies.add(client.log_in(name, canary("wrong")))
        with relay.connect() as client:  # a good login forgets the bad ones, whose answers would wait
            assert client.log_in("jane", canary("jane")).startswith("235 ")
    with relay.connect() as client:
        replies.add(client.log_in("sales", canary("wrong")))  # a profile without a login password
    assert len(replies) == 1
