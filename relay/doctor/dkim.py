"""DKIM keys (RFC 6376 section 3.6.1): whether the key under a selector can prove anything to a receiver."""

import base64
import binascii
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

_ED25519_OCTETS = 32  # RFC 8463 section 4
_LEAST_BITS, _ENOUGH_BITS = 1024, 2048  # RFC 8301 section 3.2


@dataclass(frozen=True, slots=True)
class Key:
    """A key record. `fault`: why receivers cannot use it; `weakness`: why they may not like it; "" where all is well.

    `bits` is 0 for an Ed25519 key, and for one that cannot be read.
    """

    bits: int = 0
    fault: str = ""
    weakness: str = ""


def read_key(record: bytes) -> Key:
    """Return what a TXT record under NAME._domainkey says."""
    try:
        tags = tag_list(record.decode("ascii"))
    except ValueError as error:
        return Key(fault=f"it is no list of tags: {error}")
    version, kind, services = tags.get("v", "DKIM1"), tags.get("k", "rsa"), tags.get("s", "*")
    if version != "DKIM1":
        return Key(fault=f"its version is {version!r}, not DKIM1")
    if "p" not in tags:
        return Key(fault="it has no key (p=)")
    if not tags["p"]:
        return Key(fault="the key is revoked (p= is empty)")
    if "*" not in (each := [word.strip() for word in services.split(":")]) and "email" not in each:
        return Key(fault=f"it is not for mail (s={services})")
    if "sha256" not in [word.strip() for word in tags.get("h", "sha256").split(":")]:
        return Key(fault="it allows only hashes that receivers refuse; h= must name sha256")
    return _with_flags(_read_public_key(kind, tags["p"]), tags.get("t", ""))


def tag_list(text: str) -> dict[str, str]:
    """Return the tags of "a=1; b=2" (RFC 6376 section 3.2), in their order. Raises ValueError with what is wrong."""
    tags: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not name and not equals:
            continue  # after the last semicolon
        if not equals or not name:
            raise ValueError(f"{part.strip()[:40]!r} is not name=value")
        if name in tags:
            raise ValueError(f"{name}= stands in it twice")
        tags[name] = value
    return tags


def _read_public_key(kind: str, text: str) -> Key:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return Key(fault="the key is not in base64; it may be cut off")
    if kind == "ed25519":
        return Key() if len(data) == _ED25519_OCTETS else Key(fault="the Ed25519 key has not 32 octets")
    if kind != "rsa":
        return Key(fault=f"its kind is {kind!r}, not rsa or ed25519")
    try:
        key = load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return Key(fault="the key cannot be read; it may be cut off")
    if not isinstance(key, RSAPublicKey):
        return Key(fault="the key is no RSA key")
    bits = key.key_size
    if bits < _LEAST_BITS:
        return Key(bits, fault=f"the key has {bits} bits, and receivers take none below {_LEAST_BITS}")
    return Key(bits, weakness="" if bits >= _ENOUGH_BITS else f"the key has {bits} bits, {_ENOUGH_BITS} are usual now")


def _with_flags(key: Key, flags: str) -> Key:
    if not key.fault and "y" in [word.strip() for word in flags.split(":")]:
        return Key(key.bits, weakness="it is marked as a test (t=y), so that receivers may ignore the signature")
    return key
