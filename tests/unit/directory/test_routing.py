"""From a sender to its profile and route: one row per sentence of DESIGN section 2."""

import sys
import tomllib
from types import FrameType
from typing import Any

import pytest

from relay.directory import routing as routing_module
from relay.directory.directory import Directory
from relay.directory.model import Account
from relay.directory.routing import Route, Routing, UnknownSender, Via
from relay.directory.rules.validation import parse_directory
from relay.mail.address import Address, domain_key
from tests.peers.rows import each_row
from tests.unit.directory.directory_kit import HOUSE, address


@pytest.fixture(scope="module")
def house() -> Directory:
    return parse_directory(tomllib.loads(HOUSE))


@pytest.fixture(scope="module")
def routing(house: Directory) -> Routing:
    return Routing(house)


PRECEDENCE = """
default_server = "s"
[servers.s]
host = "h"
username = "m@s.example"
[channels.exact]
address = "a+x@d.example"
[channels.base]
address = "a@d.example"
aliases = ["b@d.example", "b+y@d.example"]
[channels.domain]
address = "own@other.example"
aliases = ["@d.example", "@bücher.example"]
[channels.quoted]
address = '"two words"@d.example'
aliases = ["straße@d.example"]
"""

OWNERS = [
    # sender, profile, via, address used, tag
    ("a@d.example", "base", Via.ADDRESS, "a@d.example", ""),
    ("A@D.Example", "base", Via.ADDRESS, "a@d.example", ""),
    ("a+x@d.example", "exact", Via.ADDRESS, "a+x@d.example", ""),
    ("A+X@d.example", "exact", Via.ADDRESS, "a+x@d.example", ""),
    ("a+z@d.example", "base", Via.TAG, "a@d.example", "+z"),
    ("a+x+z@d.example", "base", Via.TAG, "a@d.example", "+x+z"),
    ("b@d.example", "base", Via.ALIAS, "b@d.example", ""),
    ("b+y@d.example", "base", Via.ALIAS, "b+y@d.example", ""),
    ("b+Q@d.example", "base", Via.TAG, "b@d.example", "+Q"),
    ('"a"@d.example', "base", Via.ADDRESS, "a@d.example", ""),
    ("c@d.example", "domain", Via.DOMAIN, "c@d.example", ""),
    ("c+t@d.example", "domain", Via.DOMAIN, "c@d.example", "+t"),
    ("c@sub.d.example", None, None, None, None),
    ("own@other.example", "domain", Via.ADDRESS, "own@other.example", ""),
    ("x@other.example", None, None, None, None),
    ("x@BÜCHER.example", "domain", Via.DOMAIN, "x@BÜCHER.example", ""),
    ("x@xn--bcher-kva.example", "domain", Via.DOMAIN, "x@xn--bcher-kva.example", ""),
    ('"Two Words"@d.example', "quoted", Via.ADDRESS, '"two words"@d.example', ""),
    ("STRAẞE@d.example", "quoted", Via.ALIAS, "straße@d.example", ""),
    ("strasse@d.example", "domain", Via.DOMAIN, "strasse@d.example", ""),
    ("nobody@elsewhere.example", None, None, None, None),
]


@each_row(("sender", "profile", "via", "used", "tag"), OWNERS)
def test_whose_address_it_is(
    sender: str, profile: str | None, via: Via | None, used: str | None, tag: str | None
) -> None:
    owner = Routing(parse_directory(tomllib.loads(PRECEDENCE))).owner(address(sender))
    if owner is None:
        assert profile is None
    else:
        assert (owner.profile.name, owner.via, str(owner.address_used), owner.tag) == (profile, via, used, tag)


ROUTES = [
    # The profile's server is custom and it overrides: its own account and address.
    ("support@acme.example", "custom/support@acme.example", "support@acme.example", None),
    # A plus tag is kept when the identity is the profile's own address, also when an alias is rewritten to it.
    ("support+4711@acme.example", "custom/support@acme.example", "support+4711@acme.example", None),
    ("help@acme.example", "custom/support@acme.example", "support@acme.example", None),
    ("help+4711@acme.example", "custom/support@acme.example", "support+4711@acme.example", None),
    ("any@support.acme.example", "custom/support@acme.example", "support@acme.example", None),
    # An alias that is kept leaves as itself; its tag is dropped, because it is not the profile's own address.
    ("sales+1@acme.example", "custom/sales@acme.example", "sales+1@acme.example", None),
    ("deals@acme.example", "custom/sales@acme.example", "deals@acme.example", None),
    ("deals+1@acme.example", "custom/sales@acme.example", "deals@acme.example", None),
    # The profile's server is custom without override: the server's account and address; answers go to the profile.
    ("news@acme.example", "custom/mailer@acme.example", "mailer@acme.example", "news@acme.example"),
    ("news+7@acme.example", "custom/mailer@acme.example", "mailer@acme.example", "news@acme.example"),
    ("letter@acme.example", "custom/mailer@acme.example", "mailer@acme.example", "letter@acme.example"),
    # An internal server: its account and address, which need not be the same.
    ("jane.doe@acme.example", "shared/login7", "noreply@acme.example", "Jane.Doe@acme.example"),
]


@pytest.mark.parametrize(("sender", "account", "identity", "reply_to"), ROUTES)
def test_the_three_ways(routing: Routing, sender: str, account: str, identity: str, reply_to: str | None) -> None:
    route = routing.route(address(sender))
    assert route is not None
    assert str(route.account) == account
    assert str(route.identity) == identity
    assert (route.reply_to and str(route.reply_to)) == reply_to


def route_in(text: str, sender: str, unknown: UnknownSender = UnknownSender.REJECT) -> Route | None:
    return Routing(parse_directory(tomllib.loads(text)), unknown).route(address(sender))


SAME_ADDRESS = """
default_server = "s"
[servers.s]
host = "h"
username = "team@acme.example"
[channels.team]
address = "Team@acme.example"
aliases = ["crew@acme.example"]
[channels.other]
address = "other@acme.example"
aliases = ["box@acme.example"]
override = true
alias_identity = "keep"
"""


def test_the_servers_address_may_be_the_profiles_own() -> None:
    """Then the tag stays, and no Reply-To is needed."""
    tagged = route_in(SAME_ADDRESS, "team+1@acme.example")
    assert tagged is not None
    assert (str(tagged.identity), tagged.reply_to, tagged.override) == ("team+1@acme.example", None, False)
    alias = route_in(SAME_ADDRESS, "crew@acme.example")
    assert alias is not None
    assert (str(alias.identity), alias.reply_to) == ("team@acme.example", None)


def test_a_tag_that_does_not_fit_is_dropped() -> None:
    text = (
        SAME_ADDRESS + "[channels.q]\naddress = '\"q q\"@acme.example'\naliases = ['q@acme.example']\noverride = true"
    )
    route = route_in(text, "q+1@acme.example")
    assert route is not None
    assert str(route.identity) == '"q q"@acme.example'


def test_an_alias_of_a_whole_domain_that_is_kept_leaves_as_the_address_used() -> None:
    text = SAME_ADDRESS.replace('["box@acme.example"]', '["@box.example"]')
    route = route_in(text, "anna+1@box.example")
    assert route is not None
    assert (str(route.identity), route.reply_to) == ("anna@box.example", None)


def test_a_sender_that_is_nobodys_is_rejected_or_goes_the_default_way() -> None:
    assert route_in(HOUSE, "who@else.example") is None
    route = route_in(HOUSE, "who@else.example", UnknownSender.DEFAULT)
    assert route is not None
    assert (route.profile, route.account, str(route.identity)) == (
        None,
        Account("custom", "mailer@acme.example"),
        "mailer@acme.example",
    )
    assert (route.reply_to, route.script, route.override) == (None, None, False)


def test_without_a_server_there_is_no_route() -> None:
    assert route_in("", "who@else.example", UnknownSender.DEFAULT) is None


SCRIPTS = """
[scripts.default]
remove_headers = ["X-A"]
[scripts.own]
remove_headers = ["X-B"]
[channels.own]
address = "own@acme.example"
script = "own"
"""


@pytest.mark.parametrize(
    ("sender", "script"),
    [("support@acme.example", "default"), ("own@acme.example", "own"), ("jane.doe@acme.example", None)],
)
def test_the_script_default_is_for_channels_that_name_none(sender: str, script: str | None) -> None:
    route = route_in(HOUSE + SCRIPTS, sender)
    assert route is not None
    assert (route.script and route.script.name) == script


def test_a_profile_that_is_known_already(house: Directory, routing: Routing) -> None:
    route = routing.route_of(house.channels["news"])
    assert route is not None
    assert (str(route.identity), str(route.reply_to)) == ("mailer@acme.example", "news@acme.example")
    kept = routing.route_of(house.channels["sales"], address("deals@acme.example"))
    assert kept is not None
    assert str(kept.identity) == "deals@acme.example"
    tagged = routing.route_of(house.channels["support"], tag="+9")
    assert tagged is not None
    assert str(tagged.identity) == "support+9@acme.example"


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        (
            "support@acme.example",
            (
                "support@acme.example is the address of channel 'support'; "
                "it follows the default server 'custom' and logs in with its own account support@acme.example"
            ),
        ),
        (
            "letter@acme.example",
            (
                "letter@acme.example is an alias of channel 'news'; "
                "it follows the default server 'custom' with the server's account mailer@acme.example"
            ),
        ),
        (
            "jane.doe+x@acme.example",
            (
                "jane.doe+x@acme.example is Jane.Doe@acme.example of agent 'jane' with the tag +x; "
                "it sends through the server 'shared' with the server's account login7"
            ),
        ),
        (
            "any@support.acme.example",
            (
                "any@support.acme.example is in the domain @support.acme.example of channel 'support'; "
                "it follows the default server 'custom' and logs in with its own account support@acme.example"
            ),
        ),
    ],
)
def test_the_reason_says_why(routing: Routing, sender: str, reason: str) -> None:
    route = routing.route(address(sender))
    assert route is not None
    assert route.reason == reason


def test_the_reason_for_a_sender_that_is_nobodys() -> None:
    text = "default_server = 's'\n[servers.s]\nhost = 'h'\nauth = 'none'\naddress = 'm@s.example'"
    route = route_in(text, "who@else.example", UnknownSender.DEFAULT)
    assert route is not None
    expected = "who@else.example is nobody's address here; it follows the default server 's' without a login"
    assert route.reason == expected


def test_a_route_is_made_once_for_each_spelling_of_a_sender(routing: Routing) -> None:
    first = routing.route(address("jane.doe+x@acme.example"))
    assert first is not None
    assert routing.route(address("jane.doe+x@acme.example")) is first
    other = routing.route(address("Jane.Doe+x@acme.example"))
    assert other is not None
    assert other.reason.startswith("Jane.Doe+x@acme.example is ")


def test_senders_without_number_do_not_fill_the_memory(house: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_module, "_MOST_ROUTES", 3)
    routing = Routing(house)
    for number in range(10):
        assert routing.route(address(f"jane.doe+{number}@acme.example")) is not None
        assert 0 < len(routing._routes) <= 3


def agents(count: int) -> Routing:
    """A routing of so many agents, each with an alias; every tenth has a domain."""
    people = {
        f"a{n}": {
            "address": f"a{n}@d{n}.example",
            "aliases": [f"b{n}@d{n}.example", *([f"@all{n}.example"] if n % 10 == 0 else [])],
        }
        for n in range(count)
    }
    server = {"host": "h", "username": "m@s.example"}
    return Routing(parse_directory({"default_server": "s", "servers": {"s": server}, "agents": people}))


def lines_of(routing: Routing, sender: str) -> int:
    """Count the lines of Python that finding a route takes."""
    count = 0
    looked_for = address(sender)
    for cached in (domain_key, Address.parse):
        cached.cache_clear()  # others may have left more there, or less

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert routing.route(looked_for) is not None
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("sender", ["a7@d7.example", "b7@d7.example", "a7+tag@d7.example", "any@all0.example"])
def test_a_route_takes_as_many_steps_among_a_thousand_times_as_many_profiles(sender: str) -> None:
    small, large = agents(10), agents(10_000)
    assert lines_of(small, sender) == lines_of(large, sender) > 0


def test_what_lookups_leave_behind_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.directory.routing._MOST_OWNERS", 5)
    many = agents(20)
    for _ in range(2):
        for n in range(20):
            owner = many.owner(address(f"a{n}@d{n}.example"))
            assert owner is not None
            assert owner.profile.name == f"a{n}"
            assert len(many._owners) <= 5
    again = many.owner(address("a19@d19.example"))
    assert again is many.owner(address("A19@D19.example"))
