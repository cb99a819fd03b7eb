"""What must hold between relay.toml and directory.toml."""

from collections.abc import Iterator

from relay.directory.client import ANYONE, GROUP
from relay.directory.model import Directory, UnknownSender
from relay.directory.rules import no_such
from relay.directory.server_rules import needs_of
from relay.faults import Fault
from relay.settings import Settings


def check_together(
    settings: Settings, directory: Directory, *, settings_file: str = "relay.toml", directory_file: str = ""
) -> tuple[Fault, ...]:
    """Return the faults of two files that are each good by themselves; the file names are for the faults."""
    in_settings = [*_unknown_sender(settings, directory), *_may_send_as(settings, directory)]
    faults = [Fault(settings_file, key, message) for key, message in in_settings]
    place = directory_file or str(settings.directory_path)
    faults += [Fault(place, key, message) for key, message in _default_account(settings, directory)]
    return tuple(sorted(faults))


def _unknown_sender(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    if UnknownSender(settings.policy.unknown_sender) is UnknownSender.DEFAULT and directory.default_server is None:
        yield "policy.unknown_sender", "'default' needs a default server, and there is no server; add one"


def _default_account(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    server = directory.servers.get(directory.default_server or "")
    if UnknownSender(settings.policy.unknown_sender) is UnknownSender.DEFAULT and server is not None:
        for key, message in needs_of(server, 'a sender that is nobody\'s (unknown_sender = "default")'):
            yield f"servers.{server.name}.{key}", message


def _may_send_as(settings: Settings, directory: Directory) -> Iterator[tuple[str, str]]:
    groups = {agent.group for agent in directory.agents.values() if agent.group}
    profiles = [profile.name for profile in directory.profiles()]
    for listener in settings.listeners:
        key = f"listener.{listener.name}.may_send_as"
        for name in listener.may_send_as:
            if name.startswith(GROUP):
                if name.removeprefix(GROUP) not in groups:
                    yield key, no_such("group", name.removeprefix(GROUP), groups)
            elif name != ANYONE and name not in profiles:
                yield key, no_such("channel or agent", name, profiles)
