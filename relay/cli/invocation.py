"""What the commands share: which settings are meant, and the way to the operations.

A running relay is asked over its control socket, because it may be the only one that has the master key; without one
the store is opened here.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from relay.config.machine import SYSTEM_RUNTIME, SYSTEM_SETTINGS, find_settings_file
from relay.control.refused import Refused
from relay.control.transport.client import ControlClient, NoRelay
from relay.system.process import loading

if TYPE_CHECKING:
    from relay.config.settings import Settings


_COMMAND = re.compile(r"(: |\bsee )(relay [a-z]+\b.*)$", re.MULTILINE)


class WrongUsage(Exception):
    """The command line cannot be meant so. The message says what to write instead."""


@dataclass
class Invocation:
    """One run of the command line. `config` is what `--config` says."""

    config: Path | None = None
    _is_local: bool = field(default=False, init=False)

    @cached_property
    def settings_file(self) -> Path | None:
        """The settings file that counts, None where there is none."""
        return find_settings_file(self.config)

    @property
    def settings_name(self) -> str:
        """How faults call the settings file."""
        return str(self.settings_file or "relay.toml")

    @cached_property
    def settings(self) -> "Settings":
        """The settings. Raises Faults."""
        from relay.config.settings import load_settings

        return load_settings(self.settings_file)

    def hint(self, command: str) -> str:
        """Return a command to go on with, which means the same settings file as this one."""
        return f"{command} --config {quote(str(self.config))}" if self.config is not None else command

    def told(self, sentence: str) -> str:
        """Return what the operations said, with our `--config` in the commands that it says to go on with.

        Such a command ends a line, behind a colon or "see": they know nothing of how we were called.
        """
        return _COMMAND.sub(lambda found: found[1] + self.hint(found[2]), sentence)

    @property
    def client(self) -> ControlClient:
        """The way to a running relay."""
        return ControlClient(self.settings.control_socket, self.settings.state_dir)

    @property
    def service_socket(self) -> Path | None:
        """The control socket of this machine's service, where we mean that one and may not ask it.

        Who names settings, has some of the own, or has begun a relay of the own means that one.
        """
        names_another = self.settings_file not in {None, SYSTEM_SETTINGS}
        socket = SYSTEM_RUNTIME / "control.sock"
        if names_another or socket == self.settings.control_socket or self._has_begun:
            return None
        try:
            return socket if stat.S_ISSOCK(socket.stat().st_mode) else None
        except PermissionError:
            return socket
        except OSError:
            return None

    @property
    def _has_begun(self) -> bool:
        """Whether there is a directory where our settings keep it, and it is no file that others have there."""
        settings = self.settings
        is_apart = settings.is_directory_stored or not settings.directory_path.is_relative_to(settings.state_dir)
        kept = settings.database_path if is_apart else settings.directory_path
        return kept is not None and os.path.exists(kept)  # noqa: PTH110 - False where we may not look

    def refuse_beside_service(self) -> None:
        """Raise Refused where no relay of ours runs, but the one that is meant may: what we opened would mislead."""
        if (socket := self.service_socket) is not None:
            raise Refused(
                f"a relay may run as the service of this machine ({socket}), and only root and its owner may ask; "
                "try again with sudo, or name the settings of your own relay: --config FILE"
            )

    def run(self, name: str, /, **params: Any) -> Any:
        """Return the JSON of an operation's result, done by the running relay or here. Raises Refused.

        `relay.control.json_values.from_json` reads it.
        """
        if not self._is_local:
            try:
                return self.client.run(name, params)
            except NoRelay:
                self.refuse_beside_service()
                self._is_local = True
        with loading():
            from relay.cli.local import run_here

        return run_here(self.settings, self.settings_name, name, params)

    def watch(self, name: str, tell: Callable[[Any], None], /, **params: Any) -> None:
        """Pass on what an operation of the running relay says for ever. Raises Refused, also where none runs."""
        try:
            for item in self.client.stream(name, params):
                tell(item)
        except NoRelay:
            self.refuse_beside_service()
            raise Refused("no relay is running, so nothing comes; start it with: relay serve") from None
        raise Refused("the relay has ended, so nothing comes any more")

    def stream(self, name: str, tell: Callable[[Any], None], /, **params: Any) -> None:
        """Pass on what an operation says while it goes on. Raises Refused."""
        try:
            for item in self.client.stream(name, params):
                tell(item)
        except NoRelay:
            self.refuse_beside_service()
            with loading():
                from relay.cli.local import stream_here

            stream_here(self.settings, self.settings_name, name, params, tell)
