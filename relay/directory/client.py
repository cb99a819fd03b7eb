"""Who hands mail to us, and which profiles it may send as. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from relay.directory.model import Agent, Application, Profile
from relay.directory.routing import Routing
from relay.mail.address import Address
from relay.mail.identity import Standing

ANYONE = "*"
GROUP = "group:"


@dataclass(frozen=True, slots=True)
class Login:
    """An agent, channel or application that can log in at Relay, and what it may send as then."""

    name: str
    may_send_as: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Client:
    """Who submits: `name` is its login or its network address; `peer` is the network address ("unix" for a socket).

    `may_send_as` are names of profiles, "group:NAME" or "*". `is_trusted`: it comes from a trusted network or a unix
    socket, and may send without a login unless the listener `needs_login` of everybody. `login` is "" without one.
    """

    name: str
    peer: str
    may_send_as: tuple[str, ...]
    is_trusted: bool
    needs_login: bool = False
    login: str = ""

    @property
    def may_submit(self) -> bool:
        """Whether it may hand over mail at all."""
        return bool(self.login) or (self.is_trusted and not self.needs_login)

    def logged_in(self, login: Login) -> "Client":
        """Return the client that this one has become by a login: what its network may do counts no more."""
        return replace(self, name=login.name, may_send_as=login.may_send_as, login=login.name)

    @property
    def allows_anyone(self) -> bool:
        """Whether it may send as any profile ("*")."""
        return ANYONE in self.may_send_as

    def allows(self, profile: Profile) -> bool:
        """Whether it may send as this profile: by "*", by its name, or by its group."""
        if self.allows_anyone or profile.name in self.may_send_as:
            return True
        group = profile.group if isinstance(profile, Agent) else ""
        return bool(group) and GROUP + group in self.may_send_as


def login_of(routing: Routing, name: str) -> Login | None:
    """Return the login that a client means by this name or address; None where it is nobody's."""
    holder = routing.logins.holder(name)
    if holder is None:
        return None
    if isinstance(holder, Application):
        return Login(holder.name, holder.may_send_as)
    return Login(holder.name, (holder.name, *(holder.may_send_as if isinstance(holder, Agent) else ())))


def standing(routing: Routing, client: Client, own: Profile | None) -> Callable[[Address], Standing]:
    """Return what an address in From means in mail of the profile `own` (None: nobody's) from this client."""

    def standing_of(address: Address) -> Standing:
        owner = routing.owner(address)
        if owner is None:
            return Standing.NOBODY if client.allows_anyone else Standing.FORBIDDEN
        if own is not None and owner.profile.name == own.name:
            return Standing.SAME
        return Standing.ALLOWED if client.allows(owner.profile) else Standing.FORBIDDEN

    return standing_of
