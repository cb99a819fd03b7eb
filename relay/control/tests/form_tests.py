"""The tests of what is not saved yet: a server, channel or agent as its form says, with the form's or a saved password.

SECURITY: a saved password goes only where it goes today. Where the form has another server, host, port or user name, or
looks less closely at whom it talks to, the password must be entered again: else a test would give it away. The server's
own account is tested as it is saved.
"""

from collections.abc import Mapping
from typing import Any

from relay.config.faults import Fault, Faults
from relay.config.schema import no_such
from relay.control.context import ControlContext, find_entry, read_address
from relay.control.operation import Access, Operation
from relay.control.refused import NotFound, Refused
from relay.control.tests.connection_test import no_way_out, probe_steps, secret_of
from relay.control.tests.doctor import DoctorTarget
from relay.control.tests.last_tests import Steps
from relay.control.tests.login_check import check_one_line
from relay.control.tests.round_trip import probe_message
from relay.directory.kinds import SERVER, EntryKind
from relay.directory.model import Account, Auth, Profile, Server
from relay.directory.rules.validation import parse_directory
from relay.mail.address import Address
from relay.secrets.secret import Secret, secret_ref

# A name that no entry can have, for a server without one.
_UNNAMED = "new"
# What says where a password goes, and how well it is guarded on its way.
_WAY: Mapping[str, str] = {
    "effective_host": "host",
    "effective_port": "port",
    "username": "user name",
    "security": "security",
    "verify_tls": "check of the certificate",
    "ca_file": "certificate authority",
    "allow_plaintext_password": "leave for passwords in plain text",
}

# What says how a profile logs in, and as whom its mail leaves.
_KEYS = ("address", "override", "username")


class ServerFormTest:
    """`server.try`: it yields steps as `server.test` does, and saves nothing."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"server.try": Operation(self.try_, is_stream=True, access=Access.ADMIN)}

    def try_(
        self,
        *,
        values: dict[str, Any],
        to: str,
        password: str | None = None,
        name: str | None = None,
        send: bool = True,
    ) -> Steps:
        """Log in with what a form says and send a message to `to`, or stop before it.

        `values` are keys as directory.toml has them. Without a password, that of the saved server `name` is taken.
        """
        saved = find_entry(self._parts, SERVER, name) if name is not None else None
        # Who comes from afar may not say which authorities count: then the saved ones do.
        known = {"ca_file": saved.ca_file} if saved is not None and saved.ca_file else {}
        server = _server({**known, **values}, name or _UNNAMED)
        recipient = read_address(to, "to")
        sender = server.identity or recipient
        content = probe_message(sender, recipient, self._parts.settings.effective_hostname) if send else None
        self._check(server, saved, password)

        async def steps() -> Steps:
            secret = await self._secret(server, saved, password)
            account = Account(server.name, server.username)
            async for step in probe_steps(self._parts, server, account, secret, sender, recipient, content):
                yield step

        return steps()

    def _check(self, server: Server, saved: Server | None, password: str | None) -> None:
        """Raise Refused where there is a password to take, but not for where it would go."""
        if server.auth is Auth.NONE:
            return
        if password is not None:
            check_one_line(password)
        if server.auth is Auth.OAUTH2 and (saved is None or saved.oauth != server.oauth):
            raise Refused("a login by OAuth can be tested when the server is saved and authorized", key="auth")
        if password is not None and server.auth is not Auth.OAUTH2:
            return
        holders = [saved] if saved is not None else []
        if server.password_from:
            every = self._parts.directory.routing().directory.servers.values()
            holders += [other for other in every if other.password_from == server.password_from]
        for holder in holders:
            changed = [words for key, words in _WAY.items() if getattr(holder, key) != getattr(server, key)]
            if changed:
                raise Refused(
                    f"enter the password for this test; the saved one is for {holder.effective_host} as it is saved, "
                    f"and here the {' and the '.join(changed)} {'is' if len(changed) == 1 else 'are'} different",
                    key="password",
                )

    async def _secret(self, server: Server, saved: Server | None, password: str | None) -> Secret | None:
        if server.auth is Auth.NONE:
            return None
        if password is not None and server.auth is not Auth.OAUTH2:
            return self._parts.vault.secret_of(password)
        holder = server if server.password_from else saved
        ref = secret_ref(holder, None, override=False) if holder is not None else None
        if ref is None:
            return None
        self._parts.secrets.forget(ref)  # a test asks the password's source anew
        return await self._parts.secrets.secret(ref)


def _server(values: Mapping[str, Any], name: str) -> Server:
    """Return the server that values describe. Raises Faults, each with its key as the form knows it."""
    if "password" in values:
        raise Refused("give the password beside the values, not as one of them", key="password")
    try:
        table = {key: value for key, value in values.items() if value is not None}
        return parse_directory({"default_server": name, "servers": {name: table}}).servers[name]
    except Faults as error:
        place = f"servers.{name}."
        raise Faults(Fault("", fault.key.removeprefix(place), fault.message) for fault in error.faults) from None


class ProfileFormTest:
    """`channel.try` and `agent.try`: they yield steps as `channel.test` does, and save nothing."""

    def __init__(self, parts: ControlContext, kind: EntryKind[Profile]) -> None:
        self._parts = parts
        self._kind = kind

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {f"{self._kind.word}.try": Operation(self.try_, is_stream=True, access=Access.ADMIN)}

    def try_(
        self,
        *,
        values: dict[str, Any],
        to: str | None = None,
        password: str | None = None,
        name: str | None = None,
        send: bool = True,
    ) -> Steps:
        """Log in as a form says and send a message to `to` (None: the profile's address), or stop before it.

        `values` are keys as directory.toml has them. Without a password, that of the saved profile `name` is taken.
        """
        saved = find_entry(self._parts, self._kind, name) if name is not None else None
        server = self._server(values.get("server"))
        profile = self._profile(values, server, name or _UNNAMED)
        account = Account(server.name, profile.login_name if profile.override else server.username)
        sender = Address.parse(profile.address) if profile.override else server.identity
        if sender is None:
            raise no_way_out(self._kind, profile.name)
        recipient = Address.parse(to or profile.address)
        content = probe_message(sender, recipient, self._parts.settings.effective_hostname) if send else None
        self._check(server, profile, account, saved, password)

        async def steps() -> Steps:
            secret, lack = await self._secret(server, account, saved if profile.override else None, password)
            async for step in probe_steps(self._parts, server, account, secret, sender, recipient, content, lack=lack):
                yield step

        return steps()

    def _server(self, wanted: Any) -> Server:
        directory = self._parts.directory.routing().directory
        name = wanted or directory.default_server
        if not name:
            raise Refused("there is no server yet; add one first", key="server")
        if name not in directory.servers:
            raise NotFound(no_such("server", str(name), directory.servers), key="server")
        return directory.servers[name]

    def _profile(self, values: Mapping[str, Any], server: Server, name: str) -> Profile:
        """Return the profile that values describe. Raises Faults, each with its key as the form knows it."""
        table = self._kind.table
        entry = {key: values[key] for key in _KEYS if values.get(key) is not None}
        # What is wrong with the server itself is said where it is tried.
        stand_in = {"host": "localhost", "username": "a@b.example", "internal": server.internal}
        tables = {"default_server": server.name, "servers": {server.name: stand_in}, table: {name: entry}}
        try:
            profile = parse_directory(tables).profile(name)
        except Faults as error:
            place = f"{table}.{name}."
            raise Faults(Fault("", fault.key.removeprefix(place), fault.message) for fault in error.faults) from None
        assert profile is not None
        return profile

    def _check(
        self, server: Server, profile: Profile, account: Account, saved: Profile | None, password: str | None
    ) -> None:
        """Raise Refused where the password is none, or the saved one would go elsewhere."""
        if password is not None:
            check_one_line(password)
        if not profile.override:
            if password is not None:
                raise Refused(
                    "without the override the server's account logs in; leave the password out", key="password"
                )
            return
        if server.auth is Auth.NONE or (password is not None and server.auth is not Auth.OAUTH2):
            return
        known = self._parts.directory.routing().directory.account_of(saved) if saved and saved.override else None
        if known == account:
            return
        if server.auth is Auth.OAUTH2:
            raise Refused(
                f"a login by OAuth can be tested when the {self._kind.word} is saved and authorized", key="server"
            )
        whose = f"; the saved one is for {known}, and here it would go to {account}" if known else ""
        raise Refused(f"enter the password for this test{whose}", key="password")

    async def _secret(
        self, server: Server, account: Account, own: Profile | None, password: str | None
    ) -> tuple[Secret | None, str]:
        """Return the secret to log in with, or why there is none and what to do. `own`: whose the account is."""
        if password is not None and server.auth is not Auth.OAUTH2:
            return self._parts.vault.secret_of(password), ""
        return await secret_of(self._parts, DoctorTarget.of(server, account, own))
