"""Where the password of a mailbox is (`incoming` of a server or profile): apart from the one that sends."""

from collections.abc import Iterable

from relay.directory.model import Directory, Profile, Server
from relay.secrets.secret import SecretRef, host_key


def incoming_owner(entry: Server | Profile) -> str:
    """Return the owner under which the vault keeps it: "incoming/NAME" of a profile, "incoming/server/NAME" else."""
    return f"incoming/server/{entry.name}" if isinstance(entry, Server) else f"incoming/{entry.name}"


def incoming_ref(entry: Server | Profile) -> SecretRef | None:
    """Return where the password of its mailbox is; None where it has no mailbox."""
    incoming = entry.incoming
    if incoming is None:
        return None
    return SecretRef(incoming_owner(entry), host_key(incoming.host), incoming.password_from, incoming.password)


def mailbox_places(directory: Directory, owners: Iterable[str]) -> dict[str, str]:
    """Return where the mailbox passwords among these owners of the vault would go now."""
    places: dict[str, str] = {}
    for owner in owners:
        name = owner.removeprefix("incoming/")
        of_server = name.removeprefix("server/")
        entry = directory.servers.get(of_server) if name != of_server else directory.profile(name)
        ref = incoming_ref(entry) if owner.startswith("incoming/") and entry is not None else None
        if ref is not None:
            places[owner] = ref.bound_to
    return places
