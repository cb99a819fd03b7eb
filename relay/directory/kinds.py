"""The nouns of the directory: server, channel, agent, application and script, each described once.

An `EntryKind` says what adding, listing, showing, changing and removing need to know of a noun. What is special to one
is a function beside its kind. Pure: the functions look at a document, and change it in place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar

from relay.directory.client import GROUP
from relay.directory.directory import Directory
from relay.directory.document import Document, entries_in, entries_mentioning, entry_in
from relay.directory.model import Agent, Application, Channel, Profile, Script, Server
from relay.directory.values import EditRefused, Remedy, Values

Entry: TypeAlias = Server | Profile | Application | Script
E = TypeVar("E", bound=Entry)
E_co = TypeVar("E_co", bound=Entry, covariant=True)

_LOGINS = ("channels", "agents", "applications")
_PROFILES = ("channels", "agents")


class Password(StrEnum):
    """A password that an entry may have: to log in upstream, at Relay, or at the mailbox where its mail arrives."""

    MAIL = "mail"
    LOGIN = "login"
    INCOMING = "incoming"


def _nothing(document: Document, name: str) -> None:
    """Nothing is special about this noun."""


def _nothing_of(document: Document, name: str, values: Values) -> None:
    """Nothing is special about this noun."""


@dataclass(frozen=True, slots=True)
class FormGroup:
    """Questions of a form that belong together, under a heading; `is_folded` where few people need them.

    `keys` are those of the model, "incoming.host" for one of a table inside, and what else the noun's page asks for.
    `opens_with` is a key and the value at which they are needed after all.
    """

    title: str
    keys: tuple[str, ...]
    intro: str = ""
    is_folded: bool = False
    opens_with: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryKind(Generic[E_co]):
    """One noun.

    `word` begins its operations, `table` is where its entries stand in directory.toml, `model` is what one of them is.
    The entries of the tables `named_with` share one set of names. `passwords` are those that an entry may have. `added`
    and `changed` are called when an entry was written, with its name (and the values that were set), `leaving` before
    it is removed; they raise EditRefused.

    `needed` are keys that a person has to give though the model has a default. `options` are those that the command
    `add` has options for, `columns` the keys of a record that a list on a page shows, `form` is what a page asks for.
    """

    word: str
    table: str
    model: type[E_co]
    named_with: tuple[str, ...]
    passwords: frozenset[Password] = frozenset()
    needed: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()
    columns: tuple[str, ...]
    form: tuple[FormGroup, ...]
    added: Callable[[Document, str], None] = _nothing
    changed: Callable[[Document, str, Values], None] = _nothing_of
    leaving: Callable[[Document, str], None] = _nothing

    @property
    def one(self) -> str:
        """The word with its article: "an agent"."""
        return f"{'an' if self.word[0] in 'aeiou' else 'a'} {self.word}"

    def entries(self, directory: Directory) -> Mapping[str, E_co]:
        """The entries of this noun in a directory, by name."""
        found: Mapping[str, E_co] = getattr(directory, self.table)
        return found


def set_default(document: Document, name: str) -> None:
    """Make a server the default; the profiles that choose none follow.

    One with an account of its own stays where that is: the server before is written into it.
    """
    entry_in(document, "servers", name)
    if document.get("default_server") != name:
        for table in _PROFILES:
            for user, _ in entries_mentioning(document, table, "override"):
                _name_server(document, table, user)
    document["default_server"] = name


def _first_is_default(document: Document, name: str) -> None:
    if not document.get("default_server"):
        set_default(document, name)


def move_profiles(document: Document, name: str, to: str) -> None:
    """Let the profiles that chose a server, which is to be removed, send through another one."""
    entry_in(document, "servers", name)
    _check_not_default(document, name)
    entry_in(document, "servers", to)
    if to == name:
        raise EditRefused(f"'{name}' cannot take over from itself; name another server")
    for entry in _users_of_server(document, name):
        entry["server"] = to


def _check_server_unused(document: Document, name: str) -> None:
    _check_not_default(document, name)
    for other, entry in entries_mentioning(document, "servers", name):
        if entry.get("backup") == name:
            sentence = f"'{name}' is the backup of server '{other}'; take it out first"
            raise EditRefused(sentence, remedy=Remedy("server.set", other, {"backup": None}))
    if users := _users_of_server(document, name):
        count = "1 profile sends" if len(users) == 1 else f"{len(users)} profiles send"
        raise EditRefused(f"{count} through '{name}'; say where to", "move_to")


def _check_not_default(document: Document, name: str) -> None:
    if document.get("default_server") != name:
        return
    others = sorted(other for other in entries_in(document, "servers") if other != name)
    if not others:
        raise EditRefused(f"'{name}' is the default server; it is the only one")
    remedy = Remedy("server.default", others[0])
    raise EditRefused(f"'{name}' is the default server; make another the default first", remedy=remedy)


def _users_of_server(document: Document, name: str) -> list[Any]:
    """Return the profiles that chose a server; who follows the default did not."""
    found = (entry for table in _PROFILES for _, entry in entries_mentioning(document, table, name))
    return [entry for entry in found if entry.get("server") == name]


def _name_server(document: Document, table: str, name: str) -> None:
    """Write the server that is in effect into a profile with an account of its own: its password is for that one."""
    entry, default = entry_in(document, table, name), document.get("default_server")
    if entry.get("override") is True and not entry.get("server") and default:
        entry["server"] = default


def _name_server_if_set(document: Document, table: str, name: str, values: Values) -> None:
    if not values.keys().isdisjoint({"override", "server"}):
        _name_server(document, table, name)


def _check_agent_not_named(document: Document, name: str) -> None:
    _check_not_named(document, name, name, f"'{name}'")
    group = entry_in(document, "agents", name).get("group")
    others = entries_mentioning(document, "agents", group) if group else ()
    if group and not any(entry.get("group") == group for other, entry in others if other != name):
        _check_not_named(document, f"{GROUP}{group}", name, f"group '{group}', which '{name}' is the last of")


def _check_channel_not_named(document: Document, name: str) -> None:
    _check_not_named(document, name, name, f"'{name}'")


def _check_not_named(document: Document, named: str, leaving: str, words: str) -> None:
    """Refuse where another login than the one that is leaving has this name in its `may_send_as` or `bounces`.

    `words` say what is named. The refusal says how to take it out of the first of them.
    """
    for name, entry in entries_mentioning(document, "applications", named):
        if entry.get("bounces") == named:
            sentence = f"the bounces of application {name} leave from {words}; change that first"
            raise EditRefused(sentence, remedy=Remedy("application.set", name, {"bounces": None}))
    holders = [
        (table.removesuffix("s"), other, names)
        for table in ("agents", "applications")
        for other, entry in entries_mentioning(document, table, named)
        if other != leaving and named in (names := _may_send_as(entry))
    ]
    if holders:
        word, holder, names = holders[0]
        others = {1: "", 2: " and another login"}.get(len(holders), f" and {len(holders) - 1} other logins")
        remedy = Remedy(f"{word}.set", holder, {"may_send_as": [name for name in names if name != named]})
        raise EditRefused(f"{word} {holder}{others} may send as {words}; take it out first", remedy=remedy)


def _may_send_as(entry: Mapping[str, Any]) -> list[str]:
    """Return the names in `may_send_as`; none where it is no list, which `rules` tells."""
    names = entry.get("may_send_as")
    return [str(name) for name in names] if isinstance(names, list) else []


def _check_script_unused(document: Document, name: str) -> None:
    users = [
        (table.removesuffix("s"), user)
        for table in _PROFILES
        for user, entry in entries_mentioning(document, table, name)
        if entry.get("script") == name
    ]
    if users:
        word, user = users[0]
        others = f" and {len(users) - 1} more" if len(users) > 1 else ""
        sentence = f"{word} {user}{others} use script '{name}'; take it out first"
        raise EditRefused(sentence, remedy=Remedy(f"{word}.set", user, {"script": None}))


_MAILBOX = (
    "incoming.host",
    "incoming.protocol",
    "incoming.security",
    "incoming.port",
    "incoming.auth",
    "incoming.username",
    "incoming_password",
    "incoming.ca_file",
    "incoming.watch_bounces",
)
_LIMITS = (
    "max_connections",
    "max_messages_per_connection",
    "recipients_per_message",
    "message_size",
    "messages_per_minute",
    "recipients_per_day",
    "shared_limits",
)
_OAUTH = (
    "oauth.provider",
    "oauth.client_id",
    "client_secret",
    "oauth.tenant",
    "oauth.flow",
    "oauth.authorize_url",
    "oauth.token_url",
    "oauth.device_url",
    "oauth.scope",
    "oauth.key_file",
)
_SENDING = ("address", "aliases", "server", "override", "username", "script", "mode")
_OUTGOING = FormGroup("Outgoing mail", ("server", "override", "username", "password"))

SERVER = EntryKind(
    word="server",
    table="servers",
    model=Server,
    named_with=("servers",),
    passwords=frozenset({Password.MAIL, Password.INCOMING}),
    options=("host", "security", "port", "auth", "username", "address", "internal"),
    columns=(
        "name",
        "host",
        "port",
        "security",
        "auth",
        "used_by_channels",
        "used_by_agents",
        "last_test",
        "state",
    ),
    form=(
        FormGroup("", ("preset", "kind", "host", "security", "port")),
        FormGroup("Login", ("auth", "username", "password", "address")),
        FormGroup("Use", ("default", "internal", "null_sender", "backup")),
        FormGroup("Certificate and encryption", ("verify_tls", "ca_file", "allow_plaintext_password"), is_folded=True),
        FormGroup(
            "Limits",
            _LIMITS,
            "What the provider allows. Relay keeps within it instead of being refused.",
            is_folded=True,
        ),
        FormGroup("Advanced", ("chunking", "api", "api_url"), is_folded=True),
        FormGroup(
            "OAuth client",
            _OAUTH,
            "For the authentication method OAuth 2. Save it, then authorize the account.",
            is_folded=True,
            opens_with=("auth", "oauth2"),
        ),
        FormGroup(
            "Incoming mail",
            _MAILBOX,
            "Where mail to the server's address arrives: for mail that comes back.",
            is_folded=True,
        ),
    ),
    added=_first_is_default,
    leaving=_check_server_unused,
)
CHANNEL = EntryKind(
    word="channel",
    table="channels",
    model=Channel,
    named_with=_LOGINS,
    passwords=frozenset(Password),
    options=_SENDING,
    columns=("name", "address", "resolved_server", "username", "password_set", "script", "mode", "last_test"),
    form=(
        FormGroup("", ("address", "aliases", "alias_identity", "script", "mode")),
        _OUTGOING,
        FormGroup("Login at Relay", ("login_password",)),
        FormGroup(
            "Incoming mail",
            _MAILBOX,
            "Where mail to this address arrives: for the round trip of the test, and mail that comes back.",
            is_folded=True,
        ),
    ),
    added=lambda document, name: _name_server(document, "channels", name),
    changed=lambda document, name, values: _name_server_if_set(document, "channels", name, values),
    leaving=_check_channel_not_named,
)
AGENT = EntryKind(
    word="agent",
    table="agents",
    model=Agent,
    named_with=_LOGINS,
    passwords=frozenset(Password),
    options=(*_SENDING, "full_name", "group", "role", "country", "language", "may_send_as"),
    columns=(
        "name",
        "full_name",
        "address",
        "resolved_server",
        "group",
        "role",
        "country",
        "language",
        "override",
        "password_set",
        "login_set",
    ),
    form=(
        FormGroup("", ("full_name", "address", "aliases")),
        _OUTGOING,
        FormGroup("Person", ("group", "role", "country", "language")),
        FormGroup("Login at Relay", ("login_password", "may_send_as")),
        FormGroup("More about sending", ("alias_identity", "mode", "script"), is_folded=True),
    ),
    added=lambda document, name: _name_server(document, "agents", name),
    changed=lambda document, name, values: _name_server_if_set(document, "agents", name, values),
    leaving=_check_agent_not_named,
)
APPLICATION = EntryKind(
    word="application",
    table="applications",
    model=Application,
    named_with=_LOGINS,
    passwords=frozenset({Password.LOGIN}),
    needed=frozenset({"may_send_as"}),
    options=("may_send_as", "bounces"),
    columns=("name", "may_send_as", "login_set"),
    form=(FormGroup("", ("may_send_as", "bounces")), FormGroup("Login", ("login_password",))),
)
SCRIPT = EntryKind(
    word="script",
    table="scripts",
    model=Script,
    named_with=("scripts",),
    columns=("name", "set_headers", "remove_headers", "used_by_channels", "used_by_agents"),
    form=(FormGroup("", ("set_headers", "remove_headers")),),
    leaving=_check_script_unused,
)
KINDS: Mapping[str, EntryKind[Entry]] = MappingProxyType(
    {kind.word: kind for kind in (SERVER, CHANNEL, AGENT, APPLICATION, SCRIPT)}
)
"""All nouns by their words, in the order in which lists have them. A `ProfileKind` is one of the words."""


def profile_kind(word: str) -> EntryKind[Profile]:
    """Return the noun of a `ProfileKind`, or of its word."""
    return {"channel": CHANNEL, "agent": AGENT}[word]
