"""The key of an OAuth client that signs for itself instead of telling a secret (RFC 7521, RFC 7523).

A PEM file with a private key and its certificate is an app's of Microsoft, which knows the certificate by its SHA-256
(learn.microsoft.com/entra/identity-platform/certificate-credentials). A JSON file is a service account's of Google,
which acts for a user of the domain that it was given (developers.google.com/identity/protocols/oauth2/service-account).

SECURITY: nothing of the file is in an error, and all that leaves is a signature that is good for some minutes.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2.rfc7523.assertion import sign_jwt_bearer_assertion
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from joserfc.jwk import RSAKey

from relay.secrets.oauth.identity_provider import TokenRefused
from relay.system.files import in_file_thread, read_regular_file

_SECONDS = 600
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_KINDS = "the PEM of a certificate and its RSA key, or the JSON of a service account"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A private key in PEM, how it is known to the provider, and for a service account its address (`issuer`)."""

    pem: bytes = field(repr=False)
    header: Mapping[str, str]
    issuer: str = ""

    @property
    def is_account(self) -> bool:
        """Whether it is of an account that acts for others, and not of the app that asks."""
        return bool(self.issuer)

    def told(self, client_id: str, url: str, scope: str, username: str) -> dict[str, str]:
        """Return what is told to a token endpoint. A service account asks for `username`."""
        if self.issuer:
            signed = self._signed(self.issuer, url, subject=username, claims={"scope": scope})
            return {"grant_type": _BEARER, "assertion": signed}
        signed = self._signed(client_id, url, subject=client_id, claims={})
        told = {"grant_type": "client_credentials", "client_id": client_id, "scope": scope}
        return {**told, "client_assertion_type": _ASSERTION, "client_assertion": signed}

    def _signed(self, issuer: str, url: str, *, subject: str, claims: dict[str, Any]) -> str:
        header, alg = dict(self.header), self.header["alg"]
        text = sign_jwt_bearer_assertion(
            RSAKey.import_key(self.pem),
            issuer,
            url,
            subject,
            expires_in=_SECONDS,
            claims=claims,
            header=header,
            alg=alg,
        )
        return str(text)


async def own_key(path: str) -> OwnKey:
    """Return the key in a file. Raises TokenRefused."""
    try:
        octets = await in_file_thread(read_regular_file, path)
    except OSError as error:
        raise TokenRefused(f"the key_file {path} cannot be read: {error.strerror or error}") from None
    try:
        return _of_account(octets) if octets.lstrip()[:1] == b"{" else _of_app(octets)
    # From None: what these say may show the key.
    except (ValueError, TypeError, KeyError, AttributeError):
        raise TokenRefused(f"the key_file {path} is not {_KINDS}") from None


def _of_account(octets: bytes) -> OwnKey:
    said = json.loads(octets)
    pem, issuer, number = said["private_key"].encode(), said["client_email"], said["private_key_id"]
    serialization.load_pem_private_key(pem, password=None)
    if not isinstance(issuer, str) or not issuer:
        raise ValueError
    return OwnKey(pem, {"alg": "RS256", "typ": "JWT", "kid": str(number)}, issuer)


def _of_app(octets: bytes) -> OwnKey:
    certificate = x509.load_pem_x509_certificate(octets)
    key = serialization.load_pem_private_key(octets, password=None)
    if key.public_key() != certificate.public_key():
        raise ValueError
    print_ = urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).decode().rstrip("=")
    return OwnKey(_pem(key), {"alg": "PS256", "typ": "JWT", "x5t#S256": print_})


def _pem(key: Any) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return pem
