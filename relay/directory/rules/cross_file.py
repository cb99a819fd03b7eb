"""What must hold between relay.toml and directory.toml."""

from collections.abc import Iterator, Sequence

from relay.config.faults import Fault
from relay.config.schema import no_such
from relay.config.settings import Settings
from relay.directory.client import ANYONE
from relay.directory.model import Directory
from relay.directory.routing import UnknownSender
from relay.directory.rules.servers import needs_of
from relay.directory.rules.validation import Sendable


def check_together(
    settings: Settings, directory: Directory, *, settings_file: str = "relay.toml", directory_file: str = ""
) -> tuple[Fault, ...]:
    """Return the faults of two files that are each good by themselves; the file names are for the faults."""
    in_settings = [*_may_send_as(settings, directory), *_bounces(settings, directory)]
    faults = [Fault(settings_file, key, message) for key, message in in_settings]
    place = directory_file or settings.directory_name
    faults += [Fault(place, key, message) for key, message in _default_account(settings, directory)]
    return tuple(sorted(faults))


def warnings_together(settings: Settings, directory: Directory, settings_file: str = "relay.toml") -> tuple[Fault, ...]:
    """Return what is not good about two files that can be used together.

    A directory without a server yet is no fault, whatever the settings say: it is there to be filled.
    """
    if UnknownSender(settings.policy.unknown_sender) is UnknownSender.DEFAULT and directory.default_server is None:
        sentence = "'default' has no effect yet, because there is no server; add one: relay server add"
        return (Fault(settings_file, "policy.unknown_sender", sentence),)
    return ()


def _default_account(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    server = directory.servers.get(directory.default_server or "")
    if UnknownSender(settings.policy.unknown_sender) is UnknownSender.DEFAULT and server is not None:
        for key, message in needs_of(server, 'a sender that is nobody\'s (unknown_sender = "default")'):
            yield f"servers.{server.name}.{key}", message


def _bounces(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    for listener in settings.listeners:
        if listener.bounces and directory.profile(listener.bounces) is None:
            names = [profile.name for profile in directory.profiles()]
            yield f"listener.{listener.name}.bounces", no_such("channel or agent", listener.bounces, names)


def _may_send_as(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    rows: dict[str, Sequence[str]] = {}
    for listener in settings.listeners:
        key = f"listener.{listener.name}"
        rows[f"{key}.may_send_as"] = listener.may_send_as
        rows |= {f"{key}.users.{user}": names for user, names in listener.users.items()}
    if all(name == ANYONE for names in rows.values() for name in names):
        return  # nobody of a hundred thousand needs to be looked at
    sendable = Sendable.of(directory)
    for place, names in rows.items():
        yield from ((place, fault) for name in names if (fault := sendable.fault(name)))
