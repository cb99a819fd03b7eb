"""The certificate in effect: read anew when its files change, for whoever connects from then on."""

import ssl
from datetime import datetime

from relay import log
from relay.config.certificate import CertificateFault, CertificateFiles


class LiveCertificate:
    """What TLS begins with at the listeners. Raises CertificateFault where the pair cannot be used at the start."""

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._mark = files.mark
        self._loaded = files.load()

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """What a person should know of the pair in effect, as (key, sentence)."""
        return self._loaded.warnings

    @property
    def expires(self) -> datetime:
        """When the pair in effect expires."""
        return self._loaded.expires

    def context(self) -> ssl.SSLContext:
        """Return the pair as the files hold it now, or the last good one; the log hears of each change once."""
        self._look()
        return self._loaded.context

    def old_context(self) -> ssl.SSLContext:
        """Return the same for clients that know nothing later than TLS 1.0."""
        self._look()
        return self._loaded.old_context

    def _look(self) -> None:
        mark = self._files.mark
        if mark != self._mark:
            self._mark = mark
            self._reload()

    def _reload(self) -> None:
        try:
            self._loaded = self._files.load()
        except CertificateFault as fault:
            log.broken("the new certificate cannot be used; the one before stays in effect", fault=str(fault))
            return
        log.changed(what="certificate", file=str(self._files.certificate))
        for _, warning in self.warnings:
            log.warned(warning)
