"""The certificate of the listeners and its key: two PEM files, and everything that can be wrong with them.

`relay check`, the start of the service and the reload at work say the same sentences.
"""

import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates

from relay.config.faults import Fault
from relay.config.settings import Tls
from relay.system.files import read_regular_file

_SOON = timedelta(days=14)
_NOWHERE = Path()  # of a file that the settings do not name


class LoadedCertificate(NamedTuple):
    """A pair that can be used: the server's side of TLS with it, when it expires, and warnings as (key, sentence).

    `old_context` takes TLS 1.0 and 1.1, too: for a listener with `devices`.
    """

    context: ssl.SSLContext
    old_context: ssl.SSLContext
    expires: datetime
    warnings: tuple[tuple[str, str], ...]


class CertificateFault(Exception):
    """The pair cannot be used. `key` is the setting that names the file at fault; the message is one sentence."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the pair is: the server's certificate with its chain behind it, and the private key."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, tls: Tls) -> Self | None:
        """Return the files that the settings name; None where they name none."""
        return cls(Path(tls.certificate), Path(tls.key)) if tls.certificate and tls.key else None

    @property
    def mark(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file is another: its number, size and time (zeros where there is none)."""
        return tuple(_mark(path) for path in (self.certificate, self.key))

    def load(self) -> LoadedCertificate:
        """Read the pair. Raises CertificateFault."""
        certificate = self._own_certificate()
        private_key = self._private_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if certificate.public_key().public_bytes(*form) != private_key.public_key().public_bytes(*form):
            # OpenSSL takes the first certificate of the file for the server's own.
            message = (
                f"this key does not belong to the first certificate in {self.certificate}; name the two of one pair"
            )
            raise CertificateFault("tls.key", message)
        old = self._context()
        # Not TLSv1 by its name: Python warns of that, and OpenSSL has nothing older any more (ssl.OP_NO_SSLv3 is set).
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        # OpenSSL 3 takes no TLS before 1.2 at another level: its signatures are made over SHA-1.
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        warnings = tuple(self._warnings(certificate))
        return LoadedCertificate(self._context(), old, certificate.not_valid_after_utc, warnings)

    def faults(self) -> list[CertificateFault]:
        """Return what is wrong with each file by itself; one that is not named is left out."""
        found = []
        for path, look in ((self.certificate, self._own_certificate), (self.key, self._private_key)):
            try:
                if path != _NOWHERE:
                    look()
            except CertificateFault as fault:
                found.append(fault)
        return found

    def _own_certificate(self) -> Certificate:
        try:
            return load_pem_x509_certificates(_read("tls.certificate", self.certificate))[0]
        except (ValueError, UnsupportedAlgorithm):
            message = f"{self.certificate} holds no PEM certificate; it begins with -----BEGIN CERTIFICATE-----"
            raise CertificateFault("tls.certificate", message) from None

    def _private_key(self) -> PrivateKeyTypes:
        content = _read("tls.key", self.key)
        try:
            return load_pem_private_key(content, password=None)
        except TypeError:
            message = f"the key in {self.key} has a password; take it off: openssl pkey -in KEY -out NEWKEY"
        except (ValueError, UnsupportedAlgorithm):
            message = f"{self.key} holds no PEM private key; it begins with -----BEGIN PRIVATE KEY-----"
        raise CertificateFault("tls.key", message)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        try:
            # The empty password keeps OpenSSL from asking for one at a terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            message = f"OpenSSL does not take {self.certificate} with {self.key}: {reason}"
            raise CertificateFault("tls.certificate", message) from None
        return context

    def _warnings(self, certificate: Certificate) -> Iterator[tuple[str, str]]:
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        day = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        if left < timedelta(0):
            yield "tls.certificate", f"the certificate in {self.certificate} has expired on {day}; replace it"
        elif left < _SOON:
            yield "tls.certificate", f"the certificate in {self.certificate} expires on {day}; replace it"
        if stat.S_IMODE(self.key.stat().st_mode) & stat.S_IRWXO:
            yield "tls.key", f"every user of this machine may open {self.key}; run: chmod o-rwx {self.key}"


def check_certificate(tls: Tls, settings_file: str) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
    """Return the faults and the warnings of the pair that the settings name; the file name is for both."""
    files = CertificateFiles(Path(tls.certificate), Path(tls.key))
    if (faults := files.faults()) or not (tls.certificate and tls.key):
        return tuple(Fault(settings_file, one.key, str(one)) for one in faults), ()
    try:
        warnings = files.load().warnings
    except CertificateFault as fault:  # each is good by itself
        return (Fault(settings_file, fault.key, str(fault)),), ()
    return (), tuple(Fault(settings_file, key, message) for key, message in warnings)


def _read(key: str, path: Path) -> bytes:
    try:
        return read_regular_file(path)
    except FileNotFoundError:
        message = f"there is no file {path}"
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
    raise CertificateFault(key, message)


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)
