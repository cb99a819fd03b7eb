"""What `relay init` is about to write: as it was given, as it was answered, and as a provider's preset has it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.cli.provider import preset_of

if TYPE_CHECKING:
    from relay.directory.presets import Preset


@dataclass(slots=True, kw_only=True)
class First:
    """The first server and the first profile. `kind` is "channel" or "agent"; `password` is of the account in use.

    "" is what nobody said: the provider's preset or the server's default holds.
    """

    server: str
    host: str
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
    def has_username(self) -> bool:
        """Whether it is known who logs in there."""
        return bool(self.username or self.override or (self.preset and self.preset.values.get("username")))

    @property
    def login(self) -> str:
        """How the server is logged in at: a word of `auth`."""
        if self.auth or self.client_id:
            return self.auth or "oauth2"
        return str(self.preset.values["auth"]) if self.preset else "auto"
