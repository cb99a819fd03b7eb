"""Mail leaves by the Gmail API: a real relay with a service account's key, and a Gmail that keeps to the documents."""

from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.e2e.gmail_kit import directory
from tests.e2e.graph_kit import QUICK, held, message, submit
from tests.e2e.kills import start_to_die, wait_for_kill
from tests.peers.fixtures import StartRelay
from tests.peers.gmail import GmailServer, gmail_server
from tests.peers.relay import Relay
from tests.peers.rows import each_row
from tests.peers.system import wait_until

POINTS = (
    "before the dot is recorded",
    "dot recorded",
    "before the dot",
    "answered by an API",
    "before the outcome",
    "settled, not committed",
)


@pytest.fixture
def gmail() -> Iterator[GmailServer]:
    with gmail_server() as server:
        yield server


@pytest.fixture
def relay(start_relay: StartRelay, gmail: GmailServer, tmp_path: Path) -> Relay:
    return start_relay(directory(gmail, tmp_path / "account.json"), QUICK)


def test_each_of_the_three_ways_leaves_as_it_should(relay: Relay, gmail: GmailServer) -> None:
    for name in ("support", "sales", "news"):
        assert submit(relay, name).startswith("250 2.0.0 Ok: delivered via "), relay.last_words
    found = [(one.user, one.headers["from"], message_from_bytes(one.mime)["reply-to"]) for one in gmail.sent]
    assert found == [
        ("support@acme.example", "support@acme.example", None),
        ("mailer@acme.example", "mailer@acme.example", "sales@acme.example"),
        ("house@acme.example", "house@acme.example", "news@acme.example"),
    ]


def test_hidden_recipients_and_those_beyond_ascii_are_reached(relay: Relay, gmail: GmailServer) -> None:
    wanted = ("jo@customer.example", "hidden@customer.example")
    assert "delivered" in submit(relay, "support", *wanted, to="jo@customer.example")
    assert "delivered" in submit(relay, "support", "jürgen@exämple.example", options=" SMTPUTF8"), relay.last_words
    first, second = gmail.sent
    assert (first.headers["to"], first.recipients) == ("jo@customer.example", wanted)
    assert second.recipients == ("jürgen@exämple.example",)


def test_a_refused_message_is_refused_at_once(relay: Relay, gmail: GmailServer) -> None:
    gmail.moods = ["400 invalidArgument Invalid To header"]
    assert submit(relay, "support").startswith("550 5.1.3 invalidArgument: Invalid To header"), relay.last_words
    assert gmail.sent == ()


def test_throttling_slows_the_account_and_nothing_is_lost(relay: Relay, gmail: GmailServer) -> None:
    gmail.moods = ["429 rateLimitExceeded"]
    assert "queued as" in submit(relay, "support")
    (slowed,) = [one for one in relay.ask("account", "list") if one["state"] == "slowed"]
    assert "rateLimitExceeded" in slowed["reason"]
    assert relay.command("account", "release", "gmail/support@acme.example").status == 0
    gmail.wait_for(1)


def test_an_expired_token_is_renewed_once(relay: Relay, gmail: GmailServer) -> None:
    assert "delivered" in submit(relay, "support")
    gmail.tokens.clear()  # the provider said an hour, and the API finds it expired
    again = message("support@acme.example", "jo@customer.example", subject="again")
    assert "delivered" in submit(relay, "support", content=again), relay.last_words
    assert gmail.refusals == ["401 authError"]


def test_a_revoked_key_holds_the_account_and_a_new_one_frees_it(
    relay: Relay, gmail: GmailServer, tmp_path: Path
) -> None:
    gmail.change_key()
    assert "queued as" in submit(relay, "support")
    wait_until(lambda: "invalid_grant" in held(relay).get("gmail/support@acme.example", ""), "a hold")
    gmail.write_account(tmp_path / "account.json")
    assert gmail.wait_for(1)[0].user == "support@acme.example"


def test_an_address_that_is_not_verified_is_held_and_freed(relay: Relay, gmail: GmailServer) -> None:
    assert "queued as" in submit(relay, "desk")
    wait_until(lambda: "no verified address" in "".join(one["reason"] for one in relay.ask("queue", "list")), "a hold")
    gmail.accounts["support@acme.example"].add("desk@acme.example")
    assert relay.command("account", "release", "gmail/support@acme.example").status == 0
    assert gmail.wait_for(1)[0].headers["from"] == "desk@acme.example"


@each_row("mood", ["401 authError", "403 dailyLimitExceeded"])
def test_what_concerns_the_account_holds_its_mail_until_it_is_released(
    relay: Relay, gmail: GmailServer, mood: str
) -> None:
    before, subject = len(gmail.sent), mood.replace(" ", "-")
    gmail.moods = [mood] * (2 if mood[:3] == "401" else 1)  # a refused token is renewed once
    content = message("support@acme.example", "jo@customer.example", subject=subject)
    assert "queued as" in submit(relay, "support", content=content)
    wait_until(lambda: mood.split()[1] in held(relay).get("gmail/support@acme.example", ""), "a hold")
    assert relay.command("account", "release", "gmail/support@acme.example").status == 0
    gmail.wait_for(before + 1)


@pytest.mark.parametrize("mood", ["lost after", "504 after", "lost before"])
def test_a_lost_answer_doubles_nothing(relay: Relay, gmail: GmailServer, mood: str) -> None:
    gmail.moods = [mood]
    assert submit(relay, "support")[:4] == "250 "
    gmail.wait_for(1)
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
    assert len(gmail.sent) == 1


def test_a_message_of_10_mb_arrives_octet_for_octet(relay: Relay, gmail: GmailServer) -> None:
    body = (b"x" * 998 + b"\r\n") * 10_000
    content = message("support@acme.example", "jo@customer.example", body=body)
    assert submit(relay, "support", content=content)[:4] == "250 ", relay.last_words
    (sent,) = gmail.wait_for(1)
    assert sent.mime.endswith(b"\r\n\r\n" + body)


def test_the_doctor_looks_at_the_account(relay: Relay, gmail: GmailServer) -> None:
    found = relay.command("doctor", "support", "--json")
    assert "the login works (an access token)" in found.out
    assert gmail.sent == ()


def test_a_server_is_tested_step_by_step(relay: Relay, gmail: GmailServer) -> None:
    tested = relay.ask("server", "test", "gmail", "--to", "me@customer.example")
    assert [(one["step"], one["ok"]) for one in tested["steps"]] == [
        (step, True) for step in ("resolve", "connect", "login", "mail", "message")
    ]
    failed = relay.command("channel", "test", "desk", "--no-send")
    assert failed.status == 1
    assert "no verified address" in failed.out
    assert len(gmail.sent) == 1


@pytest.mark.slow
@pytest.mark.parametrize("is_large", [False, True])
def test_a_kill_at_each_point_loses_and_doubles_nothing(
    is_large: bool, start_relay: StartRelay, gmail: GmailServer, tmp_path: Path
) -> None:
    settings = {"delivery": {**QUICK["delivery"], "mode": "queued"}}
    relay = start_relay(directory(gmail, tmp_path / "account.json"), settings, starts=False)
    body = b"x" * 998 + b"\r\n"
    names: list[str] = []
    for point in POINTS:
        armed = relay.folder / "armed"
        armed.unlink(missing_ok=True)
        start_to_die(relay, point, armed=armed)
        wait_until(lambda: len(gmail.sent) >= len(names), f"what a kill before {point!r} left")
        wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
        armed.touch()
        names.append(point.replace(" ", "-").replace(",", ""))
        content = message(
            "support@acme.example", "jo@customer.example", subject=names[-1], body=body * (6000 if is_large else 1)
        )
        assert "queued as" in submit(relay, "support", content=content)
        wait_for_kill(relay)
    relay.start()
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
    assert sorted(one.headers["subject"] for one in gmail.sent) == sorted(names)
