"""The passwords of entries: set, forgotten, listed with tokens, moved to the vault.

With its mail password an entry logs in upstream, with its login password at Relay; with another one its mailbox is read
(`incoming`). Login passwords are kept in the vault alone.
"""

from asyncio import to_thread
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from relay.control.audit_log import note, note_forgotten, note_secret
from relay.control.context import ControlContext
from relay.control.operation import Access, Operation
from relay.control.refused import Refused
from relay.control.tests.login_check import try_password
from relay.control.tests.results import PasswordKept
from relay.directory.directory import Directory
from relay.directory.model import Profile, Server
from relay.directory.storage import Edit
from relay.secrets.login_password import LoginRecord, admin_owner, login_owner, make_record
from relay.secrets.secret import SecretRef, account_owner, client_owner, incoming_owner, incoming_ref, ref_of, token_ref


class Passwords:
    """What can be asked about the vault, and done with it."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "secrets.list": Operation(self.list_, access=Access.ADMIN),
            "secrets.import": Operation(self.import_, is_change=True),
            "secrets.rotate": Operation(self.rotate, is_change=True),
        }

    async def list_(self) -> list[dict[str, Any]]:
        """Return who has a password, where it is kept ("vault", "directory", "file:…"), since when, and if it is used.

        A password in the vault that its owner does not use, because another source comes first, is not listed twice.
        """
        owners = self._parts.vault.owners()
        routing = self._parts.directory.routing()
        records = []
        for ref in _refs_in_use(routing.directory):
            if ref.owner in owners or ref.source or ref.inline:
                source = ref.source or ("directory" if ref.inline else "vault")
                changed = _time(owners[ref.owner]) if source == "vault" else None
                records.append({"owner": ref.owner, "source": source, "changed": changed, "used": True})
        known = {record["owner"] for record in records}
        others = {login_owner(name) for name in routing.logins.names}
        others |= {admin_owner(person.name) for person in await self._parts.people.administrators.all()}
        others |= {client_owner(server.name) for server in routing.directory.servers.values() if server.oauth}
        for owner, changed_at in owners.items():
            if owner not in known:
                records.append(
                    {"owner": owner, "source": "vault", "changed": _time(changed_at), "used": owner in others}
                )
        return records

    async def import_(self) -> dict[str, Any]:
        """Move the passwords that stand in directory.toml to the vault, and return whose they were.

        Each is in the vault before any leaves the file, so that a crash in between loses none.
        """
        directory = self._parts.directory.routing().directory
        entries = list(_entries(directory))
        found = (ref for entry in entries for ref in (_password_ref(directory, entry), incoming_ref(entry)))
        refs = [ref for ref in found if ref and ref.inline]
        for ref in refs:
            was_set = self._parts.vault.has(ref.owner)
            await self._parts.vault.put(ref.owner, ref.inline, bound_to=ref.bound_to)
            note_secret(ref.owner, was_set=was_set)
        if refs:
            await self._parts.directory.change(without_passwords(entries, incoming=True))
        return {"ok": True, "imported": [ref.owner for ref in refs]}

    async def rotate(self) -> dict[str, Any]:
        """Seal every password in the vault under a new master key, and return the key's id."""
        await self._parts.vault.rotate()
        note("master_key", "set", "changed")
        return {"ok": True, "secrets": len(self._parts.vault.owners()), "key": self._parts.vault.key_id}


async def set_password(
    parts: ControlContext, entry: Server | Profile, password: str, *, unchecked: bool = False
) -> PasswordKept:
    """Try a password and put it in the vault; one that stands in directory.toml goes.

    Raises Refused where it would not count, LoginRefused where its server refuses it and it is not `unchecked`.
    """
    # Where it belongs is settled first: it is bound to the server that it is tried at.
    ref = check_password_counts(parts, entry)
    login = await try_password(parts, parts.directory.routing().directory, entry, password, unchecked=unchecked)
    was_set = parts.vault.has(ref.owner) or bool(ref.inline)
    await parts.vault.put(ref.owner, password, bound_to=ref.bound_to)
    note_secret("password", was_set=was_set)
    if ref.inline:
        await parts.directory.change(without_passwords([entry]))
    return PasswordKept(ok=True, login=login)


def check_password_counts(parts: ControlContext, entry: Server | Profile) -> SecretRef:
    """Return where an entry's password belongs. Raises Refused where one in the vault would not count."""
    directory = parts.directory.routing().directory
    ref = _password_ref(directory, entry)
    if _ref_in_use(directory, entry).token is not None:
        noun = "server" if isinstance(entry, Server) else str(entry.kind)
        way = f"authorize it with: relay {noun} authorize {entry.name}"
        raise Refused(f"'{entry.name}' logs in by OAuth, without a password; {way}")
    if ref.source:
        raise Refused(
            f"'{entry.name}' takes its password from {ref.source}; set it there, or set password_from= to keep it here"
        )
    return ref


async def forget_password(parts: ControlContext, entry: Server | Profile) -> None:
    """Remove an owner's password from the vault, if there is one.

    So with the password of its mailbox, its tokens, and a server's client secret.
    """
    owner = account_owner(entry)
    tokens = f"oauth/{owner}"
    had_tokens = parts.vault.has(tokens)
    await parts.secrets.tokens.forget(tokens)
    if had_tokens:
        note_forgotten("authorization")
    kept = {"password": owner, "incoming.password": incoming_owner(entry)}
    if isinstance(entry, Server):
        kept["client_secret"] = client_owner(entry.name)
    for key, each in kept.items():
        if parts.vault.has(each):
            await parts.vault.delete(each)
            note_forgotten(key)


async def set_incoming_password(parts: ControlContext, entry: Server | Profile, password: str) -> None:
    """Set the password of an entry's mailbox. Raises Refused where it would not count."""
    ref = incoming_ref(entry)
    if ref is None and entry.incoming is not None:
        raise Refused(f"the mailbox of '{entry.name}' is read by OAuth, without a password of its own")
    if ref is None:
        raise Refused(no_mailbox(entry))
    if ref.source or ref.inline:
        where = ref.source or "directory.toml"
        raise Refused(f"the mailbox of '{entry.name}' takes its password from {where}; set it there, or take that out")
    was_set = parts.vault.has(ref.owner)
    await parts.vault.put(ref.owner, password, bound_to=ref.bound_to)
    note_secret("incoming.password", was_set=was_set)


def no_mailbox(entry: Server | Profile) -> str:
    """Return the sentence about somebody whose mailbox nobody has named."""
    return f"'{entry.name}' has no mailbox; set incoming.host first"


def login_is_set(parts: ControlContext, name: str) -> bool:
    """Tell whether somebody has a login password."""
    return parts.vault.has(login_owner(name))


async def set_login_password(parts: ControlContext, name: str, password: str) -> None:
    """Set somebody's login password. Raises SecretRefused for a text that can be none."""
    await keep_login_password(parts, name, await to_thread(make_record, password))


async def keep_login_password(parts: ControlContext, name: str, record: LoginRecord) -> None:
    """Keep the record of somebody's new login password, which ends the sessions that began with another.

    SECURITY: an invitation that nobody used ends with it, else whoever finds that could set another one yet.
    """
    was_set = login_is_set(parts, name)
    await parts.vault.put(login_owner(name), record.as_text)
    note_secret("login", was_set=was_set)
    await parts.people.sessions.remove_of("agent", name)
    await parts.people.invitations.remove_of("agent", name)


async def forget_login_password(parts: ControlContext, name: str) -> None:
    """Remove somebody's login password, if there is one, with all that it let in."""
    if login_is_set(parts, name):
        await parts.vault.delete(login_owner(name))
        note_forgotten("login")
    await parts.people.sessions.remove_of("agent", name)
    await parts.people.invitations.remove_of("agent", name)


def entered_anew(parts: ControlContext, directory: Directory, server: Server) -> dict[str, Any]:
    """Return whose secret was set for another server or host than it would go to at this server of a directory.

    `server`: whether its own account's was; `profiles`: those that log in with accounts of their own.
    """
    waiting = [
        profile.name
        for profile in directory.users_of(server.name)
        if profile.override and parts.secrets.is_set_for_another(_ref_in_use(directory, profile))
    ]
    return {"server": parts.secrets.is_set_for_another(_ref_in_use(directory, server)), "profiles": sorted(waiting)}


def _refs_in_use(directory: Directory) -> Iterator[SecretRef]:
    for entry in _entries(directory):
        yield _ref_in_use(directory, entry)
        incoming = incoming_ref(entry)
        if incoming is not None:
            yield incoming


def _ref_in_use(directory: Directory, entry: Server | Profile) -> SecretRef:
    """Return where the secret is that logs in: a password, or tokens."""
    server = entry if isinstance(entry, Server) else directory.server_of(entry)
    return (server and token_ref(server, entry)) or ref_of(entry, server)


def _password_ref(directory: Directory, entry: Server | Profile) -> SecretRef:
    return ref_of(entry, entry if isinstance(entry, Server) else directory.server_of(entry))


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _entries(directory: Directory) -> Iterator[Server | Profile]:
    yield from directory.servers.values()
    yield from directory.profiles()


def without_passwords(entries: Iterable[Server | Profile], *, incoming: bool = False) -> Edit:
    """Return the edit that takes these passwords out of the file; one that was changed meanwhile stays."""
    places = [place for entry in entries for place in _places(entry, incoming=incoming)]

    def edit(document: Any) -> None:
        for path, password in places:
            held = document
            for key in path:
                held = held.get(key, {})
            if held.get("password") == password:
                del held["password"]

    return edit


def _places(entry: Server | Profile, *, incoming: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield where an entry's passwords stand in the file, and which they are."""
    path = ("servers" if isinstance(entry, Server) else f"{entry.kind}s", entry.name)
    yield path, entry.password
    if incoming and entry.incoming is not None:
        yield (*path, "incoming"), entry.incoming.password
