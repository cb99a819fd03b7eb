"""Every kind of client over each encryption and each login: what the station behind a real Dovecot saw of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from tests.peers.canaries import canary
from tests.peers.clients import Access, Composition, Endpoint, Letter, python_smtplib
from tests.peers.clients.kinds import KINDS, Kind
from tests.peers.door import JANE, SECURITIES, SUPPORT, Door, account_of, door_of
from tests.peers.dovecot import Dovecot, dovecot_server
from tests.peers.fixtures import Certificates
from tests.peers.rows import EachRow
from tests.peers.sink import Arrived, Sink
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs("dovecot", "submission")

TEXT = ".one dot\n..two dots\n.\n\nschön  \nFrom here\n" + "long " * 600 + "\nend\n"
ATTACHMENT = bytes(range(256)) * 8


@pytest.fixture(scope="module")
def door(dovecot: Dovecot, certificates: Certificates) -> Iterator[Door]:
    with door_of(dovecot, certificates) as door:
        yield door


def kinds(*, that: str = "") -> list[Any]:
    """Every kind, or those that have this property, each with what it needs."""
    return [pytest.param(kind, id=kind.name, marks=marks(kind)) for kind in KINDS if not that or getattr(kind, that)]


def ways() -> list[Any]:
    """Every kind with each encryption and each of its logins, and without one: one that is slow once in the gate."""
    found = []
    for kind in KINDS:
        first = ("starttls", kind.mechanisms[0])
        every = [(security, mechanism) for security in SECURITIES for mechanism in ("", *kind.mechanisms)]
        others = [way for way in every if way != first]
        if kind.is_slow:
            found.append(pytest.param(kind, [first], id=f"{kind.name}-once", marks=marks(kind)))
            found.append(pytest.param(kind, others, id=kind.name, marks=marks(kind, is_first=False)))
        else:
            found.append(pytest.param(kind, every, id=kind.name, marks=marks(kind)))
    return found


def marks(kind: Kind, *, is_first: bool = True) -> list[pytest.MarkDecorator]:
    slowness = pytest.mark.slow if is_first else pytest.mark.long
    return [pytest.mark.needs(*kind.needs), *([slowness] if kind.is_slow else [])]


def composition(recipient: str, *, sender: str = SUPPORT, attachment: bytes = ATTACHMENT) -> Composition:
    return Composition(sender, (recipient,), "Größe 5 €: schön", TEXT, attachment)


def assert_same(written: Composition, arrived: Arrived, profile: str) -> None:
    """The message is what was written, and account, envelope and From are those of the profile."""
    assert arrived.login == account_of(profile)
    assert arrived.sender == written.sender
    assert arrived.recipients == written.recipients
    message = message_from_bytes(arrived.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert [address.addr_spec for address in message["From"].addresses] == [written.sender]
    assert message["Sender"] is None
    assert written.is_in(message), arrived.content[:4000].decode(errors="replace")


def protocol(arrived: Arrived) -> str:
    """How the relay says that it got the message, in the Received that it wrote (RFC 3848)."""
    (field,) = [value for value in arrived.header.get_all("Received", []) if "by relay.test" in value]
    found = re.search(r"\bwith (\S+)", field)
    assert found, field
    return found[1]


@contextmanager
def refusal(door: Door, reply: str) -> Iterator[None]:
    """The relay refuses something with this reply: the client fails for no other reason."""
    told = f'"reply": "{reply} '
    count = door.relay.log.count(told)
    yield
    wait_until(lambda: door.relay.log.count(told) > count, f"{reply} in the log")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "each_way"), ways())
def test_each_client_delivers_over_each_encryption_and_login(
    kind: Kind, each_way: list[tuple[str, str]], door: Door, sink: Sink
) -> None:
    with EachRow() as each:
        for security, mechanism in each_way:
            with each.row(f"{security}, {mechanism or 'nobody'}"):
                check_delivery(kind, security, mechanism, door, sink)


def check_delivery(kind: Kind, security: str, mechanism: str, door: Door, sink: Sink) -> None:
    written = composition(f"{kind.name}.{security}.{mechanism or 'nobody'}@customer.example".lower())
    access = door.access(security, "support" if mechanism else "", mechanism)
    done = kind.send(door.endpoint(security, needs_login=bool(mechanism)), written, access)
    assert done.status == 0, done.text + door.relay.last_words

    arrived = sink.wait_for(written.recipients[0])
    assert_same(written, arrived, "support")
    if kind.sends:
        assert arrived.body == written.letter.content.partition(b"\n\n")[2].replace(b"\n", b"\r\n")
    assert protocol(arrived) == kind.protocol(security, logs_in=bool(mechanism))


@pytest.mark.parametrize("kind", kinds(that="passwords_beyond_ascii"))
def test_each_client_chooses_a_login_by_itself_and_says_any_password(kind: Kind, door: Door, sink: Sink) -> None:
    written = composition(f"{kind.name}.choice@customer.example", sender=JANE)
    done = kind.send(door.endpoint("starttls", needs_login=True), written, door.access("starttls", JANE))
    assert done.status == 0, done.text + door.relay.last_words
    assert_same(written, sink.wait_for(written.recipients[0]), "jane")


@pytest.mark.parametrize("kind", kinds())
def test_each_client_sends_a_large_message(kind: Kind, door: Door, sink: Sink) -> None:
    written = composition(f"{kind.name}.large@customer.example", attachment=bytes(range(256)) * 4096)
    done = kind.send(door.endpoint("tls", needs_login=True), written, door.access("tls", "support"))
    assert done.status == 0, done.text[-2000:] + door.relay.last_words
    assert_same(written, sink.wait_for(written.recipients[0]), "support")


@pytest.mark.parametrize("kind", kinds())
def test_no_client_sends_with_a_wrong_password(kind: Kind, door: Door, sink: Sink) -> None:
    written = composition(f"{kind.name}.wrong@customer.example")
    # A name for each: failures are counted by the name, and the third is answered late.
    access = Access("starttls", door.ca_file, f"{kind.name}@nobody.example", canary("wrong"))
    with refusal(door, "535 5.7.8"):
        done = kind.send(door.endpoint("starttls", needs_login=True), written, access)
    assert done.status != 0
    assert not sink.to(written.recipients[0])


@pytest.mark.parametrize("kind", kinds())
def test_no_client_sends_without_the_login_that_is_required(kind: Kind, door: Door, sink: Sink) -> None:
    written = composition(f"{kind.name}.required@customer.example")
    with refusal(door, "530 5.7.0"):
        done = kind.send(door.endpoint("tls", needs_login=True), written, door.access("tls"))
    assert done.status != 0
    assert not sink.to(written.recipients[0])


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("kind", kinds())
def test_no_client_sends_to_a_door_whose_authority_it_does_not_know(
    kind: Kind, security: str, door: Door, sink: Sink
) -> None:
    written = composition(f"{kind.name}.authority.{security}@customer.example")
    done = kind.send(door.endpoint(security, needs_login=False), written, Access(security, door.other_ca_file))
    assert done.status != 0
    assert not sink.to(written.recipients[0])


@pytest.mark.parametrize("kind", kinds(that="checks_names"))
def test_no_client_sends_to_a_door_with_another_name(kind: Kind, door: Door, sink: Sink) -> None:
    written = composition(f"{kind.name}.name@customer.example")
    done = kind.send(door.misnamed, written, door.access("tls"))
    assert done.status != 0
    assert not sink.to(written.recipients[0])


@pytest.mark.parametrize("security", SECURITIES)
def test_a_server_before_the_door_sends_in_chunks(
    security: str, door: Door, sink: Sink, certificates: Certificates
) -> None:
    """Dovecot's submission service sends with BDAT wherever CHUNKING is offered (see test_peers)."""
    endpoint = door.endpoint(security, needs_login=True)
    access = door.access(security, "support")
    recipient = f"chunks.{security}@customer.example"
    letter = Letter(SUPPORT, (recipient,), composition(recipient).letter.content)
    with dovecot_server(endpoint.port, certificates.server, relays_by=access) as front:
        front.add_users({"front@upstream.example": canary("front")})
        login = Access(username="front@upstream.example", password=canary("front"))
        done = python_smtplib(Endpoint(port=front.starttls_port), letter, login)
    assert done.status == 0, done.text + door.relay.last_words
    assert_same(composition(recipient), sink.wait_for(recipient), "support")
