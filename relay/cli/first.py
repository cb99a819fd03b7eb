"""What `relay init` is about to write: as it was given, as it was answered, and as a provider's preset has it."""

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.cli.provider import oauth_values, preset_of

if TYPE_CHECKING:
    from relay.directory.presets import Preset

_TLS_PORT = 465
_LAST_PORT = 65535
_HOST_FORM = "a host name or an IP address, with its port if need be, such as smtp.acmejets.example:587 or [::1]:25"


@dataclass(slots=True, kw_only=True)
class First:
    """The first server and the first profile. `kind` is "channel" or "agent"; `password` is of the account in use.

    `server_address` is the address that the server's mail leaves with, where its user name is none.

    "" is what nobody said: the provider's preset or the server's default holds.
    """

    server: str
    host: str
    port: int | None = None
    provider: str
    security: str
    auth: str
    username: str
    client_id: str
    tenant: str
    kind: str
    profile: str
    address: str
    override: bool
    server_address: str = ""
    password: str = ""

    @property
    def preset(self) -> "Preset | None":
        """What is known about the provider. Raises Refused for an unknown one."""
        return preset_of(self.provider) if self.provider else None

    @property
    def needs_host(self) -> bool:
        """Whether nobody knows yet where the server is."""
        return not self.host and (self.preset is None or bool(self.preset.host_form))

    @property
    def has_server_username(self) -> bool:
        """Whether it is known as whom the server itself logs in."""
        return bool(self.username or (self.preset and self.preset.values.get("username")))

    @property
    def has_username(self) -> bool:
        """Whether it is known who logs in there."""
        return self.override or self.has_server_username

    @property
    def login(self) -> str:
        """How the server is logged in at: a word of `auth`."""
        if self.auth or self.client_id:
            return self.auth or "oauth2"
        return str(self.preset.values["auth"]) if self.preset else "auto"

    def take_host(self, text: str) -> None:
        """Take the server's place from "HOST" or "HOST:PORT". Port 465 means TLS from the first byte (RFC 8314).

        Raises ValueError with the sentence that says what is expected.
        """
        self.host, self.port = host_and_port(text)
        if self.port == _TLS_PORT and not self.security:
            self.security = "tls"

    def server_values(self) -> dict[str, Any]:
        """Return the keys of the server, as far as they are known."""
        given = {
            "host": self.host,
            "port": self.port,
            "security": self.security,
            "auth": self.auth,
            "username": self.username,
            "address": self.server_address,
        }
        return {key: value for key, value in given.items() if value} | oauth_values(self.client_id, self.tenant)

    def profile_values(self) -> dict[str, Any]:
        """Return the keys of the profile."""
        return {"address": self.address} | ({"override": True} if self.override else {})

    def fill_server_address(self) -> None:
        """Let the server's mail leave with the profile's address where its user name is no address ("apikey")."""
        from relay.mail.address import Address, AddressError

        username = self.username or str((self.preset.values if self.preset else {}).get("username", ""))
        if self.override or not username:
            return
        try:
            Address.parse(username)
        except AddressError:
            self.server_address = self.address


def host_and_port(text: str) -> tuple[str, int | None]:
    """Return what "HOST", "HOST:PORT", "V6" or "[V6]:PORT" says. Raises ValueError with a sentence."""
    from relay.directory.rules.servers import host_faults

    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        is_good = _is_v6(host) and bool(bracket) and rest[:1] in {"", ":"}
    elif text.count(":") == 1 and "/" not in text:
        host, _, port = text.partition(":")
        is_good = not any(host_faults(host))
    else:
        is_good = not any(host_faults(host))
    if not is_good or text.endswith(":"):
        raise ValueError(f"{text!r} is no server; write {_HOST_FORM}")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) <= _LAST_PORT):
        raise ValueError(f"{port!r} is no port; write a number from 1 to {_LAST_PORT} behind the colon")
    return host, int(port) if port else None


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
