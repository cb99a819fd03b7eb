"""A password, token or key as a value: whom it belongs to, and what it is without ever showing it."""

from dataclasses import dataclass, field

from relay.directory.model import Auth, Profile, Server

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
class SecretRef:
    """Where the secret of one owner is to be found: another source, the directory file itself, or else the vault.

    `owner` is its name in the vault ("server/acmejets", "profile/support"), `source` the text of `password_from`,
    `inline` a password that stands in the directory file by hand.
    """

    owner: str
    source: str = ""
    inline: str = field(default="", repr=False)


def ref_of(owner: Server | Profile) -> SecretRef:
    """Return where the mail password of a server or profile is: the one with which we log in upstream."""
    kind = "server" if isinstance(owner, Server) else "profile"
    return SecretRef(f"{kind}/{owner.name}", owner.password_from, owner.password)


def secret_ref(server: Server, profile: Profile | None, *, override: bool) -> SecretRef | None:
    """Return whose secret logs in on a route: the profile's where it overrides, else the server's.

    None where the server wants no login.
    """
    if server.auth is Auth.NONE:
        return None
    return ref_of(profile) if override and profile is not None else ref_of(server)
