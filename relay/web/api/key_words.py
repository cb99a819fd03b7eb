"""What the keys of directory entries mean, for the description: one sentence each.

The model of directory.toml has most of them. Here are those of what is answered and stands in no file, and those that
the API has in another form (null where the file leaves a key out).
"""

from collections.abc import Mapping
from types import MappingProxyType

from relay.config.schema import meanings_of

_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "name": "What the entry is called. It never changes.",
        "version": "Which version of the entry this is; the same as its ETag.",
        "password_from": 'Where the password comes from, if not from the vault: "file:PATH", "env:NAME", '
        '"credential:NAME" or "command:LINE". It is shown here and set on the machine alone.',
        "ca_file": 'The PEM file of the authorities that its certificate may come from; "": those of the system. '
        "It is shown here and set on the machine alone.",
        # Servers
        "message_size": "How large a message may be, in bytes. 0: no limit but the server's own.",
        "default": "Whether it is the default server, through which all send that choose none.",
        "used_by_channels": "How many channels use it, those that follow the default included.",
        "used_by_agents": "How many agents use it, those that follow the default included.",
        "state": "How its own account is: ok, slowed (the server asks for a slower pace) or held (nothing is sent).",
        "held_since": "Since when its own account is held.",
        "accounts_held": "How many accounts at this server are held.",
        "client_secret_set": "Whether the OAuth client has its secret.",
        # Channels and agents
        "server": "The server that was chosen; null follows the default server.",
        "resolved_server": "The server that mail leaves through, chosen or followed; null where there is none.",
        "script": "The header rules that were chosen. A channel without any follows the script default, if there is.",
        "mode": "The delivery mode; null follows relay.toml.",
        "password_set": "Whether there is a password, or a token, to log in with at the server.",
        "password_for_another": "Whether there is one that was set for another server or host, and is not sent there.",
        "password_needed": "Whether mail leaves only with a password, or a token, of its own: "
        "it overrides, and the server asks for a login.",
        "login_set": "Whether it has a password to log in with at Relay.",
        "last_test": "The last test since the relay started; null where there was none.",
        "follows": "Which keys nobody has set: what they show follows from others.",
        "named_by": "Channels and agents that name it, at most 50; while there are any, it cannot be removed.",
    }
)


def words_of(table: type, key: str) -> str | None:
    """Return the sentence about a key of an entry or of a table in it; None where there is none."""
    return _WORDS.get(key) or meanings_of(table).get(key)
