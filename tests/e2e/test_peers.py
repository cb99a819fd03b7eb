"""The peers among themselves: a test that fails here means the harness, not the relay."""

import re

import pytest

from tests.peers.canaries import RIGHT, WRONG
from tests.peers.clients import CLIENTS, Access, Endpoint, Letter, python_smtplib, swaks
from tests.peers.dovecot import Dovecot, dovecot_server
from tests.peers.fixtures import Certificates
from tests.peers.packages import read_packages
from tests.peers.postfix import Postfix
from tests.peers.provider import Provider, provider_server
from tests.peers.proxy import Harm, proxy_server, without_starttls
from tests.peers.raw import RawClient
from tests.peers.recorder import HANG_UP, Recorder, recorder_server
from tests.peers.sink import Sink
from tests.peers.system import wait_until

LETTER = b"From: Jane <jane@acmejets.example>\nSubject: hi\n\n.one dot\n..two\n\nsch\xc3\xb6n  \nFrom here\nend\n"


@pytest.mark.needs("swaks", "curl", "msmtp")
@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_sends_the_message_that_it_was_given(client: str, sink: Sink) -> None:
    recipient = f"{client}@peers.example"
    done = CLIENTS[client](Endpoint(port=sink.port), Letter("jane@acmejets.example", (recipient,), LETTER))
    assert done.status == 0, done.text
    arrived = sink.wait_for(recipient)
    assert arrived.sender == "jane@acmejets.example"
    # curl sends LF, msmtp adds a Date.
    assert arrived.content.replace(b"\r\n", b"\n").endswith(LETTER)


@pytest.mark.needs("swaks", "curl", "msmtp")
@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_fails_where_the_server_refuses(client: str, recorder: Recorder) -> None:
    recorder.replies["."] = b"550 5.7.1 No\r\n"
    done = CLIENTS[client](Endpoint(port=recorder.port), Letter("jane@acmejets.example", ("x@peers.example",), LETTER))
    assert done.status != 0
    assert "5.7.1 No" in done.text


@pytest.mark.needs("swaks", "SSL.pm", "dovecot", "submission")
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("transport", ["starttls", "tls"])
def test_dovecot_says_who_logged_in_and_the_sink_hears_it(
    method: str, transport: str, dovecot: Dovecot, certificates: Certificates, sink: Sink
) -> None:
    user = f"{method}+{transport}@upstream.example".lower()
    recipient = f"peers-{user}"
    dovecot.add_users({user: RIGHT})
    port = dovecot.tls_port if transport == "tls" else dovecot.starttls_port
    letter = Letter("jane@acmejets.example", (recipient,), LETTER)
    wrong, right = [
        swaks(Endpoint(port=port), letter, Access(transport, certificates.ca_file, user, password, method))
        for password in (WRONG, RIGHT)
    ]
    assert "535" in wrong.text
    assert right.status == 0, right.text
    assert sink.wait_for(recipient).login == user
    assert [(login.method, login.port, login.is_tls) for login in dovecot.wait_for_login(user)] == [
        (method, port, True)
    ]
    assert dovecot.failed_logins(user) == 1


@pytest.mark.needs("dovecot", "submission")
def test_dovecot_sends_in_chunks_where_they_are_offered(certificates: Certificates) -> None:
    replies = {"EHLO": b"250-recorder.test\r\n250 CHUNKING\r\n", "BDAT": b"554 5.5.1 No\r\n"}
    with recorder_server(replies) as recorder, dovecot_server(recorder.port, certificates.server) as front:
        front.add_users({"chunks@upstream.example": RIGHT})
        login = Access(username="chunks@upstream.example", password=RIGHT)
        done = python_smtplib(
            Endpoint(port=front.starttls_port), Letter("a@b.example", ("c@d.example",), LETTER), login
        )
    assert "5.5.1 No" in done.text
    assert any(re.fullmatch(r"BDAT \d+ LAST", command) for command in recorder.conversations[0].commands)


@pytest.mark.needs("postfix", "dovecot", "submission", "root")
def test_postfix_relays_and_refuses_bare_line_feeds(postfix: Postfix, sink: Sink) -> None:
    with RawClient(Endpoint(port=postfix.port)) as client:
        assert client.submit("a@acmejets.example", "bare@peers.example", b"Subject: x\n\nbare\r\n").startswith("550")
    with RawClient(Endpoint(port=postfix.port)) as client:
        assert client.submit("a@acmejets.example", "good@peers.example", b"Subject: x\r\n\r\ngood\r\n").startswith(
            "250"
        )
    assert sink.wait_for("good@peers.example").body == b"good\r\n"
    assert not sink.to("bare@peers.example")


def test_the_recorder_keeps_what_was_on_the_wire(recorder: Recorder) -> None:
    with RawClient(Endpoint(port=recorder.port)) as client:
        assert client.submit("a@b.example", "c@d.example", b"Subject: x\n.\n\r\n..dot\r\n").startswith("250")
        assert client.say("QUIT").startswith("221")
    assert recorder.messages == [b"Subject: x\n.\n\r\n..dot\r\n"]
    assert recorder.conversations[0].commands == [
        "EHLO raw.test",
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<c@d.example>",
        "DATA",
        "QUIT",
    ]


def test_the_recorder_holds_hangs_up_and_answers_as_told(recorder: Recorder) -> None:
    recorder.hold("MAIL")
    recorder.replies["RCPT"] = HANG_UP
    with RawClient(Endpoint(port=recorder.port)) as client:
        client.say("EHLO raw.test")
        client.send(b"MAIL FROM:<a@b.example>\r\n")
        recorder.wait_for("MAIL")
        recorder.release("MAIL")
        assert client.reply() == "250 2.1.0 Sender ok"
        assert client.say("RCPT TO:<c@d.example>") == ""


@pytest.mark.parametrize("resets", [False, True])
def test_the_proxy_loses_the_answer_to_a_message_that_arrived(resets: bool, recorder: Recorder) -> None:
    with proxy_server(recorder.port, upload=Harm(cut_at=b"\r\n.\r\n"), resets=resets) as proxy:
        done = python_smtplib(Endpoint(port=proxy.port), Letter("a@b.example", ("c@d.example",), LETTER))
    assert done.status == 1
    assert ("reset by peer" in done.text) == resets
    wait_until(lambda: len(recorder.messages) == 1, "the message behind the proxy")


@pytest.mark.parametrize(
    "upload",
    [Harm(cut_after=100), Harm(cut_before=b"QUIT"), Harm(cut_before=b"Subject"), Harm(cut_before=b"end\r\n.\r\n")],
)
def test_the_proxy_cuts_where_it_was_told(upload: Harm, recorder: Recorder) -> None:
    whole = b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
    with (
        proxy_server(recorder.port, upload=upload) as proxy,
        RawClient(Endpoint(port=proxy.port)) as client,
    ):
        # In pieces of a few bytes, so that the word comes in parts.
        text = whole + b"Subject: hi\r\n\r\nthe end\r\n.\r\nQUIT\r\n"
        client.send(text[:50])
        client.send(text[50:])
        while client.reply():
            pass
    seen = bytes(recorder.conversations[0].received)
    cut = upload.cut_after if upload.cut_after is not None else text.index(upload.cut_before)
    assert text.startswith(seen)
    assert len(seen) <= cut


def test_the_proxy_takes_starttls_out_of_a_well_formed_reply() -> None:
    assert without_starttls(b"250-a\r\n250-STARTTLS\r\n250 SIZE\r\n") == b"250-a\r\n250 SIZE\r\n"
    assert without_starttls(b"250-a\r\n250 STARTTLS\r\n") == b"250 a\r\n"
    assert without_starttls(b"220 go\r\n") == b"220 go\r\n"


def test_the_proxy_is_late_and_slow(recorder: Recorder) -> None:
    with proxy_server(recorder.port, download=Harm(delay=0.01, rate=100_000)) as proxy:
        done = python_smtplib(Endpoint(port=proxy.port), Letter("a@b.example", ("c@d.example",), LETTER))
    assert done.status == 0, done.text


def test_the_provider_refuses_what_is_too_much_and_remembers_it() -> None:
    """Who says that a provider never saw more than it allows goes by this."""
    with provider_server(Provider(connections=1, per_minute=2)) as provider:
        endpoint = Endpoint(port=provider.port)
        with RawClient(endpoint) as first:
            assert first.log_in("mailer", RIGHT).startswith("235")
            with RawClient(endpoint) as second:
                assert second.log_in("mailer", RIGHT).startswith("432 4.3.2")
                assert second.log_in("other", RIGHT).startswith("235"), "another account"
            for _ in range(2):
                assert first.say("MAIL FROM:<mailer@acmejets.example>").startswith("250")
            assert first.say("MAIL FROM:<mailer@acmejets.example>").startswith("432 4.7.0")
        assert provider.most_open == {"mailer": 2, "other": 1}
        assert len(provider.refusals) == 2


def test_a_line_of_the_package_list_names_a_package_and_its_programs() -> None:
    assert read_packages("# all\nmsmtp: msmtp  # a client\n\ndovecot-core: dovecot doveadm\n") == {
        "msmtp": "msmtp",
        "dovecot": "dovecot-core",
        "doveadm": "dovecot-core",
    }
    with pytest.raises(ValueError, match=r"packages\.txt: 'swaks'"):
        read_packages("swaks")
