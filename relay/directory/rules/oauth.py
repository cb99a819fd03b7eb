"""What must hold for a server whose accounts log in by OAuth, and for the client that asks for their tokens."""

import ipaddress
import re
from collections.abc import Iterator
from typing import TypeAlias
from urllib.parse import urlsplit

from relay.directory.model import Auth, Directory, OAuthClient, Server
from relay.directory.reading import Reading

Findings: TypeAlias = Iterator[tuple[str, str]]

_URLS = ("authorize_url", "token_url", "device_url")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
# Names that stand for whoever logs in. An application that logs in as itself has one organisation.
_NO_ORGANISATION = frozenset({"", "common", "organizations", "consumers"})


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
    for rule in (_client_id, _custom, _microsoft, _google):
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
    elif client.flow == "client_credentials" and client.tenant in _NO_ORGANISATION:
        yield "tenant", 'flow = "client_credentials" needs it; write the id or a domain of your organisation'


def _google(client: OAuthClient) -> Findings:
    # developers.google.com/identity/protocols/oauth2/limited-input-device, "Allowed scopes": mail is none of them.
    if client.provider == "google" and client.flow == "device":
        yield "flow", 'Google gives devices no access to mail; set flow = "code"'
    # developers.google.com/identity/protocols/oauth2/service-account: applications sign an assertion there instead.
    if client.provider == "google" and client.flow == "client_credentials":
        yield "flow", 'Google does not know client credentials; set flow = "code", or use its SMTP relay without OAuth'


def _is_safe(url: str) -> bool:
    """Whether a URL is one that nobody else reads along: https, or this machine itself."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or any(ord(sign) <= 32 for sign in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
