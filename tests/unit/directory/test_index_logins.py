"""By which names a channel, an agent or an application logs in, and as whom it may send then."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.directory.client import Client, Login, login_of
from relay.directory.index import login_key
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.address import Address
from tests.peers.rows import each_row
from tests.unit.directory.directory_kit import HOUSE

LOGINS = """
[agents.boss]
address = "boss@bücher.example"
may_send_as = ["support", "group:sales"]

[agents.Bob]
address = "bob.one@acme.example"

[agents.bob]
address = "bob.two@acme.example"

[agents."pat@home.example"]
address = "pat@acme.example"

[applications.CRM]
may_send_as = ["*"]

[applications.idle]
"""
ROUTING = Routing(parse_directory(tomllib.loads(HOUSE + LOGINS)))


@each_row(
    ("given", "name"),
    [
        ("support", "support"),
        ("SUPPORT", "support"),
        ("Support@Acme.Example", "support"),
        ("help@acme.example", None),  # an alias is no login
        ("support+1@acme.example", None),
        ("x@support.acme.example", None),
        ("jane", "jane"),
        ("jane.doe@acme.example", "jane"),
        ("boss@bücher.example", "boss"),
        ("BOSS@xn--bcher-kva.example", "boss"),
        ("Bob", "Bob"),
        ("bob", "bob"),
        ("BOB", None),  # who of the two?
        ("bob.ONE@acme.example", "Bob"),
        ("pat@home.example", "pat@home.example"),
        ("PAT@home.example", "pat@home.example"),
        ("pat@acme.example", "pat@home.example"),
        ("CRM", "CRM"),
        ("crm", "CRM"),
        ("", None),
        ("*", None),
        ("group:sales", None),
        (" support", None),
        ("nobody@acme.example", None),
        ("@acme.example", None),
        ("support@", None),
        ("x" * 10_000 + "@acme.example", None),
    ],
)
def test_a_name_or_the_own_address_is_a_login(given: str, name: str | None) -> None:
    login = login_of(ROUTING, given)
    assert (login and login.name) == name


@pytest.mark.parametrize(
    ("name", "may_send_as"),
    [
        ("support", ("support",)),
        ("jane", ("jane",)),
        ("boss", ("boss", "support", "group:sales")),
        ("CRM", ("*",)),
        ("idle", ()),
    ],
)
def test_a_login_may_send_as_itself_and_whom_it_names(name: str, may_send_as: tuple[str, ...]) -> None:
    assert login_of(ROUTING, name) == Login(name, may_send_as)


def test_after_a_login_the_network_counts_no_more() -> None:
    network = Client("127.0.0.1", "127.0.0.1", ("*",), is_trusted=True)
    login = login_of(ROUTING, "jane.doe@acme.example")
    assert login is not None
    client = network.logged_in(login)
    assert (client.name, client.peer, client.allows_anyone) == ("jane", "127.0.0.1", False)
    allowed = {profile.name for profile in ROUTING.directory.profiles() if client.allows(profile)}
    assert allowed == {"jane"}


@given(st.text(max_size=300))
def test_any_text_is_a_login_of_somebody_or_nobody(text: str) -> None:
    assert isinstance(login_key(text), str)
    login = login_of(ROUTING, text)
    assert login is None or login_key(login.name) == login_key(text) or "@" in text


def test_two_who_differ_by_a_sharp_s_are_two() -> None:
    """So they are to other mail servers, which str.casefold does not know."""
    own = '[agents.one]\naddress = "strasse@acme.example"\n[agents.two]\naddress = "straße@acme.example"\n'
    routing = Routing(parse_directory(tomllib.loads(HOUSE + own)))
    names = {
        "strasse@acme.example": "one",
        "STRASSE@acme.example": "one",
        "straße@acme.example": "two",
        "STRAßE@ACME.example": "two",
        "STRA\u1e9eE@acme.example": "two",
    }
    for text, name in names.items():
        login, owner = login_of(routing, text), routing.owner(Address.parse(text))
        assert login is not None
        assert owner is not None
        assert (login.name, owner.profile.name) == (name, name)
