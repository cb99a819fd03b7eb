"""The test of a server that is not saved yet: what stands in a form, with the password of the form or the saved one.

SECURITY: a saved password goes only where it goes today. Where the form has another host, port or user name, or looks
less closely at whom it talks to, the password must be entered again: else a test would give it away.
"""

from collections.abc import Mapping
from typing import Any

from relay.config.faults import Fault, Faults
from relay.control.context import Parts
from relay.control.lookup import find_server, read_address
from relay.control.operation import Access, Operation
from relay.control.refused import Refused
from relay.control.tests.connection_test import probe_steps
from relay.control.tests.last_tests import Steps
from relay.control.tests.test_mail import probe_message
from relay.directory.model import Account, Auth, Server
from relay.directory.rules.validation import parse_directory
from relay.secrets.secret import Secret, secret_ref

# A name that no entry can have, for a server without one.
_UNNAMED = "new"
# What says where a password goes, and how well it is guarded on its way.
_WAY: Mapping[str, str] = {
    "host": "host",
    "effective_port": "port",
    "username": "user name",
    "security": "security",
    "verify_tls": "check of the certificate",
    "ca_file": "certificate authority",
    "allow_plaintext_password": "leave for passwords in plain text",
}


class ServerFormTest:
    """`server.try`: it yields steps as `server.test` does, and saves nothing."""

    def __init__(self, parts: Parts) -> None:
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
        saved = find_server(self._parts, name) if name is not None else None
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
                    f"enter the password for this test; the saved one is for {holder.host} as it is saved, "
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


def check_one_line(password: str) -> None:
    """Raise Refused for what no protocol can bear as a password."""
    if not password or not {"\r", "\n", "\0"}.isdisjoint(password):
        raise Refused("a password is one line of text and not empty", key="password")


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
