"""SCRAM-SHA-256 towards a server: both sides prove that they know the password, and a liar gets nothing."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramMechanism

from relay.directory.model import Auth, Meaning
from relay.secrets.secret import Secret
from relay.upstream.auth import MOST_ITERATIONS, ExchangeStopped, scram_sha_256
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.outcome import Failed, Phase
from tests.dialogs.upstream.upstream_kit import FAST, Line, ScriptedServer, scripted, server_at

pytestmark = pytest.mark.timeout(20)

PASSWORD = "s3cret w\u00f6rd"
SALT = base64.b64encode(b"0123456789abcdef").decode()


def encoded(message: str) -> str:
    return base64.b64encode(message.encode()).decode()


def decoded(word: str) -> str:
    return base64.b64decode(word).decode()


class Keeper:
    """A server's side of the exchange. `spoil` changes each message of it before it is sent."""

    def __init__(self, password: str = PASSWORD, spoil: Callable[[str], str] = str) -> None:
        self._mechanism: Any = ScramMechanism("SCRAM-SHA-256")
        known = self._mechanism.make_auth_info(password)
        self._server: Any = self._mechanism.make_server(lambda _name: known)
        self._spoil = spoil
        self._heard = 0

    async def first(self, line: Line) -> None:
        """The answer to AUTH."""
        self._server.set_client_first(decoded(line.commands[-1].split()[-1]))
        await self._say(line, self._server.get_server_first())

    async def rest(self, line: Line) -> None:
        """The answers to all lines after it."""
        self._heard += 1
        if self._heard == 1:
            self._server.set_client_final(decoded(line.commands[-1]))
            await self._say(line, self._server.get_server_final())
        else:
            await line.send(b"235 2.7.0 welcome\r\n")

    async def _say(self, line: Line, message: str) -> None:
        await line.send(f"334 {encoded(self._spoil(message))}\r\n".encode())


def connection_to(server: ScriptedServer, auth: Auth = Auth.SCRAM_SHA_256) -> Connection:
    settings = server_at(server.port, auth=auth)
    return Connection(settings, hello="relay.example", timeouts=FAST, contexts=Contexts())


async def failure_of(answers: dict[str, Any], password: str = PASSWORD) -> tuple[str, list[str]]:
    """The detail of a login that is refused by us, and the commands that the server got."""
    async with scripted(offers=("AUTH PLAIN SCRAM-SHA-256",), answers=answers) as server:
        connection = connection_to(server)
        with pytest.raises(Failed) as caught:
            await connection.open("mailer", Secret(password, "v1"))
        failure = caught.value.failure
        assert (failure.phase, failure.meaning, failure.from_server) == (Phase.LOGIN, Meaning.LOGIN_REFUSED, False)
        assert caught.value.__cause__ is None
        assert PASSWORD not in str(failure)
        assert not connection.is_usable
        return failure.detail, server.commands[0]


async def test_both_sides_prove_that_they_know_the_password() -> None:
    keeper = Keeper()
    answers = {"AUTH": keeper.first, "auth": keeper.rest}
    async with scripted(offers=("AUTH PLAIN SCRAM-SHA-256",), answers=answers) as server:
        connection = connection_to(server, Auth.AUTO)
        await connection.open("mailer", Secret(PASSWORD, "v1"))
        _, hello, proof, nothing = server.commands[0]
        assert decoded(hello.removeprefix("AUTH SCRAM-SHA-256 ")).startswith("n,,n=mailer,r=")
        assert decoded(proof).startswith("c=biws,r=")
        assert nothing == ""
        assert PASSWORD not in str([decoded(word) for word in (hello.split()[-1], proof)])
        await connection.close()


async def test_the_name_and_the_password_are_prepared() -> None:
    """RFC 4013: composed and decomposed letters are the same, and so are all spaces."""
    keeper = Keeper(PASSWORD)
    answers = {"AUTH": keeper.first, "auth": keeper.rest}
    async with scripted(offers=("AUTH SCRAM-SHA-256",), answers=answers) as server:
        connection = connection_to(server)
        await connection.open("ma\u00ad,=iler", Secret("s3cret\u00a0wo\u0308rd", "v1"))
        assert decoded(server.commands[0][1].split()[-1]).startswith("n,,n=ma=2C=3Diler,r=")
        await connection.close()


async def test_a_server_with_another_password_is_not_believed() -> None:
    """It takes any proof: all that it lacks is the signature."""
    known = Keeper("another one")
    answers = {"AUTH": known.first, "auth": [f"334 {encoded('v=' + encoded('x' * 32))}\r\n".encode(), b"235 ok\r\n"]}
    detail, commands = await failure_of(answers)
    assert detail.startswith("the server did not prove that it knows the password: The server signature doesn't match")
    assert len(commands) == 3


@pytest.mark.parametrize("lines", [0, 1])
async def test_a_welcome_without_proof_is_no_login(lines: int) -> None:
    welcome = b"235 2.7.0 welcome\r\n"
    answers = {"AUTH": welcome if lines == 0 else Keeper().first, "auth": welcome}
    detail, _ = await failure_of(answers)
    assert detail == "the server says that the login is good, and did not prove that it knows the password"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("e=unknown-user", "The server returned an error: unknown-user"),
        (f"r=NONCE,s={SALT},i=4096", "nonce doesn't match"),
        ("", "Malformed"),
        ("r=\udc80", "invalid"),
    ],
)
async def test_a_first_message_that_is_none_ends_the_login(message: str, why: str) -> None:
    word = base64.b64encode(message.encode("utf-8", "surrogateescape"))
    detail, commands = await failure_of({"AUTH": b"334 " + word + b"\r\n"})
    assert detail.startswith("the server's first message of SCRAM-SHA-256 is wrong: ")
    assert why in detail
    assert len(commands) == 2


@pytest.mark.parametrize("iterations", [MOST_ITERATIONS + 1, 2**31])
async def test_a_server_that_wants_too_much_hashing_is_left(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(spoil=lambda message: message.replace("i=4096", f"i={iterations}"))
    hashed = Mock(side_effect=AssertionError)
    monkeypatch.setattr("hashlib.pbkdf2_hmac", hashed)
    detail, commands = await failure_of({"AUTH": keeper.first, "auth": keeper.rest})
    assert str(iterations) in detail or "must not be >" in detail
    assert len(commands) == 2
    hashed.assert_not_called()


async def test_much_hashing_leaves_the_loop_free() -> None:
    """The most that is allowed: the proof is wrong then, which the server says, and meanwhile others had a turn."""
    keeper = Keeper(spoil=lambda message: message.replace("i=4096", f"i={MOST_ITERATIONS}"))
    turns = 0

    async def refuse(line: Line) -> None:
        assert turns > 10
        await line.send(b"535 5.7.8 No\r\n")

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    async def challenge(line: Line) -> None:
        nonlocal turns
        turns = 0
        await keeper.first(line)

    async with scripted(offers=("AUTH SCRAM-SHA-256",), answers={"AUTH": challenge, "auth": refuse}) as server:
        other = asyncio.create_task(take_turns())
        connection = connection_to(server)
        with pytest.raises(Failed) as caught:
            await connection.open("mailer", Secret(PASSWORD, "v1"))
        assert str(caught.value.failure.reply) == "535 5.7.8 No"
        other.cancel()
        await connection.close()


@pytest.mark.parametrize(
    ("name", "password"), [("mailer", "a\0b"), ("mailer", "\udc80"), ("\u0627b", "x"), ("\u00ad", "x")]
)
async def test_what_cannot_be_prepared_is_not_said(name: str, password: str) -> None:
    with pytest.raises(ExchangeStopped, match="cannot be told by SCRAM-SHA-256: ") as stopped:
        next(scram_sha_256(name, password))
    assert password not in str(stopped.value).split(": ")[-1].split()


@given(st.one_of(st.text(), st.text().map(encoded), st.text("rsienv=,+/0123456789Aa").map(encoded)))
def test_whatever_a_server_says_only_a_sentence_comes_out(said: str) -> None:
    exchange = scram_sha_256("mailer", PASSWORD)
    next(exchange)
    with pytest.raises(ExchangeStopped) as stopped:
        exchange.send(said)
    assert PASSWORD not in str(stopped.value)
