"""DKIM: whether receivers find the key that proves the provider's signatures, and whether it can prove anything.

Keys are those of RFC 6376 section 3.6.1.
"""

import asyncio
import base64
import binascii
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from relay.doctor.dns import Dns
from relay.doctor.finding import Check, CheckResult, Finding, bad, good, warn
from relay.doctor.providers import COMMON_SELECTORS, Outlet

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
        return Key(fault=f"it is not a list of tags: {error}")
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


@dataclass(frozen=True, slots=True)
class _Found:
    """A key and the name at which it stands."""

    name: str
    key: Key


async def check_dkim(dns: Dns, outlet: Outlet) -> CheckResult:
    """Return what is found about DKIM keys for mail that leaves an outlet. Raises Unanswered."""
    domains = list(dict.fromkeys(filter(None, (outlet.domain, outlet.account_domain))))
    for domain in domains:
        found = await _keys(dns, outlet, domain)
        if found:
            return _judge(found, domain, outlet)
    return _no_key(outlet)


async def _keys(dns: Dns, outlet: Outlet, domain: str) -> list[_Found]:
    names = [f"{selector}._domainkey.{domain}" for selector in _selectors(outlet)]
    answers = await asyncio.gather(*(dns.txt(name) for name in names))
    return [_Found(name, _key(texts)) for name, texts in zip(names, answers, strict=True) if texts]


def _selectors(outlet: Outlet) -> tuple[str, ...]:
    if outlet.selectors:
        return outlet.selectors
    return outlet.provider.selectors if outlet.provider and outlet.provider.selectors else COMMON_SELECTORS


def _key(texts: tuple[bytes, ...]) -> Key:
    if len(texts) > 1:  # RFC 6376 section 3.6.2.2
        return Key(fault=f"{len(texts)} records stand there, and receivers may take any of them")
    return read_key(texts[0])


def _judge(found: list[_Found], domain: str, outlet: Outlet) -> CheckResult:
    """Judge by the best key: the others may be there for the time when the provider changes keys."""
    best = min(found, key=lambda each: (bool(each.key.fault), bool(each.key.weakness)))
    return CheckResult((_finding(best, domain, outlet),), not best.key.fault, domain)


def _finding(found: _Found, domain: str, outlet: Outlet) -> Finding:
    key = found.key
    if key.fault:
        fix = "copy the record again from where the key was made, or make a new key there"
        return bad(Check.DKIM, f"receivers cannot use the DKIM key at {found.name}: {key.fault}", fix)
    if key.weakness:
        fix = "make a new key of 2048 bits there, and publish it" if key.bits < 2048 else "take t=y out of the record"
        return warn(Check.DKIM, f"the DKIM key at {found.name}: {key.weakness}", fix)
    why = f"a DKIM key of {key.bits or 256} bits stands at {found.name}"
    return good(Check.DKIM, why if domain == outlet.domain else f"{why}, and none for {outlet.domain} itself")


def _no_key(outlet: Outlet) -> CheckResult:
    provider, domain = outlet.provider, outlet.domain
    selectors = _selectors(outlet)
    if outlet.selectors or (provider and provider.selectors):
        where = " or ".join(f"{selector}._domainkey.{domain}" for selector in selectors)
        why = f"there is no DKIM key at {where}, so {outlet.who} cannot sign for {domain}"
        setup = f" {provider.dkim_setup}" if provider and provider.dkim_setup else " at the server"
        return CheckResult(
            (bad(Check.DKIM, why, f"make a key{setup}, and publish the record that it shows"),), False, domain
        )
    why = (
        f"the selector under which {outlet.who} keeps its DKIM key cannot be known, and none of the usual ones has one"
    )
    fix = "look at a message that arrived: name the s= of its DKIM-Signature as --selector"
    if provider and provider.dkim_setup:
        fix += f"; keys are made {provider.dkim_setup}"
    return CheckResult((warn(Check.DKIM, why, fix),), None, domain)
