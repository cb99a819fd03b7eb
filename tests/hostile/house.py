"""A relay for these tests: profiles that own addresses, logins that may use some of them, a recorder as the way out."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.peers.canaries import canary
from tests.peers.raw import RawClient
from tests.peers.relay import Relay, open_server, relay_process

JANE, SALES, BILLING = "jane@acmejets.example", "sales@acmejets.example", "billing@acmejets.example"
MAILER = "mailer@acmejets.example"
NOBODY = "boss@corp.example"
# Each is an agent or an application; with "" the network speaks for itself.
LOGINS: Mapping[str, str] = {"jane": "agent", "crm": "application", "everyone": "application"}


def directory(port: int) -> dict[str, Any]:
    """Jane sends as herself, billing as the server; sales is what neither Jane nor crm may use."""
    own = {"override": True}
    return {
        "default_server": "acmejets",
        "servers": {"acmejets": open_server(port)},
        "channels": {"sales": {"address": SALES, **own}, "billing": {"address": BILLING}},
        "agents": {"jane": {"address": JANE, "group": "flights", **own}},
        "applications": {"crm": {"may_send_as": ["group:flights"]}, "everyone": {"may_send_as": ["*"]}},
    }


@contextmanager
def house(
    way_out: int, settings: Mapping[str, Any] | None = None, *, port: int = 0, logins: Iterable[str] = ()
) -> Iterator[Relay]:
    """A relay whose way out is that port. `port` is where it listens, if `settings` say so; `logins` are of LOGINS."""
    with relay_process(directory(way_out), settings, starts=False) as relay:
        relay.port = port or relay.port
        for name in logins:
            option = () if LOGINS[name] == "application" else ("--login",)
            done = relay.command(LOGINS[name], "password", name, *option, "--password-stdin", data=canary(name) + "\n")
            assert done.status == 0, done.text
        relay.start()
        yield relay


@contextmanager
def client_of(relay: Relay, login: str) -> Iterator[RawClient]:
    """A client that has said EHLO and logged in; "" does not log in."""
    with relay.connect() as client:
        if login:
            assert client.log_in(login, canary(login)).startswith("235 ")
        else:
            client.say("EHLO raw.test")
        yield client
