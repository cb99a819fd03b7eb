"""Who hands mail to us, and which profiles it may send as. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from relay.directory.model import Agent, Application, Profile
from relay.directory.routing import Route, Routing
from relay.mail.address import Address
from relay.mail.identity import Ownership

ANYONE = "*"
GROUP = "group:"
# The names that mail servers write in From of a bounce: Postfix, Exim, Sendmail, OpenSMTPD, nullmailer; Exchange.
_MAIL_SYSTEMS = frozenset({"mailer-daemon", "postmaster"})


@dataclass(frozen=True, slots=True)
class Login:
    """An agent, channel or application that can log in at Relay, and what it may send as then.

    `bounces` is the profile from which its bounces leave; "" leaves that to each bounce.
    """

    name: str
    may_send_as: tuple[str, ...]
    bounces: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """Who submits: `name` is its login or its network address; `peer` is the network address ("unix" for a socket).

    `may_send_as` are names of profiles, "group:NAME" or "*". `is_trusted`: it comes from a trusted network or a unix
    socket, and may send without a login unless the listener `needs_login` of everybody. `login` is "" without one.
    `bounces` is the profile from which its bounces leave; "" leaves that to each bounce. `allows_anyone`: it may send
    as any profile ("*").
    """

    name: str
    peer: str
    may_send_as: tuple[str, ...]
    is_trusted: bool
    needs_login: bool = False
    login: str = ""
    bounces: str = ""
    allows_anyone: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "allows_anyone", ANYONE in self.may_send_as)

    @property
    def may_submit(self) -> bool:
        """Whether it may hand over mail at all."""
        return bool(self.login) or (self.is_trusted and not self.needs_login)

    def logged_in(self, login: Login) -> "Client":
        """Return the client that this one has become by a login: what its network may do counts no more."""
        return replace(self, name=login.name, may_send_as=login.may_send_as, login=login.name, bounces=login.bounces)

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
        return Login(holder.name, holder.may_send_as, holder.bounces or "")
    return Login(holder.name, (holder.name, *(holder.may_send_as if isinstance(holder, Agent) else ())))


def is_bounce(routing: Routing, client: Client, author: Address) -> bool:
    """Whether mail from the null sender with this address in From is the bounce of a mail server behind us.

    Its From is nobody's of ours, and the name of a mail system. Where the client has a profile for its bounces, From
    may name anybody who is not ours.
    """
    return routing.owner(author) is None and (bool(client.bounces) or author.local.lower() in _MAIL_SYSTEMS)


def bounce_routes(routing: Routing, client: Client, recipients: Iterable[Address]) -> Iterator[Route]:
    """Yield the routes by which a bounce may leave, the best first; none where this client may use none.

    The profile that the client has for its bounces; else the recipient's own, who had sent what came back, if the
    client may send as that; then the default server's account, if the client may send as anybody.
    """
    named = routing.directory.profile(client.bounces) if client.bounces else None
    reasons: dict[str, tuple[Profile, str]] = {}
    if named is not None:
        reasons[named.name] = named, f"bounces of {client.name} leave from {named.kind} '{named.name}'"
    else:
        for owner in filter(None, map(routing.owner, recipients)):
            if client.allows(owner.profile):
                reasons[owner.profile.name] = (
                    owner.profile,
                    f"the bounce is for {owner.address_used}, which {owner.words}",
                )
    for profile, why in reasons.values():
        if (route := routing.route_of(profile, why=why)) is not None:
            yield route
    if client.allows_anyone and (default := routing.default_route("it is a bounce for nobody of ours")):
        yield default


def ownership(
    routing: Routing, client: Client, own: Profile | None, *, is_null: bool = False
) -> Callable[[Address], Ownership]:
    """Return what an address in From means in mail of the profile `own` (None: nobody's) from this client.

    `is_null`: the envelope sender is null.
    """

    def ownership_of(address: Address) -> Ownership:
        owner = routing.owner(address)
        if owner is None:
            if is_null and is_bounce(routing, client, address):
                return Ownership.MAIL_SYSTEM
            return Ownership.NOBODY if client.allows_anyone else Ownership.FORBIDDEN
        if own is not None and owner.profile.name == own.name:
            return Ownership.SAME
        return Ownership.ALLOWED if client.allows(owner.profile) else Ownership.FORBIDDEN

    return ownership_of
