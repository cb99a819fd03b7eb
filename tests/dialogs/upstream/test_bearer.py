"""Logging in with an access token: what is said, and what a server says about a token that it refuses."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.directory.model import Auth, Meaning, Security
from relay.secrets.secret import Secret
from relay.upstream.auth import ExchangeStopped, oauthbearer, refusal_words, xoauth2
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.outcome import Failed
from tests.dialogs.upstream.upstream_kit import FAST, scripted, server_at

pytestmark = pytest.mark.timeout(60)

TOKEN = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
NO_TOKEN = {"status": "400", "schemes": "Bearer", "scope": "https://mail.google.com/"}


def challenge(said: object) -> str:
    return base64.b64encode(json.dumps(said).encode()).decode()


def test_the_exchanges_say_what_their_documents_say() -> None:
    # developers.google.com/gmail/imap/xoauth2-protocol
    assert list(xoauth2("someuser@example.com", TOKEN)) == [
        b"AUTH XOAUTH2 " + base64.b64encode(f"user=someuser@example.com\x01auth=Bearer {TOKEN}\x01\x01".encode()),
        b"",
    ]
    # RFC 7628 section 4.1 and RFC 5801 section 4
    assert list(oauthbearer("us=er,1@example.com", TOKEN)) == [
        b"AUTH OAUTHBEARER "
        + base64.b64encode(f"n,a=us=3Der=2C1@example.com,\x01auth=Bearer {TOKEN}\x01\x01".encode()),
        b"AQ==",
    ]


@pytest.mark.parametrize("exchange", [xoauth2, oauthbearer])
@pytest.mark.parametrize(("user", "token"), [("a\x01b", TOKEN), ("a", f"{TOKEN}\x01"), ("a", ""), ("a", "two words")])
def test_what_would_end_its_field_is_not_said(exchange: object, user: str, token: str) -> None:
    with pytest.raises(ExchangeStopped) as stopped:
        next(exchange(user, token))  # type: ignore[operator]
    assert TOKEN not in str(stopped.value)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (challenge(NO_TOKEN), "status 400, schemes Bearer, scope https://mail.google.com/"),
        (challenge({"status": "invalid_token", "scope": "", "more": {"a": 1}}), "status invalid_token"),
        (challenge({"status": "x\r\n250 fine\u2028"}), "status x 250 fine"),
        (challenge({"status": "x" * 1000}), "status " + "x" * 293),
        (challenge(["status"]), ""),
        ("", ""),
        ("not base64", ""),
        (base64.b64encode(b"[" * 6000).decode(), ""),
        (base64.b64encode(b"9" * 6000).decode(), ""),
        (base64.b64encode(b"\xff{}").decode(), ""),
    ],
)
def test_a_refusal_is_explained_in_one_clean_line(said: str, words: str) -> None:
    assert refusal_words(said) == words


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.b64encode(raw).decode())))
def test_whatever_the_challenge_is_the_words_are_a_short_line(said: str) -> None:
    words = refusal_words(said)
    assert len(words) <= 300
    assert words.isprintable()


@pytest.mark.parametrize(("offer", "last_word"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
async def test_a_refused_token_is_a_refused_login_in_the_providers_words(offer: str, last_word: str) -> None:
    said = {"status": "401", "schemes": "bearer", "echo": TOKEN}
    answers = {"AUTH": f"334 {challenge(said)}\r\n".encode(), "auth": b"535 5.7.8 Not you\r\n"}
    async with scripted(offers=(f"AUTH PLAIN {offer}",), answers=answers) as server:
        connection = connection_to(server.port)
        with pytest.raises(Failed) as caught:
            await connection.open("mailer", Secret(TOKEN, "v1"))
        failure = caught.value.failure
        assert (str(failure.reply), failure.meaning) == ("535 5.7.8 Not you", Meaning.LOGIN_REFUSED)
        assert failure.detail == "status 401, schemes bearer, echo ***"
        assert failure.from_server
        assert caught.value.__cause__ is None
        # one mechanism, one attempt
        assert server.verbs[0] == ["EHLO", "AUTH", last_word]
        await connection.close()


async def test_no_token_leaves_unprotected_whatever_a_password_may() -> None:
    async with scripted(offers=("AUTH XOAUTH2",)) as server:
        connection = connection_to(server.port, allow_plaintext_password=True)
        await connection.connect(await connection.resolve())
        await connection.begin()
        await connection.hello()
        connection._peer = "192.0.2.1"  # no address but loopback can be connected to in a test
        with pytest.raises(Failed) as caught:
            await connection.login("mailer", Secret(TOKEN, "v1"))
        assert caught.value.failure.detail.startswith("the token would go in clear")
        assert "AUTH" not in server.verbs[0]
        await connection.close()


async def test_a_good_token_logs_in() -> None:
    async with scripted(offers=("AUTH LOGIN XOAUTH2 OAUTHBEARER",)) as server:
        connection = connection_to(server.port)
        await connection.open("mailer", Secret(TOKEN, "v1"))
        assert server.commands[0][1].startswith("AUTH XOAUTH2 ")
        await connection.close()


def connection_to(port: int, **changes: object) -> Connection:
    server = server_at(port, auth=Auth.OAUTH2, security=Security.NONE, **changes)
    return Connection(server, hello="relay.example", timeouts=FAST, contexts=Contexts())
