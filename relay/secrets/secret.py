"""A password, token or key as a value: whom it belongs to, and what it is without ever showing it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.directory.model import Auth, Directory, OAuthClient, Profile, Server

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
    """Whose access token logs in, and where it comes from: the client of a server, for one of its user names."""

    server: str
    username: str
    client: OAuthClient

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
    """

    owner: str
    source: str = ""
    inline: str = field(default="", repr=False)
    token: TokenRef | None = None


def ref_of(owner: Server | Profile) -> SecretRef:
    """Return where the mail password of a server or profile is: the one with which we log in upstream."""
    return SecretRef(_place(owner), owner.password_from, owner.password)


def token_ref(server: Server, owner: Server | Profile) -> SecretRef | None:
    """Return where the tokens of a server's own account are, or of a profile's at it; None where it uses no OAuth."""
    if server.auth is not Auth.OAUTH2 or server.oauth is None:
        return None
    username = owner.username if isinstance(owner, Server) else owner.login_name
    return SecretRef(
        f"oauth/{_place(owner)}",
        owner.password_from,
        owner.password,
        TokenRef(server.name, username, server.oauth),
    )


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
    return token_ref(server, owner) or ref_of(owner)


def _place(owner: Server | Profile) -> str:
    return f"{'server' if isinstance(owner, Server) else 'profile'}/{owner.name}"
