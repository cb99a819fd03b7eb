"""What to do where an account is in trouble: one sentence, by what its server's answer means."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.control.results import TroubledAccount, UnreachedServer
from relay.directory.model import Account, Auth, Directory, Meaning, Profile, Server
from relay.doctor.providers import send_as_advice
from relay.upstream.outcome import Phase


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose secret an account logs in with: the `kind` ("server", "channel" or "agent") and the name."""

    kind: str
    name: str
    server: Server

    @property
    def words(self) -> str:
        """Which page it is."""
        return f"{self.kind} '{self.name}'"

    @property
    def mending(self) -> str:
        """What gives it another secret, with the command that does."""
        if self.server.auth is Auth.OAUTH2:
            return f"authorize {self.words} again with: relay {self.kind} authorize {self.name}"
        return f"set a new password for {self.words} with: relay {self.kind} password {self.name}"


def holder_of(directory: Directory, account: Account, profiles: Sequence[str]) -> Holder | None:
    """Return whose secret it is: the server's own account, else a profile with override; None where both are gone."""
    server = directory.servers.get(account.server)
    if server is None:
        return None
    if server.username == account.username:
        return Holder("server", server.name, server)
    found = (profile for name in profiles if (profile := directory.profile(name)) and _is_own(profile, account))
    first = next(found, None)
    return Holder(str(first.kind), first.name, server) if first else None


def advice(troubled: TroubledAccount, holder: Holder | None) -> str:
    """Return what to do about an account in trouble, and where."""
    if holder is None:
        return (
            "nobody sends through this account any more: put its server or profile back, or let the mail that waits "
            f"go with: relay account release {troubled.account}"
        )
    until = troubled.until
    match troubled.means:
        case Meaning.LOGIN_REFUSED:
            return holder.mending
        case Meaning.IDENTITY_REFUSED:
            then = f"then let its mail go on with: relay account release {troubled.account}"
            return f"to send as {troubled.address}, {send_as_advice(holder.server.host)}; {then}"
        case Meaning.QUOTA:
            return _wait("the provider's limit is used up", until, "or raise the limit there")
        case Meaning.LOCK_OUT:
            return _wait("the provider has locked the account for a while", until, "or unlock it there")
        case Meaning.ACCOUNT_FULL:
            return _wait("the mailbox of the account is full: make room in it", until, "which looks again by itself")
        case Meaning.THROTTLE:
            return _wait("the server asks for a slower pace", until, "nothing needs to be done")
        case _:
            then = f"then let its mail go on with: relay account release {troubled.account}"
            return f"read the server's words, mend what they say, {then}"


def reach_advice(unreached: UnreachedServer) -> str:
    """Return what to do about a server that nobody gets through to."""
    match unreached.phase:
        case Phase.RESOLVE:
            look = "its name is not found: look at its host, and at the name servers of this machine"
        case Phase.STARTTLS:
            look = "encryption does not begin: look at its security, its certificate and ca_file"
        case _:
            look = "it does not answer: look at its host and port, the network and the firewall"
    then = "what waits goes on by itself when it is back"
    return f"{look}; {then}; test it with: relay server test {unreached.server} --to ADDRESS"


def _is_own(profile: Profile, account: Account) -> bool:
    return profile.override and profile.login_name == account.username


def _wait(why: str, until: str | None, then: str) -> str:
    moment = until.replace("T", " ").replace("Z", " UTC") if until else ""
    when = f"mail goes on at {moment}" if moment else "mail goes on by itself"
    return f"{why}; {when}, {then}"
