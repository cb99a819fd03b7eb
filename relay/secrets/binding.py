"""Secrets go to no other server than they were set for (DESIGN section 2): those that nobody has bound yet are bound.

A relay from before secrets were bound wrote them (the store of an older version, a backup of one, an older node beside
new ones), or they were set while there was no server. They are bound to where they would go at first sight: when the
store is opened, when another process wrote them, when the directory changes. Until then they go nowhere. What is bound
stays so until it is set anew, or the machine's own user says that it is for the server's new host.
"""

from relay import log
from relay.directory.directory import Directory
from relay.directory.model import Server
from relay.secrets.secret import account_owner, bindings_of, client_owner, mailbox_bindings
from relay.secrets.vault import Vault


async def bind_unbound(vault: Vault, directory: Directory) -> None:
    """Bind the secrets that are not bound yet to where they would go now. Cheap where there are none."""
    owners = vault.unbound
    if not owners:
        return
    places = bindings_of(directory, owners) | mailbox_bindings(directory, owners)
    if places:
        await vault.bind(places)
        log.changed(what="vault", state="secrets are bound to the servers that they were set for", secrets=len(places))


async def bind_to_new_host(vault: Vault, directory: Directory, server: Server) -> list[str]:
    """Let the secrets that were set for a server go to its present host; return whose they are."""
    of_server = [account_owner(server), f"oauth/{account_owner(server)}", client_owner(server.name)]
    own = [owner for owner in of_server if vault.has(owner)]
    theirs = [
        owner
        for profile in directory.profiles()
        for owner in (account_owner(profile), f"oauth/{account_owner(profile)}")
        if (bound := vault.bound_to(owner)) is not None and bound.partition(" ")[0] == server.name
    ]
    places = bindings_of(directory, [*own, *theirs])
    # Not where a profile would send through another server now.
    meant = {owner: place for owner, place in places.items() if owner in own or place.partition(" ")[0] == server.name}
    await vault.bind(meant, again=True)
    return sorted(meant)
