"""Finds what a person named, or says what it may have been."""

from relay.config.schema import no_such
from relay.control.context import Parts
from relay.control.refused import NotFound, Refused
from relay.directory.model import Application, Profile, ProfileKind, Script, Server
from relay.mail.address import Address, AddressError


def read_address(text: str, key: str) -> Address:
    """Return the address that a parameter says. Raises Refused with its key."""
    try:
        return Address.parse(text)
    except AddressError as error:
        raise Refused(str(error), key=key) from None


def find_server(parts: Parts, name: str) -> Server:
    """Return a server of the directory in effect. Raises NotFound."""
    servers = parts.directory.routing().directory.servers
    if name not in servers:
        raise NotFound(no_such("server", name, servers))
    return servers[name]


def find_profile(parts: Parts, kind: ProfileKind, name: str) -> Profile:
    """Return a channel or agent of the directory in effect. Raises NotFound."""
    directory = parts.directory.routing().directory
    profile = directory.profile(name)
    if profile is not None and profile.kind is kind:
        return profile
    if profile is not None:
        raise NotFound(f"'{name}' is no {kind}; it is one of the {profile.kind}s")
    known = directory.channels if kind is ProfileKind.CHANNEL else directory.agents
    raise NotFound(no_such(kind.value, name, known))


def find_application(parts: Parts, name: str) -> Application:
    """Return an application of the directory in effect. Raises NotFound."""
    applications = parts.directory.routing().directory.applications
    if name not in applications:
        raise NotFound(no_such("application", name, applications))
    return applications[name]


def find_script(parts: Parts, name: str) -> Script:
    """Return a script of the directory in effect. Raises NotFound."""
    scripts = parts.directory.routing().directory.scripts
    if name not in scripts:
        raise NotFound(no_such("script", name, scripts))
    return scripts[name]
