"""What the files of another program say, and the entries of the directory that are made of it. Values without I/O.

A sender whose account and address are the server's own sends as the server; any other overrides. One that leaves as
another address becomes an alias there.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from relay.directory.model import Security
from relay.mail.address import Address, AddressError

# What the system itself trusts, and Relay does without being told.
SYSTEM_BUNDLES = frozenset({"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "system"})
_NO_PASSWORD = re.compile("[\x00-\x1f\x7f\ufffd]")  # the last stands for what could not be read


class Place(NamedTuple):
    """Where a thing stands: a file, and the line in it from 1; 0 is the whole file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Note(NamedTuple):
    """What is not taken over, or not as it was, and what to do about it."""

    place: Place
    message: str


class Suggestion(NamedTuple):
    """A key of relay.toml that the files speak of, its value as TOML writes it, and why."""

    key: str
    value: str
    message: str


@dataclass(frozen=True, slots=True)
class Login:
    """Whom to log in as, and with what: a password, which shows itself nowhere, or where one comes from."""

    username: str
    password: str = field(default="", repr=False)
    password_from: str = ""

    @property
    def usable_password(self) -> str:
        """The password, "" where it has octets in it that are no UTF-8 or no text at all."""
        return "" if _NO_PASSWORD.search(self.password) else self.password


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server by its endpoint. `keys` are those of directory.toml beside login and address; `login` is its own."""

    host: str
    port: int
    keys: Mapping[str, Any]
    place: Place
    login: Login | None = None
    address: str = ""

    @property
    def identity(self) -> str:
        """The address of its own account's mail, as it compares; "" where there is none."""
        return address_key(self.address or (self.login.username if self.login else ""))


@dataclass(frozen=True, slots=True)
class FoundSender:
    """Who sends: an address or, as "@domain", all of one; through which server (a key of `Found.servers`), as whom.

    `leaves_as` is the address, or "@domain", that the mail leaves with.
    """

    address: str
    server: str
    leaves_as: str
    place: Place
    login: Login | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """All that was found. `default` is the key of the server for whoever has none of their own."""

    servers: Mapping[str, FoundServer]
    senders: tuple[FoundSender, ...]
    default: str | None = None
    notes: tuple[Note, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()


class CannotRead(Exception):
    """A file cannot be used at all. The message is one sentence with its name."""


def address_key(text: str) -> str:
    """Return how an address, or "@domain", compares; "" for what is none."""
    try:
        if text.startswith("@"):
            return f"@{Address.parse(f'x{text}').domain_key}"
        return Address.parse(text).key
    except AddressError:
        return ""


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """A server: `key` names it among the others, `values` are its keys in directory.toml but for its name."""

    key: str
    values: Mapping[str, Any]
    place: Place
    password: str = field(default="", repr=False)


@dataclass(slots=True)
class ProfileEntry:
    """A channel or agent of the server with that key. `values` are its keys but for name and server."""

    server: str
    values: dict[str, Any]
    place: Place
    login: Login | None = None

    @property
    def password(self) -> str:
        """What the vault is to hold for it: nothing where it sends with the server's account."""
        return self.login.usable_password if self.login and self.values.get("override") else ""


def server_entries(found: Found) -> list[ServerEntry]:
    """Return the servers."""
    return [_server_entry(key, server) for key, server in found.servers.items()]


def profile_entries(found: Found, notes: list[Note]) -> list[ProfileEntry]:
    """Return the profiles, and note the senders for whom there can be none."""
    entries: dict[str, ProfileEntry] = {}
    # Exact addresses first: whole domains find theirs taken or not, and so do those that leave as another.
    for sender in sorted(found.senders, key=lambda one: (one.address.startswith("@"), not _is_itself(one))):
        server = found.servers[sender.server]
        message = _placed(entries, sender, server)
        if message:
            notes.append(Note(sender.place, f"{sender.address}: {message}"))
    notes += (note for server in found.servers.values() for note in _unusable(server))
    notes += (note for entry in entries.values() for note in _without_password(entry, found.servers[entry.server]))
    return list(entries.values())


def _server_entry(key: str, server: FoundServer) -> ServerEntry:
    values: dict[str, Any] = {"host": server.host, **server.keys}
    if server.port != Security(values["security"]).port:
        values["port"] = server.port
    if server.login is not None:
        values["username"] = server.login.username
        if server.login.password_from:
            values["password_from"] = server.login.password_from
    if server.address:
        values["address"] = server.address
    return ServerEntry(key, values, server.place, server.login.usable_password if server.login else "")


def _placed(entries: dict[str, ProfileEntry], sender: FoundSender, server: FoundServer) -> str:
    """Make or find the entry of a sender; return what keeps it from having one, "" where nothing does."""
    if _is_server_itself(sender, server):
        return _add(entries, sender, _address_for(entries, sender), {})
    if sender.leaves_as.startswith("@") and not _is_itself(sender):
        return f"Relay exchanges no whole domain; give each address of {sender.address} its own alias or channel"
    if _is_itself(sender):
        address = _address_for(entries, sender)
        keep = {"alias_identity": "keep"} if sender.address.startswith("@") else {}
        return _add(entries, sender, address, {"override": True, **_username(sender, address), **keep})
    entry = entries.get(address_key(sender.leaves_as))
    if entry is None:
        values = {"override": True, **_username(sender, sender.leaves_as)}
        return _add(entries, sender, sender.leaves_as, values)
    if entry.server != sender.server or entry.login != sender.login:
        where = "by another account than mail of that address itself; add it as an alias where that account may be used"
        return f"it leaves as {sender.leaves_as}, {where}"
    entry.values["aliases"] = [*entry.values.get("aliases", []), sender.address]
    return ""


def _add(entries: dict[str, ProfileEntry], sender: FoundSender, address: str, keys: Mapping[str, Any]) -> str:
    key = address_key(address)
    if key in entries:
        return f"there is another sender with the address {address} in these files; add this one by hand"
    is_alias = sender.address != address
    values = {"address": address, **({"aliases": [sender.address]} if is_alias else {}), **keys}
    if keys and sender.login and sender.login.password_from:
        values["password_from"] = sender.login.password_from
    entries[key] = ProfileEntry(sender.server, values, sender.place, sender.login)
    return ""


def _address_for(entries: Mapping[str, ProfileEntry], sender: FoundSender) -> str:
    """Return the address of a sender's profile. That of a whole domain needs one, and nobody wrote it."""
    if not sender.address.startswith("@"):
        return sender.address
    login = sender.login.username if sender.login else ""
    choices = [login] if address_key(login).endswith(sender.address) else []
    choices += [f"{local}{sender.address}" for local in ("postmaster", "relay")]
    return next((one for one in choices if address_key(one) not in entries), choices[-1])


def _username(sender: FoundSender, address: str) -> dict[str, str]:
    username = sender.login.username if sender.login else ""
    return {"username": username} if username and username != address else {}


def _is_itself(sender: FoundSender) -> bool:
    return address_key(sender.address) == address_key(sender.leaves_as)


def _is_server_itself(sender: FoundSender, server: FoundServer) -> bool:
    """Whether the sender's mail leaves by the server's own account, with the server's own address."""
    return bool(server.identity) and address_key(sender.leaves_as) == server.identity and sender.login == server.login


def _without_password(entry: ProfileEntry, server: FoundServer) -> Iterator[Note]:
    """Yield the note about a profile that needs a password and gets none."""
    if not entry.values.get("override") or server.keys.get("auth") == "none":
        return
    if entry.login is None or not (entry.login.usable_password or entry.login.password_from):
        wrong = "its password is not UTF-8 text" if entry.login and entry.login.password else "it has no password there"
        yield Note(entry.place, f"{entry.values['address']}: {wrong}; until one is set, its mail is refused")


def _unusable(server: FoundServer) -> Iterator[Note]:
    """Yield the note about a server's password that cannot be read."""
    if server.login is not None and server.login.password and not server.login.usable_password:
        yield Note(server.place, f"{server.host}: the password of its account is not UTF-8 text; set it by hand")
