"""SIGHUP: the settings file is read again, and what may change does, without letting anybody go.

`relay.config.settings` marks the keys that are read at the start alone; all others may change. Each part that works by
settings is told the new ones (`subscribe`), all of them in one step of the loop. A file with a fault changes nothing:
the settings before stay in effect, and the log, `relay status` and `systemctl status` say why.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from relay import log
from relay.config.faults import Fault, Faults
from relay.config.settings import LISTS, Listener, Settings, Tls, load_settings
from relay.config.types import NEEDS_RESTART
from relay.directory.live import LiveDirectory
from relay.directory.rules.validation import check_together
from relay.system.process import in_short_turns, raise_descriptor_limit

if TYPE_CHECKING:
    from relay.listener.tls import LiveCertificate


@dataclass(frozen=True, slots=True)
class Merged:
    """The settings that are in effect after a reload.

    `changed` are the keys that are others than before ("delivery.retry", "listener.local.auth"), `waiting` those that
    say something else in the file and need a restart; "listener.lan" is one that comes, or goes, as a whole.
    """

    settings: Settings
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def keys_for_restart(kind: type = Settings, prefix: str = "") -> Iterator[str]:
    """Yield the keys that need a restart, as etc/relay.toml writes them: "state_dir", "listener.address"."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if isinstance(hint, type) and is_dataclass(hint):
            yield from keys_for_restart(hint, f"{prefix}{field.name}.")
        elif field.name == "listeners":
            yield from keys_for_restart(Listener, "listener.")
        elif NEEDS_RESTART in getattr(hint, "__metadata__", ()):
            yield prefix + field.name


def merged(old: Settings, new: Settings) -> Merged:
    """Return the new settings with everything that needs a restart as it is in the old ones.

    A listener that is another address now, or goes, stays as it is as a whole: half of its new rules at the old address
    would be a third thing that nobody wrote. What it needs of [tls] stays with it.
    """
    changed: list[str] = []
    waiting: list[str] = []
    settings = _taken(old, new, "", changed, waiting)
    settings = replace(settings, listeners=tuple(_listeners(old, new, changed, waiting)))
    if settings.tls == Tls() and any(listener.security != "none" for listener in settings.listeners):
        keys = [key for key in changed if key.startswith("tls.")]
        changed = [key for key in changed if key not in keys]
        waiting += keys
        settings = replace(settings, tls=old.tls)
    return Merged(settings, tuple(changed), tuple(waiting))


def _taken(old: Any, new: Any, prefix: str, changed: list[str], waiting: list[str]) -> Any:
    """Return the old value with what may change of the new one, and take note of the keys."""
    fixed = set(keys_for_restart(type(old), prefix))
    values: dict[str, Any] = {}
    for field in fields(old):
        key, before, after = (
            prefix + LISTS.get(field.name, field.name),
            getattr(old, field.name),
            getattr(new, field.name),
        )
        if is_dataclass(before):
            values[field.name] = _taken(before, after, f"{key}.", changed, waiting)
        elif before != after and field.name != "listeners":
            (waiting if key in fixed else changed).append(key)
            values[field.name] = before if key in fixed else after
    return replace(old, **values)


def _listeners(old: Settings, new: Settings, changed: list[str], waiting: list[str]) -> Iterator[Listener]:
    by_name = {listener.name: listener for listener in new.listeners}
    for listener in old.listeners:
        after = by_name.pop(listener.name, None)
        key = f"listener.{listener.name}"
        if after is None:
            waiting.append(key)
            yield listener
        elif after.address != listener.address:
            _taken(listener, after, f"{key}.", waiting, waiting)
            yield listener
        else:
            yield _taken(listener, after, f"{key}.", changed, waiting)
    waiting += [f"listener.{name}" for name in by_name]


class LiveSettings:
    """The settings in effect in one process, and the certificate that they name. `file` None: there is no file to read.

    `read` reads it, and raises Faults.

    Where several processes do the same, one `is_telling` the log of it. `faults` say what is wrong with the file that
    was read last, `waiting` which of its keys need a restart.
    """

    def __init__(
        self,
        settings: Settings,
        file: Path | None,
        read: Callable[[Path], Settings] = load_settings,
        *,
        is_telling: bool = True,
    ) -> None:
        self.settings = settings
        self.faults: tuple[Fault, ...] = ()
        self.waiting: tuple[str, ...] = ()
        self.certificate: LiveCertificate | None = None
        self._file = file
        self._read = read
        self._is_telling = is_telling
        self._subscribers: list[Callable[[Settings], None]] = []
        self._turn = asyncio.Lock()

    @property
    def file(self) -> str:
        """How faults call the file."""
        return str(self._file or "relay.toml")

    def subscribe(self, take: Callable[[Settings], None]) -> None:
        """Call `take` with the new settings whenever they change."""
        self._subscribers.append(take)

    def open_certificate(self) -> "LiveCertificate | None":
        """Read the listeners' certificate at the start; None where the settings name none. Raises Faults."""
        self.certificate = self._certificate(self.settings)
        return self.certificate

    async def reload(self, directory: LiveDirectory) -> None:
        """Read both files now, and put into effect what is good and may change."""
        async with self._turn:
            await directory.refresh()  # what was written together is judged together
            has_changed = self._file is not None and await self._reload(self._file, directory)
            if has_changed:
                directory.settings = self.settings
            if self.certificate is not None:
                self.certificate.context()  # the log says now what the next client would find
            await directory.reload()

    async def _reload(self, file: Path, directory: LiveDirectory) -> bool:
        """Return whether anything changed."""
        try:
            new = merged(self.settings, await asyncio.to_thread(self._read, file))
            known = directory.routing().directory
            if faults := await in_short_turns(
                check_together,
                new.settings,
                known,
                settings_file=self.file,
                directory_file=new.settings.directory_name,
            ):
                raise Faults(faults)
            certificate = await asyncio.to_thread(self._certificate, new.settings)
        except Faults as error:
            self.faults = error.faults
            if self._is_telling:
                told = [str(fault) for fault in self.faults]
                log.broken("the settings have faults; the ones before stay in effect", faults=told)
            return False
        self.faults, self.waiting, self.certificate = (), new.waiting, certificate
        self._use(new)
        return bool(new.changed)

    def _use(self, new: Merged) -> None:
        """Tell everybody of the new settings, and the log what they are."""
        before, self.settings = self.settings, new.settings
        if new.settings.log != before.log:
            log.configure(new.settings.log.format, new.settings.log.level)
        if new.settings.limits.connections > before.limits.connections:
            raise_descriptor_limit(new.settings.limits.connections)
        if new.changed:
            for take in self._subscribers:
                take(new.settings)
        if new.changed and self._is_telling:
            log.changed(what="settings", file=self.file, keys=list(new.changed))
        if new.waiting and self._is_telling:
            log.warned("these settings need a restart to take effect", file=self.file, keys=list(new.waiting))

    def _certificate(self, settings: Settings) -> "LiveCertificate | None":
        """Return the certificate that settings name: the one in use, where it is still that. Raises Faults."""
        if not settings.tls.certificate:
            return None
        # Most relays have no certificate, and what reads one is large.
        from relay.config.certificate import CertificateFault, CertificateFiles  # noqa: PLC0415
        from relay.listener.tls import LiveCertificate  # noqa: PLC0415

        files = CertificateFiles.of(settings.tls)
        if files is None:
            return None
        if self.certificate is not None and settings.tls == self.settings.tls:
            return self.certificate
        try:
            certificate = LiveCertificate(files)
        except CertificateFault as fault:
            each = files.faults() or [fault]
            raise Faults(Fault(self.file, one.key, str(one)) for one in each) from None
        if self._is_telling:
            for _, warning in certificate.warnings:
                log.warned(warning)
        return certificate
