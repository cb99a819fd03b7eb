"""What is in the directory as the JSON objects of `list` and `show`: every key that is set or follows, no secret.

The keys of DESIGN section 4 come first; the others are those of directory.toml.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any, TypeAlias

from relay.config.faults import did_you_mean
from relay.control.context import Parts
from relay.control.entries.assignments import version_of
from relay.control.entries.login_passwords import login_is_set
from relay.control.refused import Refused
from relay.control.results import TroubledAccount
from relay.directory.model import (
    AnswerRule,
    Application,
    Auth,
    Directory,
    Incoming,
    OAuthClient,
    Profile,
    ProfileKind,
    Script,
    Server,
)
from relay.secrets.secret import client_bound_to, client_owner, ref_of, token_ref

_User: TypeAlias = tuple[str | None, ProfileKind]

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


def server_records(parts: Parts) -> list[dict[str, Any]]:
    """Return all servers, in the order of their names."""
    directory = parts.directory.routing().directory
    used: Counter[_User] = Counter(
        (profile.server or directory.default_server, profile.kind) for profile in directory.profiles()
    )
    troubled = parts.queue_actions.troubled()
    servers = (directory.servers[name] for name in sorted(directory.servers))
    return [_server_record(parts, directory, server, used, troubled) for server in servers]


def server_record(parts: Parts, server: Server) -> dict[str, Any]:
    """Return one server of the directory in effect."""
    directory = parts.directory.routing().directory
    used: Counter[_User] = Counter((server.name, profile.kind) for profile in directory.users_of(server.name))
    return _server_record(parts, directory, server, used, parts.queue_actions.troubled())


def profile_records(parts: Parts, kind: ProfileKind, *, sort: str = "name", contains: str = "") -> list[dict[str, Any]]:
    """Return the profiles of a kind that have a text in one of their values, sorted by a key and then by name.

    Raises Refused for a key that they do not have.
    """
    directory = parts.directory.routing().directory
    profiles: Mapping[str, Profile] = directory.channels if kind is ProfileKind.CHANNEL else directory.agents
    records = [profile_record(parts, profiles[name]) for name in sorted(profiles)]
    if records and sort not in records[0]:
        raise Refused(f"there is no column {sort!r} to sort by{did_you_mean(sort, records[0])}", key="sort")
    if contains:
        records = [record for record in records if has_text(record, contains.casefold())]
    return sorted(records, key=_by(sort))


def profile_record(parts: Parts, profile: Profile) -> dict[str, Any]:
    """Return one profile of the directory in effect."""
    server = parts.directory.routing().directory.server_of(profile)
    ref = (server and token_ref(server, profile)) or ref_of(profile, server)
    shown = {
        "name": profile.name,
        "address": profile.address,
        "aliases": list(profile.aliases),
        "server": profile.server,
        "resolved_server": server.name if server else None,
        "override": profile.override,
        "username": profile.username or (profile.address if profile.override else ""),
        "password_set": parts.secrets.is_set(ref),
        "password_for_another": parts.secrets.is_set_for_another(ref),
        "password_needed": needs_own_secret(profile, server),
        "login_set": login_is_set(parts, profile.name),
        "last_test": parts.tests.record(profile),
        "follows": [] if profile.username else ["username"],
        "version": version_of(profile),
    }
    return shown | _rest(profile, shown)


def needs_own_secret(profile: Profile, server: Server | None) -> bool:
    """Whether mail of a profile leaves only with a password, or tokens, of its own."""
    return profile.override and server is not None and server.auth is not Auth.NONE


def application_record(parts: Parts, application: Application) -> dict[str, Any]:
    """Return one application of the directory in effect."""
    return {
        "name": application.name,
        "may_send_as": list(application.may_send_as),
        "bounces": application.bounces,
        "login_set": login_is_set(parts, application.name),
        "version": version_of(application),
    }


def script_record(parts: Parts, script: Script) -> dict[str, Any]:
    """Return one script of the directory in effect, with how many channels and agents name it or follow it.

    `named_by` are the first of those that name it: while there are any, it cannot be removed.
    """
    directory = parts.directory.routing().directory
    users = [profile for profile in directory.profiles() if directory.script_of(profile) is script]
    used = Counter(profile.kind for profile in users)
    naming = ({"kind": str(one.kind), "name": one.name} for one in users if one.script == script.name)
    return {
        "name": script.name,
        "set_headers": dict(script.set_headers),
        "remove_headers": list(script.remove_headers),
        "used_by_channels": used[ProfileKind.CHANNEL],
        "used_by_agents": used[ProfileKind.AGENT],
        "named_by": list(islice(naming, _MOST_USERS)),
        "version": version_of(script),
    }


def _server_record(
    parts: Parts,
    directory: Directory,
    server: Server,
    used: Mapping[_User, int],
    troubled: Iterable[TroubledAccount],
) -> dict[str, Any]:
    ref = token_ref(server, server) or ref_of(server, server)
    shown = {
        "name": server.name,
        "host": server.effective_host,
        "port": server.effective_port,
        "security": server.effective_security.value,
        "auth": server.auth.value,
        "username": server.username,
        "address": str(server.identity or ""),
        "default": server.name == directory.default_server,
        "internal": server.internal,
        "used_by_channels": used.get((server.name, ProfileKind.CHANNEL), 0),
        "used_by_agents": used.get((server.name, ProfileKind.AGENT), 0),
        **_state(server, troubled),
        "password_set": parts.secrets.is_set(ref),
        "password_for_another": parts.secrets.is_set_for_another(ref),
        "client_secret_set": parts.vault.is_for(client_owner(server.name), client_bound_to(server)),
        "last_test": parts.tests.record(server),
        "follows": [key for key in _FOLLOWING if not getattr(server, key)],
        "version": version_of(server),
    }
    return shown | _rest(server, shown)


def _state(server: Server, troubled: Iterable[TroubledAccount]) -> dict[str, Any]:
    """Return how a server's own account is, since when, and how many of its accounts are held."""
    here = [one for one in troubled if one.server == server.name]
    own = next((one for one in here if one.username == server.username and not one.address), None)
    return {
        "state": own.state if own else "ok",
        "held_since": own.held_since if own else None,
        "accounts_held": len({one.account for one in here if one.state == "held"}),
    }


def _rest(entry: Server | Profile | AnswerRule | OAuthClient | Incoming, shown: Mapping[str, Any]) -> dict[str, Any]:
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
