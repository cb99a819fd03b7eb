"""Sealing: AES-256-GCM with the owner's name as associated data, so that a sealed secret opens for its owner only.

A sealed secret is one format byte, a random nonce of 12 bytes, and the ciphertext with its tag of 16 bytes
(NIST SP 800-38D). Random nonces are safe here: a store sees a few thousand secrets under one key, not 2**32.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay.secrets.master_key import MasterKey

_FORMAT = b"\x01"
_NONCE_BYTES = 12


class SealBroken(Exception):
    """A sealed secret does not open: another key, another owner, or changed bytes. AES-GCM does not tell which."""


def seal(key: MasterKey, owner: str, value: str) -> bytes:
    """Return the sealed form of a value for the store."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _FORMAT + nonce + AESGCM(key.sealing_key).encrypt(nonce, value.encode(), _bound_to(owner))


def unseal(key: MasterKey, owner: str, sealed: bytes) -> str:
    """Return the value in a sealed secret. Raises SealBroken."""
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    if sealed[:1] != _FORMAT or len(nonce) < _NONCE_BYTES:
        raise SealBroken("not in the format of a sealed secret")
    try:
        return AESGCM(key.sealing_key).decrypt(nonce, ciphertext, _bound_to(owner)).decode()
    except InvalidTag:
        raise SealBroken("another key, another owner, or changed bytes") from None


def _bound_to(owner: str) -> bytes:
    return b"relay secret\0" + owner.encode()
