"""What is in the directory as the JSON objects of `list` and `show`: every key that is set or follows, no secret.

The keys of DESIGN section 4 come first; the others are those of directory.toml.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from relay.config.faults import did_you_mean
from relay.control.context import ControlContext
from relay.control.entries.assignments import version_of
from relay.control.entries.facts import AccountState, ApplicationFacts, ProfileFacts, ScriptFacts, ServerFacts
from relay.control.entries.passwords import login_is_set
from relay.control.refused import Refused
from relay.directory.kinds import Entry, EntryKind
from relay.directory.model import AnswerRule, Application, Auth, Kind, Profile, ProfileKind, Script, Server
from relay.directory.tables import Incoming, OAuthClient
from relay.secrets.secret import client_bound_to, client_owner, ref_of, token_ref

Record: TypeAlias = dict[str, Any]
Describe: TypeAlias = Callable[[Any], Record]

# Who uses a script is listed so far.
_MOST_USERS = 50
_HIDDEN = frozenset({"password"})
# What a server need not say, and is shown with what follows.
_FOLLOWING = ("host", "port", "address")
# What people look for; the words of settings ("rewrite", "auto") would match too much.
SEARCHED = (
    "name",
    "host",
    "address",
    "aliases",
    "resolved_server",
    "username",
    "script",
    "full_name",
    "group",
    "role",
    "country",
    "language",
)


def records_of(
    parts: ControlContext, kind: EntryKind[Entry], *, sort: str = "name", contains: str = ""
) -> list[Record]:
    """Return the records of a kind that have a text in one of their values, sorted by a key and then by name.

    Raises Refused for a key that they do not have.
    """
    entries = kind.entries(parts.directory.routing().directory)
    describe = _DESCRIBED[kind.word](parts)
    records = [describe(entries[name]) for name in sorted(entries)]
    if records and sort not in records[0]:
        raise Refused(f"there is no column {sort!r} to sort by{did_you_mean(sort, records[0])}", key="sort")
    if contains:
        records = [record for record in records if has_text(record, contains.casefold())]
    return sorted(records, key=_by(sort))


def record_of(parts: ControlContext, kind: EntryKind[Entry], entry: Entry) -> Record:
    """Return one entry of the directory in effect."""
    return _DESCRIBED[kind.word](parts)(entry)


def profile_record(parts: ControlContext, profile: Profile) -> Record:
    """Return one profile of the directory in effect."""
    return _describe_profiles(parts)(profile)


def needs_own_secret(profile: Profile, server: Server | None) -> bool:
    """Whether mail of a profile leaves only with a password, or tokens, of its own."""
    return profile.override and server is not None and server.auth is not Auth.NONE


def _describe_servers(parts: ControlContext) -> Describe:
    directory = parts.directory.routing().directory
    used = Counter((profile.server or directory.default_server, profile.kind) for profile in directory.profiles())
    troubled = parts.queue_actions.troubled()
    taken = {one.server: one.backup for one in parts.queue_actions.unreached()}

    def describe(server: Server) -> Record:
        ref = token_ref(server, server) or ref_of(server, server)
        here = [one for one in troubled if one.server == server.name]
        own = next((one for one in here if one.username == server.username and not one.address), None)
        facts: ServerFacts = {
            "default": server.name == directory.default_server,
            "used_by_channels": used[server.name, ProfileKind.CHANNEL],
            "used_by_agents": used[server.name, ProfileKind.AGENT],
            "state": cast("AccountState", own.state) if own else "ok",
            "held_since": own.held_since if own else None,
            "taken_over_by": taken.get(server.name) or None,
            "accounts_held": len({one.account for one in here if one.state == "held"}),
            "password_set": parts.secrets.is_set(ref),
            "password_for_another": parts.secrets.is_set_for_another(ref),
            "client_secret_set": parts.vault.is_for(client_owner(server.name), client_bound_to(server)),
            "last_test": parts.tests.record(server),
            "follows": [
                *(key for key in _FOLLOWING if not getattr(server, key)),
                *([] if server.kind is Kind.SMTP else ["security"]),
            ],
        }
        shown = {
            "name": server.name,
            "host": server.effective_host,
            "port": server.effective_port,
            "security": server.effective_security.value,
            "auth": server.auth.value,
            "username": server.username,
            "address": str(server.identity or ""),
            **facts,
            "version": version_of(server),
        }
        return shown | _rest(server, shown)

    return describe


def _describe_profiles(parts: ControlContext) -> Describe:
    directory = parts.directory.routing().directory

    def describe(profile: Profile) -> Record:
        server = directory.server_of(profile)
        ref = (server and token_ref(server, profile)) or ref_of(profile, server)
        facts: ProfileFacts = {
            "resolved_server": server.name if server else None,
            "password_set": parts.secrets.is_set(ref),
            "password_for_another": parts.secrets.is_set_for_another(ref),
            "password_needed": needs_own_secret(profile, server),
            "login_set": login_is_set(parts, profile.name),
            "last_test": parts.tests.record(profile),
            "follows": [] if profile.username else ["username"],
        }
        shown = {
            "name": profile.name,
            "address": profile.address,
            "aliases": list(profile.aliases),
            "server": profile.server,
            "override": profile.override,
            "username": profile.username or (profile.address if profile.override else ""),
            **facts,
            "version": version_of(profile),
        }
        return shown | _rest(profile, shown)

    return describe


def _describe_applications(parts: ControlContext) -> Describe:
    def describe(application: Application) -> Record:
        facts: ApplicationFacts = {"login_set": login_is_set(parts, application.name)}
        shown = {
            "name": application.name,
            "may_send_as": list(application.may_send_as),
            "bounces": application.bounces,
            **facts,
            "version": version_of(application),
        }
        return shown | _rest(application, shown)

    return describe


def _describe_scripts(parts: ControlContext) -> Describe:
    """Describe scripts with how many channels and agents name one or follow it.

    `named_by` are the first of those that name it: while there are any, it cannot be removed.
    """
    directory = parts.directory.routing().directory
    users: defaultdict[str, list[Profile]] = defaultdict(list)
    for profile in directory.profiles():
        if (followed := directory.script_of(profile)) is not None:
            users[followed.name].append(profile)

    def describe(script: Script) -> Record:
        used = Counter(profile.kind for profile in users[script.name])
        naming = (one for one in users[script.name] if one.script == script.name)
        facts: ScriptFacts = {
            "used_by_channels": used[ProfileKind.CHANNEL],
            "used_by_agents": used[ProfileKind.AGENT],
            "named_by": [{"kind": one.kind.value, "name": one.name} for one in islice(naming, _MOST_USERS)],
        }
        shown = {
            "name": script.name,
            "set_headers": dict(script.set_headers),
            "remove_headers": list(script.remove_headers),
            **facts,
            "version": version_of(script),
        }
        return shown | _rest(script, shown)

    return describe


_DESCRIBED: Mapping[str, Callable[[ControlContext], Describe]] = MappingProxyType(
    {
        "server": _describe_servers,
        "channel": _describe_profiles,
        "agent": _describe_profiles,
        "application": _describe_applications,
        "script": _describe_scripts,
    }
)
"""What makes the records of each noun: what they have in common is looked up once, for however many there are."""


def _rest(entry: Entry | AnswerRule | OAuthClient | Incoming, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an entry that are not shown yet, as JSON has them."""
    names = [field.name for field in fields(entry) if field.name not in shown and field.name not in _HIDDEN]
    return {name: _plain(getattr(entry, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, AnswerRule | OAuthClient | Incoming):
        return _rest(value, {})
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, str) else value


def has_text(record: Mapping[str, Any], text: str) -> bool:
    """Tell whether one of the values that people look for has a text in it (without case)."""
    return any(text in str(record.get(key) or "").casefold() for key in SEARCHED)


def _by(key: str) -> Callable[[Mapping[str, Any]], tuple[bool, str]]:
    """Sort by a key as people read: without case, and what has no value at the end."""
    return lambda record: (record[key] in (None, "", []), str(record[key]).casefold())
