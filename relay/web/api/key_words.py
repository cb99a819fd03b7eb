"""What the keys of directory entries mean, for the description: one sentence each."""

from collections.abc import Mapping
from types import MappingProxyType

# "Table.key" where the word means something else there than in most places.
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "name": "What the entry is called. It never changes.",
        "version": "Which version of the entry this is; the same as its ETag.",
        "address": "The address that mail leaves with.",
        "password_from": 'Where the password comes from, if not from the vault: "file:PATH", "env:NAME", '
        '"credential:NAME" or "command:LINE". It is shown here and set on the machine alone.',
        # Servers
        "host": "Its name or IP address.",
        "security": "How the connection is protected.",
        "port": "Where to connect; left out, it follows the security: 25 (none), 587 (starttls) or 465 (tls).",
        "auth": "How we log in; auto takes what the server offers.",
        "Server.username": "As whom we log in; none with auth none.",
        "Server.address": "What mail of the server's own account leaves with; left out, its username.",
        "internal": "Whether it is shared by all, so that no channel or agent may log in there with its own account.",
        "verify_tls": "Whether its certificate is checked; false encrypts without knowing to whom.",
        "ca_file": 'The PEM file of the authorities that its certificate may come from; "": those of the system.',
        "allow_plaintext_password": "Whether a password may go to another machine over security none.",
        "null_sender": "Whether it takes MAIL FROM:<>; where not, reports leave from the identity.",
        "chunking": "Whether mail goes by BDAT where the server offers it. This version knows false alone.",
        "max_connections": "How many connections each account has at most.",
        "max_messages_per_connection": "How many messages a connection carries at most.",
        "recipients_per_message": "How many recipients a message has at most; more are split. 0: no limit.",
        "message_size": "How large a message may be, in bytes. 0: no limit but the server's own.",
        "messages_per_minute": "How many messages an account sends in a minute. 0: no limit.",
        "recipients_per_day": "To how many recipients an account sends in a day. 0: no limit.",
        "shared_limits": "Whether these limits count all accounts of the server together.",
        "answers": "What answers of this server mean, before our own table is asked.",
        "oauth": "The app that asks for tokens, for auth oauth2.",
        "incoming": "The mailbox where mail for the address arrives: for round-trip tests and returned mail.",
        "default": "Whether it is the default server, through which all send that choose none.",
        "used_by_channels": "How many channels use it, those that follow the default included.",
        "used_by_agents": "How many agents use it, those that follow the default included.",
        "state": "How its own account is: ok, slowed (the server asks for a slower pace) or held (nothing is sent).",
        "held_since": "Since when its own account is held.",
        "accounts_held": "How many accounts at this server are held.",
        "client_secret_set": "Whether the OAuth client has its secret.",
        "match": 'Found in "CODE TEXT" of an answer, without case.',
        "means": "What such an answer means.",
        # OAuth clients
        "provider": "custom has the addresses here; of the others they are known.",
        "client_id": "The id of the app that was registered at the provider.",
        "tenant": "The organisation there.",
        "flow": "How the first token is got.",
        "authorize_url": "Where a custom provider asks people.",
        "token_url": "Where a custom provider gives tokens.",
        "device_url": "Where a custom provider begins the device flow.",
        "scope": "What a custom provider is asked for.",
        # Mailboxes
        "protocol": "How the mailbox is read.",
        "Incoming.port": "Where to connect; left out, it follows protocol and security.",
        "Incoming.username": 'As whom we log in; "": as whoever sends, or the address.',
        "watch_bounces": "Whether returned mail is looked for there, once a minute.",
        # Channels and agents
        "aliases": 'Other addresses; "@domain" stands for a whole domain.',
        "server": "The server that was chosen; null follows the default server.",
        "resolved_server": "The server that mail leaves through, chosen or followed; null where there is none.",
        "override": "Whether it logs in with its own account and leaves with its own address, not the server's.",
        "username": "As whom it logs in when it overrides; left out, its address.",
        "alias_identity": "How mail from an alias leaves: rewrite (as the address) or keep (as the alias).",
        "script": "The header rules that were chosen. A channel without any follows the script default, if there is.",
        "mode": "The delivery mode; null follows relay.toml.",
        "password_set": "Whether there is a password, or a token, to log in with at the server.",
        "password_needed": "Whether mail leaves only with a password, or a token, of its own: "
        "it overrides, and the server asks for a login.",
        "login_set": "Whether it has a password to log in with at Relay.",
        "last_test": "The last test since the relay started; null where there was none.",
        "follows": "Which keys nobody has set: what they show follows from others.",
        "full_name": "The person's name.",
        "group": "The group of agents, for filters and may_send_as.",
        "role": "The person's role in the company, in any words.",
        "country": "The person's country.",
        "language": "The person's language.",
        "may_send_as": 'As whom else the login may send: names, "group:NAME", or "*" for all.',
        # Scripts
        "set_headers": "Header fields to set; they replace those of the message.",
        "remove_headers": "Header fields to remove.",
        "named_by": "Channels and agents that name it, at most 50; while there are any, it cannot be removed.",
    }
)


def words_of(table: type, key: str) -> str | None:
    """Return the sentence about a key of an entry or of a table in it; None where there is none."""
    return _WORDS.get(f"{table.__name__}.{key}") or _WORDS.get(key)
