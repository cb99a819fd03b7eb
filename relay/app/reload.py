"""SIGHUP: the settings file is read again, and what may change does, without letting anybody go.

Each part that works by settings is told the new ones (`subscribe`), all of them in one step of the loop. A file with a
fault changes nothing: the settings before stay in effect, and the log, `relay status` and `systemctl status` say why.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from relay import log
from relay.config.changes import Merged, merged
from relay.config.faults import Fault, Faults
from relay.config.settings import Settings, load_settings
from relay.directory.live import LiveDirectory
from relay.directory.rules.cross_file import check_together
from relay.system import descriptors
from relay.system.interpreter import in_short_turns

if TYPE_CHECKING:
    from relay.listener.tls import LiveCertificate


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
            descriptors.allow(new.settings.limits.connections)
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
