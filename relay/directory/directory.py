"""The whole directory: its entries by name, and who sends through what."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from relay.directory.model import Account, Agent, Application, Channel, Profile, Script, Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The whole directory. Every reference in it is good: `rules` made sure before it exists."""

    default_server: Annotated[
        str | None, "The server of all channels and agents that choose none; needed as soon as there is a server."
    ] = None
    servers: Mapping[str, Server] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    applications: Mapping[str, Application] = field(default_factory=dict)
    scripts: Mapping[str, Script] = field(default_factory=dict)

    def profiles(self) -> Iterator[Profile]:
        """All channels, then all agents."""
        yield from self.channels.values()
        yield from self.agents.values()

    def profile(self, name: str) -> Profile | None:
        """The channel or agent of that name."""
        return self.channels.get(name) or self.agents.get(name)

    def server_of(self, profile: Profile) -> Server | None:
        """The server a profile sends through: its own choice or the default; None in a directory without servers."""
        name = profile.server or self.default_server
        return self.servers[name] if name else None

    def account_of(self, profile: Profile) -> Account | None:
        """The account that logs in for a profile."""
        server = self.server_of(profile)
        if server is None:
            return None
        return Account(server.name, profile.login_name if profile.override else server.username)

    def accounts(self) -> Iterator[Account]:
        """Every account that somebody may send through: each server's own, then each profile's, some of them again."""
        yield from (Account(server.name, server.username) for server in self.servers.values())
        yield from filter(None, map(self.account_of, self.profiles()))

    def script_of(self, profile: Profile) -> Script | None:
        """The header rules of a channel's mail: those it names, else those named `default`. Agents name theirs."""
        if profile.script:
            return self.scripts[profile.script]
        return self.scripts.get("default") if isinstance(profile, Channel) else None

    def users_of(self, server: str) -> Iterator[Profile]:
        """The profiles that send through a server, those that follow the default included."""
        for profile in self.profiles():
            if (profile.server or self.default_server) == server:
                yield profile
