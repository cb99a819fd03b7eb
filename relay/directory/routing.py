"""From an envelope sender to its profile, and on to the server, the account and the identity its mail leaves with.

A Routing is made once for a directory, and nothing in either changes; every lookup is a few dictionary lookups,
however many profiles there are. What a lookup makes, owners and routes, holds for as long as the Routing, and is kept
for as many as are in use.
"""

from dataclasses import dataclass
from enum import StrEnum

from relay.directory.directory import Directory
from relay.directory.index import Index
from relay.directory.model import Account, AliasIdentity, Profile, Script, Server
from relay.mail.address import Address, AddressError

# What lookups leave behind: of routes some 12 MB. With plus tags and whole domains, senders are without number.
_MOST_ROUTES = 16_384
_MOST_OWNERS = 4096


class UnknownSender(StrEnum):
    """What happens to a sender that is nobody's (`[policy]`)."""

    REJECT = "reject"
    DEFAULT = "default"


class Via(StrEnum):
    """By which of its addresses a profile was found."""

    ADDRESS = "address"
    ALIAS = "alias"
    TAG = "tag"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose address it is.

    `address_used` is the profile's address or alias behind it, without a plus tag; `tag` is that tag ("+4711"), or
    "" where there is none.
    """

    profile: Profile
    via: Via
    address_used: Address
    tag: str = ""

    @property
    def words(self) -> str:
        """Why it is this profile's, as the end of a sentence about the address."""
        whose = f"{self.profile.kind} '{self.profile.name}'"
        if self.via is Via.TAG:
            return f"is {self.address_used} of {whose} with the tag {self.tag}"
        if self.via is Via.DOMAIN:
            return f"is in the domain @{self.address_used.domain} of {whose}"
        return f"is {'the address' if self.via is Via.ADDRESS else 'an alias'} of {whose}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How mail of one sender travels. `profile` is None for a sender that is nobody's (policy "default").

    `reply_to` is where answers belong when the identity is not the address that was used; None when it is.
    `reason` explains the route in one sentence for people.
    """

    profile: Profile | None
    server: Server
    account: Account
    override: bool
    identity: Address
    reply_to: Address | None
    script: Script | None
    reason: str


class Routing:
    """The routes of one directory. Its `index` is made where it is not there yet."""

    def __init__(
        self,
        directory: Directory,
        unknown_sender: UnknownSender = UnknownSender.REJECT,
        index: Index | None = None,
    ) -> None:
        index = index or Index.of(directory)
        self.directory = directory
        self.logins = index.logins
        self._unknown_sender = unknown_sender
        self._addresses = index.addresses
        self._owners: dict[str, Owner] = {}  # those that were asked for
        self._routes: dict[str, Route] = {}

    def owner(self, address: Address) -> Owner | None:
        """Whose address it is: exact address, alias, either without its plus tag, then "@domain"; None: nobody's."""
        exact = self._owner(address.key)
        if exact is not None:
            return exact
        tag, base = address.tag, address.without_tag
        untagged = self._owner(base.key) if tag else None
        if untagged is not None:
            return Owner(untagged.profile, Via.TAG, untagged.address_used, tag)
        profile = self._addresses.domains.get(address.domain_key)
        return Owner(profile, Via.DOMAIN, base, tag) if profile is not None else None

    def route(self, address: Address) -> Route | None:
        """Return the route of a sender; None where it is nobody's and the policy rejects those."""
        known = self._routes.get(address.text)
        if known is not None:
            return known
        route = self._find_route(address)
        if route is not None:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[address.text] = route
        return route

    def _find_route(self, address: Address) -> Route | None:
        owner = self.owner(address)
        if owner is not None:
            return self._route(owner, f"{address} {owner.words}")
        if self._unknown_sender is UnknownSender.DEFAULT:
            return self.default_route(f"{address} is nobody's address here")
        return None

    def route_of(
        self, profile: Profile, address_used: Address | None = None, tag: str = "", *, why: str = ""
    ) -> Route | None:
        """Return the route of a profile that is known already, for one of its addresses (None: its own).

        `why` it is this profile is the beginning of the route's reason.
        """
        address = address_used or Address.parse(profile.address)
        why = why or f"{profile.kind} '{profile.name}' was chosen"
        return self._route(Owner(profile, Via.ADDRESS, address, tag), why)

    def route_of_account(self, account: Account) -> Route | None:
        """Return a route that logs in as an account; None where none does any more."""
        default = self.default_route()
        if default and default.account == account:
            return default
        directory = self.directory
        server = directory.servers.get(account.server)
        if server is None:
            return None
        for profile in directory.profiles():
            username = profile.login_name if profile.override else server.username
            if username == account.username and directory.account_of(profile) == account:
                return self.route_of(profile)
        return None

    def _owner(self, key: str) -> Owner | None:
        if (known := self._owners.get(key)) is not None:
            return known
        addresses = self._addresses
        if (profile := addresses.own.get(key)) is not None:
            owner = Owner(profile, Via.ADDRESS, Address.parse(profile.address))
        elif key in addresses.aliases:
            profile, alias = addresses.aliases[key]
            owner = Owner(profile, Via.ALIAS, Address.parse(alias))
        else:
            return None
        if len(self._owners) >= _MOST_OWNERS:
            self._owners.clear()
        self._owners[key] = owner
        return owner

    def _route(self, owner: Owner, why: str) -> Route | None:
        profile = owner.profile
        server, account = self.directory.server_of(profile), self.directory.account_of(profile)
        identity = _identity(owner, server)
        if server is None or account is None or identity is None:
            return None
        is_own = identity.key == Address.parse(profile.address).key
        is_answered = is_own or identity.key == owner.address_used.key
        return Route(
            profile=profile,
            server=server,
            account=account,
            override=profile.override,
            identity=_with_tag(identity, owner.tag) if is_own else identity,
            reply_to=None if is_answered else owner.address_used,
            script=self.directory.script_of(profile),
            reason=f"{why}; {_way(server, profile, account)}",
        )

    def default_route(self, why: str = "it is for the default server") -> Route | None:
        """Return the default server's own route, without a profile; None where it has no account to send as."""
        server = self.directory.servers.get(self.directory.default_server or "")
        if server is None or server.identity is None:
            return None
        account = Account(server.name, server.username)
        return Route(
            profile=None,
            server=server,
            account=account,
            override=False,
            identity=server.identity,
            reply_to=None,
            script=None,
            reason=f"{why}; {_way(server, None, account)}",
        )


def _identity(owner: Owner, server: Server | None) -> Address | None:
    """Return the address the mail leaves with, by the table of the three ways (DESIGN section 2), without a tag."""
    profile = owner.profile
    if not profile.override:
        return server.identity if server else None
    if profile.alias_identity is AliasIdentity.KEEP:
        return owner.address_used
    return Address.parse(profile.address)


def _with_tag(address: Address, tag: str) -> Address:
    try:
        return address.with_tag(tag)
    except AddressError:  # too long, or a quoted local part, which takes no tag
        return address


def _way(server: Server, profile: Profile | None, account: Account) -> str:
    if profile is not None and profile.server:
        choice = f"it sends through the server '{server.name}'"
    else:
        choice = f"it follows the default server '{server.name}'"
    if profile is not None and profile.override:
        return f"{choice} and logs in with its own account {account.username}"
    return f"{choice} with the server's account {account.username}" if account.username else f"{choice} without a login"
