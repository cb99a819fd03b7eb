"""A password, token or key as a value: whom it belongs to, where it may go, and what it is without ever showing it.

The password of a mailbox (`incoming` of a server or profile) is apart from the one that sends.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from relay.directory.directory import Directory
from relay.directory.model import Auth, Profile, Server
from relay.directory.rules.servers import token_mailbox_faults
from relay.directory.tables import Incoming, OAuthClient
from relay.mail.address import AddressError, domain_key
from relay.secrets.oauth.identity_provider import scope_for

_MASK = "Secret('**********')"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """The value itself, and a `version` that changes when the value does and tells nothing else about it.

    Printing, formatting and logging show the mask; only `.value` gives the text. The version is a keyed digest that
    the vault makes (`Vault.secret_of`), the same after a restart, so that a pool and a hold know a new password.
    """

    value: str
    version: str

    def __repr__(self) -> str:
        return _MASK

    def __str__(self) -> str:
        return _MASK


@dataclass(frozen=True, slots=True)
class TokenRef:
    """Whose access token logs in, and where it comes from: the client of a server, for one of its user names.

    `client_bound_to` is where the client's secret may go.
    """

    server: str
    username: str
    client: OAuthClient
    client_bound_to: str = ""

    @property
    def is_own(self) -> bool:
        """Whether the client logs in as itself, so that nobody authorizes anything (RFC 6749 section 4.4)."""
        return self.client.flow == "client_credentials"


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where the secret of one owner is to be found: another source, the directory file itself, or else the vault.

    `owner` is its name in the vault ("server/acmejets", "profile/support"), `source` the text of `password_from`,
    `inline` a password that stands in the directory file by hand. With `token` it is no password: the vault holds
    tokens under "oauth/server/acmejets" or "oauth/profile/support", and the secret is the access token of now.

    `bound_to` is where it would go: a secret of the vault that was set for another place is none (DESIGN section 2, "A
    secret goes to no other server"). "" where it would go nowhere. A source and a password in the file are the word of
    the file's author, and bound to nothing.
    """

    owner: str
    bound_to: str
    source: str = ""
    inline: str = field(default="", repr=False)
    token: TokenRef | None = None


def ref_of(owner: Server | Profile, at: Server | None) -> SecretRef:
    """Return where the mail password of a server or profile is: the one with which we log in upstream.

    `at` is the server that it logs in to: a server's own, or the one that a profile sends through.
    """
    return SecretRef(account_owner(owner), _binding(owner, at), owner.password_from, owner.password)


def _host_key(host: str) -> str:
    """Return how the names of a host compare: without case, as A-labels, without a dot at the end."""
    name = host.strip().rstrip(".").lower()
    try:
        return domain_key(name)
    except AddressError:  # an IPv6 address
        return name


def client_bound_to(server: Server) -> str:
    """Return where the secret of a server's OAuth client may go: for this server, to where its tokens come from.

    The device flow begins with the secret, too: where that is another machine's, it belongs to the place.
    """
    client = server.oauth
    if client is None:
        return ""
    device = client.device_url if client.provider == "custom" else ""
    is_elsewhere = bool(device) and urlsplit(device)[:2] != urlsplit(client.token_url)[:2]
    return " ".join(
        [_host_key(server.host or server.effective_host), _provider(client), *([device] if is_elsewhere else [])]
    )


def bindings_of(directory: Directory, owners: Iterable[str]) -> dict[str, str]:
    """Return where the secrets of these owners of the vault would go now; without those that go nowhere."""
    places: dict[str, str] = {}
    for owner in owners:
        kind, _, name = owner.partition("/")
        is_token = kind == "oauth"
        if is_token:
            kind, _, name = name.partition("/")
        entry = directory.profile(name) if kind == "profile" else directory.servers.get(name)
        at = entry if isinstance(entry, Server) else directory.server_of(entry) if entry is not None else None
        if entry is None or at is None:
            continue
        if kind == "client":
            places[owner] = client_bound_to(at)
        elif is_token:
            ref = token_ref(at, entry)
            places[owner] = ref.bound_to if ref else ""
        elif kind in {"server", "profile"}:
            places[owner] = ref_of(entry, at).bound_to
    return {owner: place for owner, place in places.items() if place}


def _binding(owner: Server | Profile, at: Server | None) -> str:
    """Return to where the secret of an owner goes: a server's to its host, a profile's to a server by name and host."""
    if at is None:
        return ""
    return (
        _host_key(at.host or at.effective_host)
        if isinstance(owner, Server)
        else f"{at.name} {_host_key(at.host or at.effective_host)}"
    )


def _provider(client: OAuthClient) -> str:
    return client.token_url if client.provider == "custom" else str(client.provider)


def token_ref(server: Server, owner: Server | Profile) -> SecretRef | None:
    """Return where the tokens of a server's own account are, or of a profile's at it; None where it uses no OAuth."""
    if server.auth is not Auth.OAUTH2 or server.oauth is None:
        return None
    username = owner.username if isinstance(owner, Server) else owner.login_name
    return SecretRef(
        f"oauth/{account_owner(owner)}",
        f"{_binding(owner, server)} {_provider(server.oauth)}",
        owner.password_from,
        owner.password,
        TokenRef(server.name, username, _client(server, server.oauth, owner.incoming), client_bound_to(server)),
    )


def _client(server: Server, client: OAuthClient, incoming: Incoming | None) -> OAuthClient:
    """Return a server's client with the scope that its kind needs, and a mailbox that is read by the same token."""
    protocol = incoming.protocol if incoming is not None and incoming.auth == "oauth2" else ""
    scope = scope_for(server.kind, client, protocol)
    return client if scope == client.scope else replace(client, scope=scope)


def token_refs(directory: Directory) -> Iterator[SecretRef]:
    """Yield the tokens of every account in the directory that logs in by OAuth."""
    for server in directory.servers.values():
        ref = token_ref(server, server)
        if ref is not None and server.username:
            yield ref
    for profile in directory.profiles():
        at = directory.server_of(profile)
        ref = token_ref(at, profile) if at is not None and profile.override else None
        if ref is not None:
            yield ref


def client_owner(server: str) -> str:
    """Return the owner under which the vault keeps the client secret of a server's OAuth client: "client/NAME"."""
    return f"client/{server}"


def secret_ref(server: Server, profile: Profile | None, *, override: bool) -> SecretRef | None:
    """Return whose secret logs in on a route: the profile's where it overrides, else the server's.

    None where the server wants no login.
    """
    if server.auth is Auth.NONE:
        return None
    owner = profile if override and profile is not None else server
    return token_ref(server, owner) or ref_of(owner, server)


def account_owner(owner: Server | Profile) -> str:
    """Return the owner under which the vault keeps the mail password of a server or profile: "server/NAME"."""
    return f"{'server' if isinstance(owner, Server) else 'profile'}/{owner.name}"


def incoming_owner(entry: Server | Profile) -> str:
    """Return the owner under which the vault keeps it: "incoming/NAME" of a profile, "incoming/server/NAME" else."""
    return f"incoming/server/{entry.name}" if isinstance(entry, Server) else f"incoming/{entry.name}"


def incoming_ref(entry: Server | Profile) -> SecretRef | None:
    """Return where the password of its mailbox is; None where it has no mailbox, or one that takes a token."""
    incoming = entry.incoming
    if incoming is None or incoming.auth == "oauth2":
        return None
    return SecretRef(incoming_owner(entry), _host_key(incoming.host), incoming.password_from, incoming.password)


def mailbox_ref(entry: Server | Profile, server: Server | None) -> SecretRef | None:
    """Return where the secret is with which its mailbox is read: a password, or the token with which it sends.

    `server` is where it logs in to send. None where it has no mailbox, or none that may have the token.
    """
    incoming = entry.incoming
    if incoming is None or incoming.auth != "oauth2":
        return incoming_ref(entry)
    if server is None or next(token_mailbox_faults(server, entry, incoming), None) is not None:
        return None
    return token_ref(server, entry)


def mailbox_bindings(directory: Directory, owners: Iterable[str]) -> dict[str, str]:
    """Return where the mailbox passwords among these owners of the vault would go now."""
    places: dict[str, str] = {}
    for owner in owners:
        name = owner.removeprefix("incoming/")
        of_server = name.removeprefix("server/")
        entry = directory.servers.get(of_server) if name != of_server else directory.profile(name)
        ref = incoming_ref(entry) if owner.startswith("incoming/") and entry is not None else None
        if ref is not None:
            places[owner] = ref.bound_to
    return places
