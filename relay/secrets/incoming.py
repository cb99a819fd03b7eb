"""Where the password of a mailbox is (`incoming` of a server or profile): apart from the one that sends."""

from relay.directory.model import Profile, Server
from relay.secrets.secret import SecretRef


def incoming_owner(entry: Server | Profile) -> str:
    """Return the owner under which the vault keeps it: "incoming/NAME" of a profile, "incoming/server/NAME" else."""
    return f"incoming/server/{entry.name}" if isinstance(entry, Server) else f"incoming/{entry.name}"


def incoming_ref(entry: Server | Profile) -> SecretRef | None:
    """Return where the password of its mailbox is; None where it has no mailbox."""
    incoming = entry.incoming
    if incoming is None:
        return None
    return SecretRef(incoming_owner(entry), incoming.password_from, incoming.password)
