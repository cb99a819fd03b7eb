"""From spoofing, row by row and login by login: what leaves never bears an address that the login may not use."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hostile.house import BILLING, JANE, LOGINS, MAILER, NOBODY, SALES, client_of, house
from tests.hostile.judges import JUDGES
from tests.hostile.vectors import VECTORS, Kind, forged
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay

pytestmark = pytest.mark.slow

MODES = ("rewrite", "reject")
REST = b"Date: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@client.example>\r\nSubject: forged\r\n\r\nhello\r\n"


@dataclass(frozen=True)
class Actor:
    """Who forges: `login` sends as `sender`, which leaves as `identity`. It `may` use some victims besides."""

    login: str
    sender: str = JANE
    identity: str = JANE
    may: tuple[str, ...] = ()


ACTORS = (
    Actor("jane"),
    Actor("crm"),
    Actor("everyone", may=(SALES, NOBODY)),
    Actor("", may=(SALES, NOBODY)),
    Actor("everyone", BILLING, MAILER, (SALES, NOBODY)),
)


@pytest.fixture(scope="module")
def wire() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module", params=MODES)
def relay(request: pytest.FixtureRequest, wire: Recorder) -> Iterator[Relay]:
    with house(wire.port, {"policy": {"from_mismatch": request.param}}, logins=LOGINS) as relay:
        yield relay


@pytest.fixture(scope="module")
def clients(relay: Relay) -> Iterator[dict[str, RawClient]]:
    with (
        client_of(relay, "jane") as jane,
        client_of(relay, "crm") as crm,
        client_of(relay, "everyone") as everyone,
        client_of(relay, "") as network,
    ):
        yield {"jane": jane, "crm": crm, "everyone": everyone, "": network}


def replies_to(kind: Kind, actor: Actor, victim: str, mode: str) -> tuple[str, ...]:
    """What DESIGN section 2 says a vector must bring."""
    match kind:
        case Kind.OWN:
            return ("250 2.0.0",)
        case Kind.OTHER:
            return ("250 2.0.0",) if victim in actor.may and mode == "rewrite" else ("550 5.7.1",)
        case Kind.UNREADABLE:
            return ("250 2.0.0",) if mode == "rewrite" else ("554 5.6.0",)
        case Kind.AMBIGUOUS:
            return ("554 5.6.0",)


@pytest.mark.parametrize("kind", Kind)
def test_a_forgery_is_aligned_or_refused(
    kind: Kind, relay: Relay, clients: dict[str, RawClient], wire: Recorder, request: pytest.FixtureRequest
) -> None:
    mode = str(request.node.callspec.params["relay"])
    wrong = {}
    for name, (its_kind, block) in VECTORS.items():
        try:
            if its_kind is kind:
                forge(kind, block, mode, clients, wire)
        except AssertionError as error:
            wrong[name] = str(error)
    assert not wrong


def forge(kind: Kind, block: bytes, mode: str, clients: dict[str, RawClient], wire: Recorder) -> None:
    for actor in ACTORS:
        for victim in (SALES, NOBODY):
            header = forged(block, actor.sender, victim)
            count = len(wire.messages)
            reply = submit(clients[actor.login], actor.sender, header + b"\r\n" + REST)
            assert reply.startswith(replies_to(kind, actor, victim, mode)), (actor, victim, reply)
            left = wire.messages[count:]
            assert len(left) == reply.startswith("250")
            for message in left:
                judge(message, actor, victim)
                assert envelope_sender(wire, message) == actor.identity


@pytest.mark.parametrize("login", ["jane", "crm", ""])
def test_a_forgery_behind_the_null_sender_is_refused_or_bears_what_the_login_may_use(
    login: str, relay: Relay, clients: dict[str, RawClient], wire: Recorder
) -> None:
    """The From header picks the profile there, so it must be one that the login may use, and clear."""
    wrong = {}
    for name, (_, block) in VECTORS.items():
        try:
            pass_by_null_sender(forged(block, JANE, SALES), login, clients, wire)
        except AssertionError as error:
            wrong[name] = str(error)
    assert not wrong


def pass_by_null_sender(header: bytes, login: str, clients: dict[str, RawClient], wire: Recorder) -> None:
    count = len(wire.messages)
    reply = submit(clients[login], "", header + b"\r\n" + REST)
    left = wire.messages[count:]
    assert len(left) == reply.startswith("250")
    assert reply[:3] in {"250", "550", "554"}
    for message in left:
        bearer = next(iter(JUDGES["compat32"](message, "from")[0]))
        assert bearer.replace("+x@", "@") in {JANE, *([SALES] if login == "" else [])}
        judge(message, Actor(login, bearer, bearer), NOBODY)


def submit(client: RawClient, sender: str, content: bytes) -> str:
    """One message on a connection that goes on."""
    for line in (f"MAIL FROM:<{sender}>", "RCPT TO:<you@customer.example>"):
        reply = client.say(line)
        assert reply.startswith("250"), reply
    client.say("DATA")
    client.send(content + b".\r\n")
    return client.reply()


def judge(message: bytes, actor: Actor, victim: str) -> None:
    """Every judge sees one From, with the identity alone; and no Sender but the identity."""
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", message)
    for name, read in JUDGES.items():
        (author,) = read(message, "from")
        # A name may show the profile's own address, which the judge who takes everything for one takes for one.
        own = {actor.identity, *([actor.sender] if name == "CRLF" else [])}
        assert {actor.identity} <= author <= own, f"{name} sees another author"
        assert read(message, "sender") in ([], [{actor.identity}]), f"{name} sees another sender"
        assert read(message, "return-path") == []
    assert victim not in "".join(str(read(message, "from")) for read in JUDGES.values())


def envelope_sender(wire: Recorder, message: bytes) -> str:
    """The sender that the newest message left with."""
    (talk,) = (talk for talk in wire.conversations if talk.messages and talk.messages[-1] is message)
    return bytes(talk.received).decode(errors="replace").rpartition("MAIL FROM:<")[2].partition(">")[0]
