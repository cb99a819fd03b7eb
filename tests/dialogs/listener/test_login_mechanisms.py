"""The mechanisms of AUTH. The invariant: whatever a client answers, the end is a login, None, or a CommandFault."""

import asyncio
import base64
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scramp import ScramClient

from relay.directory.client import Login
from relay.listener import replies
from relay.listener.auth import MECHANISMS, read_plain
from relay.listener.commands import AuthCommand, CommandFault, decode_response, parse_auth
from relay.secrets.login_password import Verifier, make_verifier
from tests.dialogs.listener.listener_kit import FakeLogins

PASSWORD = "canary-Pässwörd"
_VERIFIER = make_verifier(PASSWORD)


class Quick(FakeLogins):
    """Knows one verifier, made once: making one takes its time by design."""

    async def verifier(self, name: str) -> tuple[Login | None, Verifier]:
        return Login(name, (name,)) if name == "jane" else None, _VERIFIER


class Talk:
    """Answers with what it was given, and then not any more."""

    def __init__(self, *responses: bytes | Callable[[bytes], bytes]) -> None:
        self.responses = list(responses)
        self.challenges: list[bytes] = []
        self.names: list[str] = []

    async def ask(self, challenge: bytes) -> bytes:
        self.challenges.append(challenge)
        if not self.responses:
            raise CommandFault(replies.LOGIN_CANCELLED)
        response = self.responses.pop(0)
        return response if isinstance(response, bytes) else response(challenge)

    def claim(self, name: str) -> None:
        self.names.append(name)


def run(mechanism: bytes, talk: Talk) -> Login | None:
    return asyncio.run(MECHANISMS[mechanism](talk, Quick({"jane": PASSWORD})))


def scram_client(name: str = "jane", password: str = PASSWORD) -> ScramClient:
    return ScramClient(["SCRAM-SHA-256"], name, password)


def scram_talk(client: ScramClient) -> Talk:
    def prove(challenge: bytes) -> bytes:
        client.set_server_first(challenge.decode())
        return str(client.get_client_final()).encode()

    def thank(challenge: bytes) -> bytes:
        client.set_server_final(challenge.decode())
        return b""

    return Talk(client.get_client_first().encode(), prove, thank)


def test_the_right_password_logs_in_by_each_mechanism() -> None:
    password = PASSWORD.encode()
    assert run(b"PLAIN", Talk(b"\0jane\0" + password)) == Login("jane", ("jane",))
    assert run(b"LOGIN", Talk(b"jane", password)) == Login("jane", ("jane",))
    assert run(b"SCRAM-SHA-256", scram_talk(scram_client())) == Login("jane", ("jane",))


def test_the_name_is_claimed_before_anything_is_checked() -> None:
    class Barred(Exception):
        pass

    class Door(Talk):
        def claim(self, name: str) -> None:
            raise Barred

    logins = FakeLogins({"jane": PASSWORD})
    first = scram_client().get_client_first().encode()
    for mechanism, said in {b"PLAIN": [b"\0jane\0x"], b"LOGIN": [b"jane", b"x"], b"SCRAM-SHA-256": [first]}.items():
        with pytest.raises(Barred):
            asyncio.run(MECHANISMS[mechanism](Door(*said), logins))
    assert logins.checked == []


@pytest.mark.parametrize(("name", "password"), [("jane", "wrong"), ("nobody", PASSWORD), ("nobody", "wrong")])
def test_a_wrong_password_and_a_name_that_is_nobodys_look_alike(name: str, password: str) -> None:
    assert run(b"PLAIN", Talk(f"\0{name}\0{password}".encode())) is None
    assert run(b"LOGIN", Talk(name.encode(), password.encode())) is None
    talk = scram_talk(scram_client(name, password))
    assert run(b"SCRAM-SHA-256", talk) is None
    assert len(talk.challenges) == 2


@pytest.mark.parametrize(
    "response", [b"", b"jane", b"\0", b"a\0b", b"\0jane\0x\0y", b"\0ja\xffne\0x", b"\0jane\0x\ny", b"\0j\x7f\0x"]
)
def test_what_is_no_plain_is_a_fault_without_the_password(response: bytes) -> None:
    with pytest.raises(CommandFault) as fault:
        read_plain(response)
    assert (fault.value.reply.code, fault.value.reply.enhanced) == (501, "5.5.2")


def test_an_authorization_identity_is_nobody_else() -> None:
    assert read_plain(b"jane\0jane\0x") == ("jane", "x")
    with pytest.raises(CommandFault) as fault:
        read_plain(b"support\0jane\0x")
    assert fault.value.reply == replies.FOREIGN_IDENTITY


@pytest.mark.parametrize("mechanism", [b"PLAIN", b"LOGIN"])
@pytest.mark.parametrize(("name", "password"), [("j" * 9000, "x"), ("jane", "x" * 9000)])
def test_what_is_longer_than_any_name_or_password_is_wrong(name: str, password: str, mechanism: bytes) -> None:
    """A name is kept for the log and the failures, so no more of it than any name has."""
    said = [f"\0{name}\0{password}"] if mechanism == b"PLAIN" else [name, password]
    talk = Talk(*(text.encode() for text in said))
    assert run(mechanism, talk) is None
    assert talk.names == [name[:256]]


# What a client may try at the messages of SCRAM, with what comes of it.
FIRST_MESSAGES = [
    b"",
    b"n,,",
    b"n,,n=jane",
    b"n,,r=abc",
    b"n,,r=abc,n=jane",
    b"p=tls-unique,,n=jane,r=abc",
    b"p=tls-exporter,,n=jane,r=abc",
    b"n,,m=ext,n=jane,r=abc",
    b"n,,n=ja=ne,r=abc",
    b"n,,n==2C=3D,r=",
    b"n,,n=,r=abc",
    b"n,,n=ja\0ne,r=abc",
    b"n,,n=\xff,r=abc",
    b"n,,n=\xd8\xa7a,r=abc",
    b"n,,n=\xee\x80\x80,r=abc",
    b"n,,n=jane,r=\xc3\xa9",
    b"n,,n=" + b"\xef\xb7\xba" * 1000 + b",r=abc",
]


@pytest.mark.parametrize("message", FIRST_MESSAGES, ids=repr)
def test_what_is_no_first_message_of_scram_is_a_fault(message: bytes) -> None:
    talk = Talk(message, b"c=biws,r=abc,p=AAAA")
    with pytest.raises(CommandFault) as fault:
        run(b"SCRAM-SHA-256", talk)
    assert (fault.value.reply.code, fault.value.reply.enhanced) == (501, "5.5.2")
    assert talk.names == []


def test_a_client_that_could_bind_to_the_channel_may_begin() -> None:
    talk = scram_talk(scram_client())
    talk.responses[0] = b"y" + scram_client().get_client_first().encode()[1:]
    # This client did not mean "y,," and proves "n,,": the exchange begins, and fails with the proof.
    talk.responses[1] = b"c=biws,r=abc,p=AAAA"
    assert run(b"SCRAM-SHA-256", talk) is None


def altered(client: ScramClient, alter: Callable[[str], str]) -> Talk:
    def prove(challenge: bytes) -> bytes:
        client.set_server_first(challenge.decode())
        return alter(client.get_client_final()).encode()

    return Talk(client.get_client_first().encode(), prove, b"")


@pytest.mark.parametrize(
    "alter",
    [
        lambda final: final.replace("c=biws", "c=eSws"),
        lambda final: final.replace("c=biws", "c=*"),
        lambda final: final.replace(",r=", ",r=x"),
        lambda final: final.replace(",p=", ",x=1,p="),
        lambda final: final[:-8] + "AAAAAAA=",
        lambda final: final[: final.index(",p=")],
        lambda final: final + ",p=AAAA",
        lambda final: final.replace(",p=", ",p=\u0661"),
        lambda _: "",
        lambda _: ",,,,",
    ],
)
def test_a_proof_that_was_altered_is_a_wrong_password(alter: Callable[[str], str]) -> None:
    assert run(b"SCRAM-SHA-256", altered(scram_client(), alter)) is None


def test_the_last_response_of_scram_is_empty() -> None:
    talk = scram_talk(scram_client())
    talk.responses[2] = b"more"
    with pytest.raises(CommandFault, match=r"501 5\.5\.2"):
        run(b"SCRAM-SHA-256", talk)


def test_a_proof_of_one_exchange_is_none_for_another() -> None:
    kept: list[bytes] = []

    def keep(final: str) -> str:
        kept.append(final.encode())
        return final

    client = scram_client()
    assert run(b"SCRAM-SHA-256", altered(client, keep)) == Login("jane", ("jane",))
    assert run(b"SCRAM-SHA-256", Talk(scram_client().get_client_first().encode(), kept[0], b"")) is None


def end_of(mechanism: bytes, talk: Talk) -> Login | int | None:
    try:
        return run(mechanism, talk)
    except CommandFault as fault:
        return fault.reply.code


_PIECES = st.sampled_from(
    [
        "n,,",
        "y,,",
        "p=x,,",
        "n=jane",
        "r=abc",
        "c=biws",
        "p=AAAA",
        ",",
        "=",
        "=2C",
        "m=",
        "\0",
        "é",
        "\ufdfa",
        "\xad",
        "i=1",
    ]
)
_MESSAGES = st.one_of(st.binary(max_size=40), st.lists(_PIECES, max_size=8).map(lambda parts: "".join(parts).encode()))


@given(st.sampled_from(sorted(MECHANISMS)), st.lists(_MESSAGES, max_size=4), st.booleans())
@example(b"SCRAM-SHA-256", [b"n,,n=jane,r=abc", b"c=biws,r=abc,p="], False)
def test_whatever_a_client_says_the_end_is_one_of_three(mechanism: bytes, said: list[bytes], begins: bool) -> None:
    responses = [scram_client().get_client_first().encode(), *said] if begins else said
    assert end_of(mechanism, Talk(*responses)) in {None, 501, 535}


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        (b"plain", AuthCommand(b"PLAIN")),
        (b"PLAIN =", AuthCommand(b"PLAIN", b"")),
        (b"Scram-Sha-256  YQ==", AuthCommand(b"SCRAM-SHA-256", b"a")),
    ],
)
def test_the_argument_of_auth(argument: bytes, command: AuthCommand) -> None:
    assert parse_auth(argument, MECHANISMS) == command


@pytest.mark.parametrize(
    "argument", [b"", b"PLAIN a b", b"PLAIN YQ", b"PLAIN ====", b"PLAIN Y\xffQ=", b"PLAIN YQ==YQ=="]
)
def test_the_argument_of_auth_refuses(argument: bytes) -> None:
    with pytest.raises(CommandFault) as fault:
        parse_auth(argument, MECHANISMS)
    assert fault.value.reply.code == 501


def test_a_response_is_base64_and_a_star_is_the_end() -> None:
    assert decode_response(b"") == b""
    assert decode_response(base64.b64encode(b"jane")) == b"jane"
    with pytest.raises(CommandFault, match=r"501 5\.7\.0"):
        decode_response(b"*")
    for line in (b"=", b"YQ", b"YQ==\xff", b"**", b"Y Q="):
        with pytest.raises(CommandFault, match=r"501 5\.5\.2"):
            decode_response(line)


def test_an_initial_response_does_not_show_itself() -> None:
    assert "canary" not in repr(AuthCommand(b"PLAIN", b"\0jane\0canary"))
