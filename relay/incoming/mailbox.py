"""A mailbox as we know it before it is opened: where it is, as whom we log in, and whose mail comes back there."""

from collections.abc import Iterator
from dataclasses import dataclass

from relay.directory.directory import Directory
from relay.directory.model import Profile, Server
from relay.directory.tables import Incoming
from relay.secrets.secret import SecretRef, mailbox_ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """The mailbox of a channel or agent (`kind` names which), or of a server's own address.

    `account` is the user name that sends, `username` the one that reads. `api` is the server by
    whose API it is read, where it is.
    """

    kind: str
    name: str
    incoming: Incoming
    account: str
    username: str
    ref: SecretRef
    api: Server | None = None

    def __str__(self) -> str:
        return f"the mailbox of {self.kind} '{self.name}'"

    @property
    def place(self) -> str:
        """Host and port, as people write them."""
        return f"{self.incoming.host}:{self.incoming.effective_port}"

    @property
    def identity(self) -> str:
        """Whose it is, where and as whom: another mailbox in its place has another one."""
        return f"{self.owner} at {self.place} as {self.username}"

    @property
    def owner(self) -> str:
        """Whose it is, as the vault names who has a password for one."""
        return f"incoming/server/{self.name}" if self.kind == "server" else f"incoming/{self.name}"

    @property
    def remedy(self) -> str:
        """The command that gives it a secret."""
        if self.ref.token is None:
            return f"set its password with: relay {self.kind} password {self.name} --incoming"
        if self.ref.token.is_own:
            return f"let the app read it at the provider, then: relay {self.kind} test {self.name} --round-trip"
        return f"authorize it with: relay {self.kind} authorize {self.name}"


def mailbox_of(entry: Server | Profile, server: Server | None) -> Mailbox | None:
    """Return the mailbox of a server or profile; None where it names none. `server` is where it logs in to send."""
    ref = mailbox_ref(entry, server)
    if entry.incoming is None or ref is None:
        return None
    if isinstance(entry, Server):
        kind, account = "server", entry.username
    else:
        kind, account = str(entry.kind), entry.login_name
    username = entry.incoming.username or account or entry.address
    return Mailbox(
        kind=kind,
        name=entry.name,
        incoming=entry.incoming,
        account=account,
        username=username,
        ref=ref,
        api=server if entry.incoming.protocol == "api" else None,
    )


def watched_mailboxes(directory: Directory) -> Iterator[Mailbox]:
    """Yield the mailboxes that are watched for returned mail."""
    entries: list[Server | Profile] = [*directory.servers.values(), *directory.profiles()]
    for entry in entries:
        at = entry if isinstance(entry, Server) else directory.server_of(entry)
        mailbox = mailbox_of(entry, at)
        if mailbox is not None and mailbox.incoming.watch_bounces:
            yield mailbox
