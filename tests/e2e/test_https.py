"""Mail leaves by the HTTP APIs of Amazon SES and Mailgun: a real relay, and providers that keep to the documents."""

import json
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import pytest

from tests.e2e.graph_kit import QUICK, held, message, submit
from tests.e2e.kills import start_to_die, wait_for_kill
from tests.peers.fixtures import StartRelay
from tests.peers.mailgun import MailgunServer, mailgun_server
from tests.peers.relay import Relay, Table
from tests.peers.rows import each_row
from tests.peers.ses import SesServer, ses_server
from tests.peers.system import wait_until

# Where a kill may find a message on its way: before the provider has it, and behind that.
BEFORE = ("before the dot is recorded", "dot recorded", "before the dot")
BEHIND = ("answered by an API", "before the outcome", "settled, not committed")
ACCOUNTS = {"ses": "AKIDEXAMPLE", "mailgun": "mg.acme.example"}


def directory(api: str, url: str) -> Table:
    """A channel for each way to send: with its own account, with its server's, and with an internal server's."""
    server: dict[str, Any] = {"kind": "https", "api": api, "api_url": url, "username": ACCOUNTS[api]}
    server |= {"password": "right", "address": "mailer@acme.example"}
    own = {"override": True, "server": api, "username": ACCOUNTS[api], "password": "right"}
    return {
        "default_server": api,
        "servers": {api: server, "house": {**server, "address": "house@acme.example", "internal": True}},
        "channels": {
            "support": {"address": "support@acme.example", **own},
            "sales": {"address": "sales@acme.example"},
            "news": {"address": "news@acme.example", "server": "house"},
            "other": {"address": "me@other.example", **own},
        },
    }


@pytest.fixture
def ses() -> Iterator[SesServer]:
    with ses_server() as server:
        yield server


@pytest.fixture
def mailgun() -> Iterator[MailgunServer]:
    with mailgun_server() as server:
        yield server


@pytest.fixture(params=["ses", "mailgun"])
def provider(request: pytest.FixtureRequest) -> SesServer | MailgunServer:
    found: SesServer | MailgunServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def relay(start_relay: StartRelay, provider: SesServer | MailgunServer) -> Relay:
    return start_relay(directory(api_of(provider), provider.url), QUICK)


def api_of(provider: SesServer | MailgunServer) -> str:
    return "ses" if isinstance(provider, SesServer) else "mailgun"


def test_each_of_the_three_ways_leaves_as_it_should(relay: Relay, provider: SesServer | MailgunServer) -> None:
    for name in ("support", "sales", "news"):
        reply = submit(relay, name, "jo@customer.example", "hidden@customer.example", to="jo@customer.example")
        assert reply.startswith("250 2.0.0 Ok: delivered via "), relay.last_words
    found = [(one.sender, message_from_bytes(one.mime)["reply-to"]) for one in provider.sent]
    assert found == [
        ("support@acme.example", None),
        ("mailer@acme.example", "sales@acme.example"),
        ("house@acme.example", "news@acme.example"),
    ]
    assert all(one.recipients == ("jo@customer.example", "hidden@customer.example") for one in provider.sent)
    assert all(b"hidden" not in one.mime for one in provider.sent)


def test_a_message_of_10_mb_arrives_octet_for_octet(relay: Relay, provider: SesServer | MailgunServer) -> None:
    body = (b"x" * 998 + b"\r\n") * 10_000
    content = message("support@acme.example", "jo@customer.example", body=body)
    assert submit(relay, "support", content=content)[:4] == "250 ", relay.last_words
    (sent,) = provider.wait_for(1)
    assert sent.mime.endswith(b"\r\n\r\n" + body)


def test_what_goes_beyond_ascii_is_sent_or_refused_in_words(relay: Relay, provider: SesServer | MailgunServer) -> None:
    """SES takes no header beyond ASCII (docs.aws.amazon.com/ses/latest/dg: "Message format"); Mailgun does."""
    reply = submit(relay, "support", "jürgen@exämple.example", options=" SMTPUTF8")
    assert reply.startswith("553 5.6.7 " if isinstance(provider, SesServer) else "250 2.0.0 "), reply


@each_row(
    ("api", "mood", "reply"),
    [
        ("ses", "400 MessageRejected Email contains a virus", "554 5.6.0 MessageRejected: Email contains a virus"),
        ("mailgun", "400 to parameter is not a valid address", "550 5.1.3 to parameter is not a valid address"),
    ],
)
def test_a_refused_message_is_refused_at_once(
    start_relay: StartRelay, request: pytest.FixtureRequest, api: str, mood: str, reply: str
) -> None:
    provider: SesServer | MailgunServer = request.getfixturevalue(api)
    provider.moods = [mood]
    assert submit(start_relay(directory(api, provider.url), QUICK), "support").startswith(reply)
    assert provider.sent == ()


@each_row(
    ("api", "mood", "words"),
    [
        ("ses", "429 TooManyRequestsException Maximum sending rate exceeded", "Maximum sending rate exceeded"),
        ("mailgun", "429 Too many requests", "Too many requests"),
    ],
)
def test_throttling_slows_the_account_and_nothing_is_lost(
    start_relay: StartRelay, request: pytest.FixtureRequest, api: str, mood: str, words: str
) -> None:
    provider: SesServer | MailgunServer = request.getfixturevalue(api)
    relay = start_relay(directory(api, provider.url), QUICK)
    provider.moods = [mood]
    assert "queued as" in submit(relay, "support")
    (slowed,) = [one for one in relay.ask("account", "list") if one["state"] == "slowed"]
    assert words in slowed["reason"]
    assert relay.command("account", "release", f"{api}/{ACCOUNTS[api]}").status == 0
    provider.wait_for(1)
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")


@each_row(
    ("api", "mood", "words"),
    [
        ("ses", "400 ThrottlingException Daily message quota exceeded", "Daily message quota"),
        ("ses", "400 SendingPausedException", "SendingPausedException"),
        ("mailgun", "420 Domain x is not allowed to send: recipient limit exceeded", "recipient limit"),
        ("mailgun", "401 Forbidden", "Forbidden"),
    ],
)
def test_what_concerns_the_account_holds_its_mail_until_it_is_released(
    start_relay: StartRelay, request: pytest.FixtureRequest, api: str, mood: str, words: str
) -> None:
    provider: SesServer | MailgunServer = request.getfixturevalue(api)
    relay = start_relay(directory(api, provider.url), QUICK)
    provider.moods = [mood]
    assert "queued as" in submit(relay, "support")
    wait_until(lambda: words in held(relay).get(f"{api}/{ACCOUNTS[api]}", ""), "a hold")
    assert relay.command("account", "release", f"{api}/{ACCOUNTS[api]}").status == 0
    provider.wait_for(1)
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")


def test_a_revoked_key_holds_the_account_and_a_new_one_frees_it(start_relay: StartRelay, ses: SesServer) -> None:
    relay = start_relay(directory("ses", ses.url), QUICK)
    ses.keys = {"AKIDEXAMPLE": "new"}
    assert "queued as" in submit(relay, "sales")
    wait_until(lambda: "does not match" in held(relay).get("ses/AKIDEXAMPLE", ""), "a hold")
    relay.command("server", "set", "ses", "password=")
    refused = relay.command("server", "password", "ses", "--password-stdin", data="wrong\n")
    assert (refused.status, "ses refuses this password for AKIDEXAMPLE" in refused.text) == (1, True)
    assert relay.command("server", "password", "ses", "--password-stdin", data="new\n").status == 0
    assert ses.wait_for(1)[0].sender == "mailer@acme.example"


def test_an_address_that_is_not_verified_is_held_and_freed(start_relay: StartRelay, ses: SesServer) -> None:
    relay = start_relay(directory("ses", ses.url), QUICK)
    with relay.connect() as client:
        client.say("EHLO raw.test")
        for line in ("MAIL FROM:<me@other.example>", "RCPT TO:<jo@customer.example>", "DATA"):
            client.say(line)
        client.send(message("me@other.example", "jo@customer.example") + b".\r\n")
        assert "queued as" in client.reply()
    wait_until(lambda: "not verified" in "".join(one["reason"] for one in relay.ask("queue", "list")), "a hold")
    ses.verified.add("other.example")
    assert relay.command("account", "release", "ses/AKIDEXAMPLE").status == 0
    assert ses.wait_for(1)[0].sender == "me@other.example"


@pytest.mark.parametrize("mood", ["lost after", "504 after", "lost before"])
def test_a_lost_answer_at_mailgun_doubles_nothing(start_relay: StartRelay, mailgun: MailgunServer, mood: str) -> None:
    relay = start_relay(directory("mailgun", mailgun.url), QUICK)
    mailgun.moods = [mood]
    assert submit(relay, "support")[:4] == "250 "
    mailgun.wait_for(1)
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
    assert len(mailgun.sent) == 1


def test_a_lost_answer_of_ses_is_tried_once_more_and_then_held(start_relay: StartRelay, ses: SesServer) -> None:
    relay = start_relay(directory("ses", ses.url), QUICK)
    ses.moods = ["lost after", "504 after"]
    assert "queued as" in submit(relay, "support")
    wait_until(lambda: [one["state"] for one in relay.ask("queue", "list")] == ["held"], "a hold")
    assert len(ses.sent) == 2


def test_a_server_is_tested_step_by_step(relay: Relay, provider: SesServer | MailgunServer) -> None:
    tested = relay.ask("server", "test", api_of(provider), "--to", "me@customer.example")
    assert [(one["step"], one["ok"]) for one in tested["steps"]] == [
        (step, True) for step in ("resolve", "connect", "login", "mail", "message")
    ]
    assert len(provider.sent) == 1


def test_the_doctor_looks_at_the_key(relay: Relay, provider: SesServer | MailgunServer) -> None:
    found = relay.command("doctor", "support", "--json")
    findings = {one["check"]: (one["level"], one["why"]) for one in json.loads(found.out)["findings"]}
    assert findings["login"] == ("good", "the login works (a key)")
    assert findings["send-as"] == ("good", "the account may use the address; nothing was sent")
    assert provider.sent == ()


@pytest.mark.slow
def test_a_kill_at_each_point_loses_nothing_and_doubles_only_in_the_window(
    start_relay: StartRelay, provider: SesServer | MailgunServer
) -> None:
    """docs/guarantees.md: Mailgun is asked; SES cannot be, so that what it had before the kill may leave twice."""
    settings = {"delivery": {**QUICK["delivery"], "mode": "queued"}}
    relay = start_relay(directory(api_of(provider), provider.url), settings, starts=False)
    names: dict[str, str] = {}
    for point in BEFORE + BEHIND:
        armed = relay.folder / "armed"
        armed.unlink(missing_ok=True)
        start_to_die(relay, point, armed=armed)
        wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
        armed.touch()
        names[point.replace(" ", "-").replace(",", "")] = point
        content = message("support@acme.example", "jo@customer.example", subject=[*names][-1])
        assert "queued as" in submit(relay, "support", content=content)
        wait_for_kill(relay)
    relay.start()
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
    copies = Counter(one.subject for one in provider.sent)
    assert copies.keys() == names.keys()
    twice = {names[subject] for subject, number in copies.items() if number > 1}
    assert twice <= (set(BEHIND) if isinstance(provider, SesServer) else set())
    assert max(copies.values()) <= 2
