"""Whom the doctor looks at: every account, the addresses that it sends as, and the profiles that need each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relay.directory.model import Account, Auth, Profile, Server
from relay.directory.routing import Routing
from relay.doctor.providers import Outlet
from relay.mail.address import Address
from relay.secrets.secret import SecretRef, secret_ref


@dataclass(slots=True)
class DoctorTarget:
    """An account of a server with its secret. `command` gives it another secret."""

    server: Server
    account: Account
    ref: SecretRef | None
    command: str
    identities: dict[Address, list[Profile]] = field(default_factory=dict)

    @classmethod
    def of(cls, server: Server, account: Account, profile: Profile | None) -> "DoctorTarget":
        """Return an account that is a profile's own, or the server's where `profile` is None."""
        verb = "authorize" if server.auth is Auth.OAUTH2 else "password"
        whose = f"{profile.kind} {verb} {profile.name}" if profile is not None else f"server {verb} {server.name}"
        return cls(server, account, secret_ref(server, profile, override=profile is not None), f"relay {whose}")

    @property
    def names(self) -> list[str]:
        """Everybody who sends with this account."""
        return [profile.name for profiles in self.identities.values() for profile in profiles]

    def test_command(self, identity: Address) -> str:
        """The command that sends a test message as an identity."""
        profile = next(iter(self.identities[identity]), None)
        whose = f"{profile.kind} test {profile.name}" if profile is not None else f"server test {self.server.name}"
        return f"relay {whose} --to ADDRESS"


def targets_of(routing: Routing, profiles: Iterable[Profile], *, with_unused: bool) -> list[DoctorTarget]:
    """Return the accounts that these profiles send with, and, `with_unused`, those of servers that nobody uses."""
    targets: dict[tuple[Account, SecretRef | None], DoctorTarget] = {}
    for profile in profiles:
        route = routing.route_of(profile)
        if route is not None:
            new = DoctorTarget.of(route.server, route.account, profile if profile.override else None)
            target = targets.setdefault((new.account, new.ref), new)
            target.identities.setdefault(route.identity, []).append(profile)
    if with_unused:
        used = {target.server.name for target in targets.values()}
        for server in routing.directory.servers.values():
            if server.name not in used:
                new = DoctorTarget.of(server, Account(server.name, server.username), None)
                new.identities.update({server.identity: []} if server.identity else {})
                targets[new.account, new.ref] = new
    return list(targets.values())


def by_server(targets: Iterable[DoctorTarget]) -> list[list[DoctorTarget]]:
    """Return the accounts of each server."""
    groups: dict[str, list[DoctorTarget]] = {}
    for target in targets:
        groups.setdefault(target.server.name, []).append(target)
    return list(groups.values())


def outlets_of(targets: Iterable[DoctorTarget], selectors: tuple[str, ...]) -> Mapping[Outlet, list[str]]:
    """Return who sends through each outlet. Where domain, server and account's domain are the same, so is all DNS."""
    outlets: dict[Outlet, list[str]] = {}
    for target in targets:
        for identity, profiles in target.identities.items():
            outlet = Outlet.of(identity, target.server.host, target.account.username, selectors)
            outlets.setdefault(outlet, []).extend(profile.name for profile in profiles)
    return outlets
