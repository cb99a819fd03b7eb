"""What must hold for a server and those who send through it, for a mailbox that is read, and for an OAuth client.

Where the server is, as whom we log in, what mail leaves with; where tokens are asked for, and as whom.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from relay.config.endpoint import is_host_name
from relay.config.schema import no_such
from relay.directory.directory import Directory
from relay.directory.http_apis import HTTP_APIS, not_possible, region_of
from relay.directory.model import Auth, Kind, Profile, Security, Server
from relay.directory.reading import Findings, Reading
from relay.directory.tables import Incoming, OAuthClient
from relay.mail.address import Address, AddressError, domain_key
from relay.mail.structured_fields import CONTROL

# They send the password so that whoever reads the connection has it. AUTO may choose one of them.
_PLAINTEXT = frozenset({Auth.PLAIN, Auth.LOGIN, Auth.AUTO})
_SOURCES = ("file:", "env:", "credential:", "command:")
# Whose tokens an API takes; the endpoints of a national cloud are "custom" ones.
_PROVIDERS: Mapping[Kind, str] = MappingProxyType({Kind.MSGRAPH: "microsoft", Kind.GMAIL: "google"})
# Where mailboxes are that take the tokens of a provider: developers.google.com/gmail/imap/imap-smtp, and for Microsoft
# support.microsoft.com "POP, IMAP, and SMTP settings for Outlook.com" with the page of learn.microsoft.com on OAuth.
_TOKEN_HOSTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "google": frozenset({"imap.gmail.com", "pop.gmail.com"}),
        "microsoft": frozenset({"outlook.office365.com", "outlook.office.com"}),
    }
)
_SERVER_DEFAULTS: Mapping[str, Any] = MappingProxyType({field.name: field.default for field in fields(Server)})
_URLS = ("authorize_url", "token_url", "device_url")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
# Names that stand for whoever logs in. An application that logs in as itself has one organisation.
_NO_ORGANISATION = frozenset({"", "common", "organizations", "consumers"})


def server_faults(reading: Reading) -> Findings:
    """Yield (key, sentence) for everything that is wrong with a server."""
    senders = _senders(reading.directory)
    for server in reading.directory.servers.values():
        for rule in (_host, _api, _address, _login, _plaintext):
            for key, message in rule(server):
                yield f"servers.{server.name}.{key}", message
        yield from _backup(server, reading)
        sender = senders.get(server.name)
        if sender is not None:
            for key, message in needs_of(server, f"{sender.kind} '{sender.name}'"):
                yield f"servers.{server.name}.{key}", message


def needs_of(server: Server, sender: str) -> Findings:
    """Yield (key, sentence) for what a server lacks for mail that leaves with its own account and address."""
    if server.identity is None and not (server.address or server.username):
        yield "address", f'{sender} sends with this server\'s address, and it has none; add address = "…"'
    elif server.identity is None and not server.address:
        yield "address", f'{sender} sends with this server\'s address, and its username is none; add address = "…"'
    if server.auth is not Auth.NONE and not server.username:
        yield "username", f'{sender} sends with this server\'s account; add username = "…", or auth = "none"'


def unnamed_servers(directory: Directory) -> Findings:
    """Yield a warning for each profile with an account of its own that leaves out at which server that is."""
    for profile in directory.profiles():
        if profile.override and profile.server is None and directory.default_server:
            message = (
                "it logs in with its own account, and the server is left out: with another default its password would "
                f'be for the wrong one, and its mail would stop; write server = "{directory.default_server}"'
            )
            yield f"{profile.kind}s.{profile.name}.server", message


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, so that nobody else reads what is said to it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _host(server: Server) -> Findings:
    if server.kind not in {Kind.SMTP, Kind.HTTPS} or (server.kind is Kind.HTTPS and server.api_url):
        return
    if not server.host:
        yield "host", "this key is needed; add it"
    else:
        yield from host_faults(server.host)


def _api(server: Server) -> Findings:
    """Yield what is wrong with a server that is reached by an API, and with what only such a one has."""
    if server.kind is Kind.SMTP:
        for key in ("api", "api_url"):
            if getattr(server, key):
                yield key, 'kind = "smtp" has a host and no API; remove it'
        return
    for key in ("host", "port", "security"):
        if getattr(server, key) != _SERVER_DEFAULTS[key] and (key, server.kind) != ("host", Kind.HTTPS):
            yield key, f'kind = "{server.kind}" is reached by the provider\'s API; remove it'
    if server.api_url and not _is_safe(server.api_url):
        yield "api_url", "the token and the mail go there; write a URL that begins with https://"
    yield from _http_api(server) if server.kind is Kind.HTTPS else _token_api(server)


def _http_api(server: Server) -> Findings:
    """Yield what is wrong with a server of kind https: which API it is, how we log in, and the region of SES."""
    if server.api not in HTTP_APIS:
        why = f"there is no API '{server.api}'" if server.api else "this key is needed"
        known = " or ".join(f'"{each}"' for each in HTTP_APIS)
        yield "api", not_possible(server.api) or f"{why}; set api = {known}"
    if server.auth is not Auth.AUTO:
        yield "auth", 'kind = "https" logs in by user name and password as the provider wants it; remove it'
    if server.host and server.api_url:
        yield "api_url", "host says where the API is already; keep one of the two"
    host = server.effective_host
    if server.api == "ses" and host and not region_of(host) and not is_loopback(host):
        yield (
            "api_url" if server.api_url else "host",
            "no region stands in it; write email.REGION.amazonaws.com with your region",
        )


def _token_api(server: Server) -> Findings:
    """Yield what is wrong with a server of kind msgraph or gmail."""
    if server.api:
        yield "api", f'kind = "{server.kind}" has one API; remove it'
    if server.auth is not Auth.OAUTH2:
        yield "auth", f'kind = "{server.kind}" logs in by OAuth alone; set auth = "oauth2"'
    if server.oauth is not None and server.oauth.provider not in {"custom", _PROVIDERS[server.kind]}:
        yield "oauth.provider", f'kind = "{server.kind}" takes tokens of "{_PROVIDERS[server.kind]}"'


def _senders(directory: Directory) -> dict[str, Profile]:
    """Return for each server the first profile that sends with the server's own account."""
    senders: dict[str, Profile] = {}
    for profile in directory.profiles():
        if not profile.override:
            senders.setdefault(profile.server or directory.default_server or "", profile)
    return senders


def host_faults(host: str) -> Findings:
    """Yield ("host", sentence) for what is neither a name nor an IP address."""
    if "://" in host:
        yield "host", "it is a URL; write the name alone, and the protection as security"
    elif host.startswith("["):
        yield "host", "write an IPv6 address without brackets"
    elif not _is_host(host):
        name, colon, port = host.partition(":")
        if colon and port.isdecimal() and is_host_name(name):
            yield "host", f'there is a port in it; write host = "{name}" and port = {port}'
        else:
            yield "host", f"{host!r} is no host; write a name or an IP address"


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return True
    try:
        return is_host_name(host) or (not host.isascii() and bool(domain_key(host)))
    except AddressError:
        return False


def _backup(server: Server, reading: Reading) -> Findings:
    """Yield what is wrong with the server that takes over: it is another one, for the same profiles, in no circle."""
    names, servers = reading.names["servers"], reading.directory.servers
    key = f"servers.{server.name}.backup"
    if not server.backup:
        return
    if server.backup == server.name:
        yield key, "it cannot take over from itself; name another server, or remove it"
    elif server.backup not in names:
        yield key, no_such("server", server.backup, names)
    elif server.backup in servers:
        if servers[server.backup].internal and not server.internal:
            which = f"server '{server.backup}' is internal, where no profile has its own account"
            yield key, f"{which}; name another, or set internal = true here, too"
        if _is_circle(server, servers):
            yield key, "the backups go round in a circle; remove one of them"


def _is_circle(server: Server, servers: Mapping[str, Server]) -> bool:
    """Whether the backups that follow a server come back to it."""
    seen = {server.name}
    following = servers.get(server.backup)
    while following is not None and following.name not in seen:
        seen.add(following.name)
        following = servers.get(following.backup)
    return following is server


def backup_warnings(directory: Directory) -> Findings:
    """Yield (key, sentence) for each backup by which mail would leave as somebody else: that waits."""
    senders = _senders(directory)
    for server in directory.servers.values():
        backup = directory.servers.get(server.backup)
        if backup is None or server.name not in senders:
            continue
        ours, theirs = server.identity, backup.identity
        if ours is not None and (theirs is None or theirs.key != ours.key):
            other = f"by '{backup.name}' it would leave as {theirs or 'nobody'}, so it waits instead"
            yield f"servers.{server.name}.backup", f"mail leaves as {ours}, and {other}; give both the same address"


def _address(server: Server) -> Findings:
    try:
        Address.parse(server.address or "a@b")
    except AddressError as error:
        yield "address", str(error)


def _login(server: Server) -> Findings:
    if server.auth is Auth.NONE and server.username:
        yield "username", 'auth = "none" logs in as nobody; remove username, or choose another auth'


def _plaintext(server: Server) -> Findings:
    if server.security is not Security.NONE or is_loopback(server.host):
        return
    if server.auth is Auth.OAUTH2:
        yield "auth", 'an access token never goes unprotected over the network; set security = "starttls" or "tls"'
    elif server.auth in _PLAINTEXT and not server.allow_plaintext_password:
        danger = f"'{server.auth}' may send the password unprotected over the network"
        yield "auth", f'{danger}; set security = "starttls" or "tls", or allow_plaintext_password = true'


def password_faults(place: str, entry: Server | Profile | Incoming) -> Findings:
    """Yield (key, sentence) where a password has no good source. The value is not shown: it may be the password."""
    if entry.password_from and not entry.password_from.startswith(_SOURCES):
        yield f"{place}.password_from", "it names no source; begin it with file:, env:, credential: or command:"
    if entry.password_from and entry.password:
        yield f"{place}.password", "password_from gives the password already; keep one of the two"


def incoming_faults(reading: Reading) -> Findings:
    """Yield (key, sentence) for everything that is wrong with a mailbox. The value of a secret is not shown."""
    directory = reading.directory
    for server in directory.servers.values():
        if server.incoming is not None:
            yield from _faults(f"servers.{server.name}.incoming", server.incoming)
            yield from _username(f"servers.{server.name}.incoming", server, server.incoming)
            for key, message in token_mailbox_faults(server, server, server.incoming):
                yield f"servers.{server.name}.incoming.{key}", message
    for profile in directory.profiles():
        if profile.incoming is not None:
            place = f"{profile.kind}s.{profile.name}.incoming"
            yield from _faults(place, profile.incoming)
            at = directory.servers.get(profile.server or directory.default_server or "")
            for key, message in token_mailbox_faults(at, profile, profile.incoming) if at is not None else ():
                yield f"{place}.{key}", message


def token_mailbox_faults(server: Server, entry: Server | Profile, incoming: Incoming) -> Findings:
    """Yield (key, sentence) for a mailbox that cannot be read with the token of the account that sends.

    SECURITY: a token goes to no host but those of the provider that gave it, or the server's own.
    """
    if incoming.auth != "oauth2":
        if incoming.protocol == "api":
            yield "auth", 'protocol = "api" logs in by OAuth alone; set auth = "oauth2"'
        return
    if server.auth is not Auth.OAUTH2 or server.oauth is None:
        yield "auth", f"server '{server.name}' logs in without OAuth, so there is no token; set a password instead"
    elif isinstance(entry, Profile) and not entry.override:
        yield "auth", f"its mail leaves with the account of server '{server.name}'; give that one the mailbox instead"
    elif incoming.protocol == "api":
        if server.kind is Kind.SMTP:
            yield "protocol", f"server '{server.name}' has no API; set imap or pop3"
        elif incoming.host.lower().rstrip(".") != server.effective_host:
            yield "host", f"the API of server '{server.name}' is at another; set host = \"{server.effective_host}\""
    elif server.kind is Kind.MSGRAPH:
        yield "protocol", 'tokens for Microsoft Graph are not taken by IMAP and POP3; set protocol = "api"'
    else:
        hosts = _TOKEN_HOSTS.get(server.oauth.provider) or {server.effective_host}
        if incoming.host.lower().rstrip(".") not in hosts:
            yield "host", f"a token of server '{server.name}' goes nowhere but to {' or '.join(sorted(hosts))}"
    for key in ("password", "password_from"):
        if getattr(incoming, key):
            yield key, 'auth = "oauth2" logs in without a password; remove it'


def _faults(place: str, incoming: Incoming) -> Findings:
    for key, message in host_faults(incoming.host):
        yield f"{place}.{key}", message
    if incoming.security == "none" and not is_loopback(incoming.host):
        danger = "the secret would go unprotected over the network"
        yield f"{place}.security", f'{danger}; set security = "tls" or "starttls"'
    yield from password_faults(place, incoming)
    if CONTROL.search(incoming.username):
        yield f"{place}.username", "a user name holds no control characters; write it on one line"


def _username(place: str, server: Server, incoming: Incoming) -> Findings:
    if not (incoming.username or server.username or server.address):
        yield f"{place}.username", 'the server has no username to take; add username = "…"'


def oauth_faults(reading: Reading) -> Findings:
    """Yield (key, sentence) for what is wrong with how the accounts of servers get their tokens."""
    for server in reading.directory.servers.values():
        place = f"servers.{server.name}"
        # What is malformed has its fault already, and was taken out of the server that we see.
        if not any(key == f"{place}.auth" or key.startswith(f"{place}.oauth") for key, _ in reading.faults):
            for key, message in _needed(server):
                yield f"{place}.{key}", message
        if server.oauth is not None:
            for key, message in _client_faults(server.oauth):
                yield f"{place}.oauth.{key}", message
    yield from _passwords(reading.directory)


def oauth_warnings(directory: Directory) -> Findings:
    """Yield (key, sentence) for each server that nobody can log in at before an app is registered there."""
    for server in directory.servers.values():
        if server.oauth is not None and not server.oauth.client_id:
            way = f"register an app there, and set its id: relay server set {server.name} oauth.client_id=ID"
            yield f"servers.{server.name}.oauth.client_id", f"there is none yet, so nobody can log in; {way}"


def _needed(server: Server) -> Findings:
    if server.auth is Auth.OAUTH2 and server.oauth is None:
        yield "oauth", 'auth = "oauth2" needs it: the provider, and the client_id of the app that you registered there'
    elif server.auth is not Auth.OAUTH2 and server.oauth is not None:
        yield "oauth", 'it counts for auth = "oauth2" alone; set that, or remove this table'


def _passwords(directory: Directory) -> Findings:
    """Without these a password in the file would be sent as if it were a token."""
    for server in directory.servers.values():
        if server.auth is Auth.OAUTH2 and server.password:
            yield f"servers.{server.name}.password", 'auth = "oauth2" logs in without a password; remove it'
    for profile in directory.profiles():
        at = directory.servers.get(profile.server or directory.default_server or "")
        if at is not None and at.auth is Auth.OAUTH2 and profile.override and profile.password:
            sentence = f"server '{at.name}' logs in without a password (auth = \"oauth2\"); remove it"
            yield f"{profile.kind}s.{profile.name}.password", sentence


def _client_faults(client: OAuthClient) -> Findings:
    for rule in (_client_id, _custom, _microsoft, _google, _key):
        yield from rule(client)


def _client_id(client: OAuthClient) -> Findings:
    if client.client_id and not client.client_id.strip():
        yield "client_id", "it is blank; write the id that the provider gave your app"


def _custom(client: OAuthClient) -> Findings:
    if client.provider != "custom":
        for key in _URLS:
            if getattr(client, key):
                yield key, f'{client.provider} has its own; remove it, or set provider = "custom"'
        return
    needed = {"code": "authorize_url", "device": "device_url"}.get(client.flow)
    for key in _URLS:
        url = getattr(client, key)
        if not url and key in {needed, "token_url"}:
            yield key, f'provider = "custom" with flow = "{client.flow}" needs it; write the URL'
        elif url and not _is_safe(url):
            yield key, "a secret is told there; write a URL that begins with https://"


def _microsoft(client: OAuthClient) -> Findings:
    if client.provider != "microsoft":
        if client.tenant:
            yield "tenant", "only Microsoft has tenants; remove it"
    elif client.tenant and not _TENANT.fullmatch(client.tenant):
        yield "tenant", "it is no tenant; write its id or one of its domains"
    elif client.client_id and client.flow == "client_credentials" and client.tenant in _NO_ORGANISATION:
        yield "tenant", 'flow = "client_credentials" needs it; write the id or a domain of your organisation'


def _google(client: OAuthClient) -> Findings:
    # developers.google.com/identity/protocols/oauth2/limited-input-device, "Allowed scopes": mail is none of them.
    if client.provider == "google" and client.flow == "device":
        yield "flow", 'Google gives devices no access to mail; set flow = "code"'
    # developers.google.com/identity/protocols/oauth2/service-account: applications sign an assertion there instead.
    if client.provider == "google" and client.flow == "client_credentials" and not client.key_file:
        yield "key_file", 'with flow = "client_credentials" Google wants a service account; name the file of its key'


def _key(client: OAuthClient) -> Findings:
    if client.key_file and client.flow != "client_credentials":
        yield "key_file", 'only an app that logs in as itself has it; remove it, or set flow = "client_credentials"'


def _is_safe(url: str) -> bool:
    """Whether a URL is one that nobody else reads along: https, or this machine itself."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or any(ord(sign) <= 32 for sign in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
