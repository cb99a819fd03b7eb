"""Mail leaves by Microsoft Graph: a real relay, a real identity provider, a Graph that keeps to the documents."""

import random
from base64 import encodebytes
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from email import message_from_bytes

import pytest

from tests.e2e.graph_kit import QUICK, directory, held, message, set_client_secrets, submit
from tests.e2e.kills import start_to_die, wait_for_kill
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.fixtures import StartRelay
from tests.peers.graph import GraphServer, graph_server
from tests.peers.oidc import Client, IdentityServer, identity_server
from tests.peers.relay import Relay
from tests.peers.rows import each_row
from tests.peers.short_windows import short_windows
from tests.peers.system import wait_until

# Where a kill may find a message on its way. Copies only where nobody may look into Sent Items.
POINTS = (
    "committed, not answered",
    "before the dot is recorded",
    "dot not committed",
    "dot recorded",
    "before the dot",
    "answered by an API",
    "sent by an API",
    "before the outcome",
    "settled, not committed",
    "settled",
)


@pytest.fixture
def graph() -> Iterator[GraphServer]:
    with graph_server() as server:
        yield server


@pytest.fixture
def identity(graph: GraphServer) -> Iterator[IdentityServer]:
    with identity_server(graph.sign) as server:
        server.clients["app"] = Client("app", RIGHT, "app")
        yield server


@pytest.fixture
def relay(start_relay: StartRelay, graph: GraphServer, identity: IdentityServer) -> Relay:
    relay = start_relay(directory(graph, identity), QUICK)
    set_client_secrets(relay)
    return relay


def test_each_of_the_three_ways_leaves_as_it_should(relay: Relay, graph: GraphServer) -> None:
    for name in ("support", "sales", "news"):
        assert submit(relay, name).startswith("250 2.0.0 Ok: delivered via "), relay.last_words
    found = [(item.mailbox, message_from_bytes(item.mime)) for item in graph.sent]
    assert [(mailbox, read["from"], read["reply-to"]) for mailbox, read in found] == [
        ("support@acme.example", "support@acme.example", None),
        ("mailer@acme.example", "mailer@acme.example", "sales@acme.example"),
        ("house@acme.example", "house@acme.example", "news@acme.example"),
    ]
    assert {item.recipients[0] for item in graph.sent} == {"jo@customer.example"}
    record = wait_until(lambda: relay.ask("messages", "list"), "the history")[0]
    assert (record["state"], record["reply"][:10]) == ("delivered", "250 2.0.0 ")
    assert "accepted by Microsoft Graph" in record["reply"]


def test_hidden_recipients_and_those_beyond_ascii_are_reached(relay: Relay, graph: GraphServer) -> None:
    wanted = ("jo@customer.example", "hidden@customer.example")
    assert "delivered" in submit(relay, "support", *wanted, to="jo@customer.example")
    assert "delivered" in submit(relay, "support", "jürgen@exämple.example", options=" SMTPUTF8"), relay.last_words
    first, second = graph.sent
    assert first.recipients == list(wanted)
    assert b"hidden" not in first.mime
    assert second.recipients == ["jürgen@exämple.example"]


def test_a_message_of_10_mb_arrives_octet_for_octet(relay: Relay, graph: GraphServer) -> None:
    octets = random.Random(7).randbytes(7_500_000)
    more = 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    part = b"Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    coded = encodebytes(octets).replace(b"\n", b"\r\n")
    body = b"--b\r\n\r\nHere.\r\n--b\r\n" + part + coded + b"--b--\r\n"
    content = message("support@acme.example", "jo@customer.example", body=body, more=more)
    assert submit(relay, "support", content=content)[:4] == "250 ", relay.last_words
    (item,) = graph.wait_for(1)
    assert item.attachments == {"a.zip": octets}
    assert graph.drafts == ()


def test_a_refused_message_is_refused_at_once(relay: Relay, graph: GraphServer) -> None:
    graph.moods = ["400 ErrorInvalidRecipients"]
    assert submit(relay, "support").startswith("550 5.1.3 ErrorInvalidRecipients: ")
    assert graph.sent == ()


def test_an_expired_token_is_renewed_once(relay: Relay, graph: GraphServer, identity: IdentityServer) -> None:
    identity.behaviour.lives = -30  # the provider says an hour, and Graph finds it expired
    assert relay.command("channel", "authorize", "support").status == 0
    identity.behaviour.lives = None
    assert submit(relay, "support").startswith("250 2.0.0 Ok: delivered")
    assert graph.refusals == ["401 InvalidAuthenticationToken"]


def test_a_revoked_app_holds_the_account_and_a_new_secret_frees_it(
    start_relay: StartRelay, graph: GraphServer, identity: IdentityServer
) -> None:
    relay = start_relay(directory(graph, identity), QUICK)
    set_client_secrets(relay, WRONG)
    assert "queued as" in submit(relay, "support")
    wait_until(lambda: "invalid_client" in held(relay).get("graph/support@acme.example", ""), "a hold")
    set_client_secrets(relay)
    assert graph.wait_for(1)[0].mailbox == "support@acme.example"


@each_row(
    ("mood", "words"),
    [
        ("403 ErrorAccessDenied", "ErrorAccessDenied"),
        ("400 ErrorExceededMessageLimit", "ErrorExceededMessageLimit"),
        ("507 ErrorQuotaExceeded", "ErrorQuotaExceeded"),
        ("403 ErrorAccountSuspend", "ErrorAccountSuspend"),
        ("403 ErrorSendAsDenied", "ErrorSendAsDenied"),
    ],
)
def test_what_concerns_the_account_holds_its_mail_until_it_is_released(
    relay: Relay, graph: GraphServer, mood: str, words: str
) -> None:
    before = len(graph.sent)
    graph.moods = [mood, mood] if words == "ErrorAccessDenied" else [mood]  # a refused token is renewed once
    content = message("support@acme.example", "jo@customer.example", subject=words)
    assert "queued as" in submit(relay, "support", content=content)
    wait_until(lambda: words in "".join(one["reason"] for one in relay.ask("queue", "list")), "a reason")
    assert len(graph.sent) == before
    assert relay.command("account", "release", "graph/support@acme.example").status == 0
    graph.wait_for(before + 1)


def test_throttling_slows_the_account_and_nothing_is_lost(relay: Relay, graph: GraphServer) -> None:
    graph.moods, graph.retry_after = ["429 ApplicationThrottled"], 600
    assert "queued as" in submit(relay, "support")
    (slowed,) = [one for one in relay.ask("account", "list") if one["state"] == "slowed"]
    assert "ApplicationThrottled" in slowed["reason"]
    assert "retry after 600 s" in slowed["reason"]
    assert relay.command("account", "release", "graph/support@acme.example").status == 0
    graph.wait_for(1)


@pytest.mark.parametrize("mood", ["lost after", "504 after", "lost before"])
def test_a_lost_answer_doubles_nothing(relay: Relay, graph: GraphServer, mood: str) -> None:
    graph.moods = [mood]
    assert submit(relay, "support")[:4] == "250 "
    graph.wait_for(1)
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
    assert len(graph.sent) == 1
    wait_until(lambda: [one["state"] for one in relay.ask("messages", "list")] == ["delivered"], "the history")


def test_a_report_leaves_from_the_identity(
    start_relay: StartRelay, graph: GraphServer, identity: IdentityServer
) -> None:
    graph.moods = ["400 ErrorInvalidRecipients"]
    relay = start_relay(directory(graph, identity), {"delivery": {**QUICK["delivery"], "mode": "queued"}})
    set_client_secrets(relay)
    assert "queued as" in submit(relay, "support")
    (report,) = graph.wait_for(1)
    assert report.recipients == ["support@acme.example"]
    assert b"multipart/report" in report.mime


def test_a_server_is_tested_step_by_step(relay: Relay, graph: GraphServer) -> None:
    tested = relay.ask("server", "test", "graph", "--to", "me@customer.example")
    assert [(one["step"], one["ok"]) for one in tested["steps"]] == [
        (step, True) for step in ("resolve", "connect", "login", "mail", "message")
    ]
    assert len(graph.sent) == 1
    without = relay.ask("server", "test", "graph", "--to", "me@customer.example", "--no-send")
    assert [one["step"] for one in without["steps"]] == ["resolve", "connect", "login", "mail"]
    assert len(graph.sent) == 1
    graph.mailboxes.discard("mailer@acme.example")
    failed = relay.command("server", "test", "graph", "--to", "me@customer.example", "--json")
    assert failed.status == 1
    assert "ErrorInvalidUser" in failed.out


def test_the_doctor_looks_at_the_mailbox(relay: Relay, graph: GraphServer) -> None:
    found = relay.command("doctor", "support", "--json")
    assert "the login works (an access token)" in found.out
    assert graph.sent == ()


@pytest.mark.slow
def test_500_messages_pass_the_limits_without_one_refusal(
    start_relay: StartRelay, graph: GraphServer, identity: IdentityServer
) -> None:
    """Four requests at once and so many messages a minute, which has six seconds here as for the relay."""
    graph.per_minute, graph.minute = 100, 6.0
    limits = {"messages_per_minute": 100, "max_connections": 4}
    settings = {"delivery": {**QUICK["delivery"], "mode": "queued"}}
    relay = start_relay(directory(graph, identity, **limits), settings, starts=False)
    relay.windows = short_windows(minute=6.0)
    relay.start()
    set_client_secrets(relay)
    with relay.connect() as client:
        for number in range(500):
            content = message("support@acme.example", "jo@customer.example", subject=f"n{number}")
            assert client.submit("support@acme.example", "jo@customer.example", content).startswith("250 ")
    sent = graph.wait_for(500, 100)
    assert graph.refusals == []
    assert len({item.message_id for item in sent}) == 500
    assert graph.most_at_once <= 4


@pytest.mark.slow
@pytest.mark.parametrize("is_large", [False, True])
def test_a_kill_at_each_point_loses_and_doubles_nothing(
    is_large: bool, start_relay: StartRelay, graph: GraphServer, identity: IdentityServer
) -> None:
    relay = start_relay(directory(graph, identity), {"delivery": {**QUICK["delivery"], "mode": "queued"}})
    set_client_secrets(relay)
    assert "queued as" in submit(relay, "support")
    graph.wait_for(1)
    relay.stop()
    part = b"--b\r\nContent-Type: application/zip\r\n\r\n" + b"x" * 900 * 1024 + b"\r\n"
    body = part * 5 + b"--b--\r\n" if is_large else b"Hello\r\n"
    more = 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n' if is_large else ""
    promised = {"hi"}
    for point in POINTS:
        armed = relay.folder / "armed"
        armed.unlink(missing_ok=True)
        start_to_die(relay, point, armed=armed)
        wait_until(lambda: len(graph.sent) >= len(promised), f"what a kill before {point!r} left")
        wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
        armed.touch()
        name = point.replace(" ", "-").replace(",", "")
        content = message("support@acme.example", "jo@customer.example", subject=name, body=body, more=more)
        promised.add(name)
        with suppress(OSError, EOFError) if point == "committed, not answered" else nullcontext():
            assert "queued as" in submit(relay, "support", content=content) or point == "committed, not answered"
        wait_for_kill(relay)
    relay.start()
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
    sent = [str(message_from_bytes(item.mime)["subject"]) for item in graph.sent]
    assert sorted(sent) == sorted(promised)
    assert graph.drafts == ()
