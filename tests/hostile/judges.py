"""Whose address a message bears, in the eyes of three parsers that do not read alike.

Two are Python's: compat32 and policy.default also take a bare CR or LF for a line end. The third knows CRLF alone, and
takes everything that looks like an address for one, in names, comments and encoded words too.
"""

import re
from collections.abc import Callable, Mapping
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses
from types import MappingProxyType

_LIKE_AN_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"\\@]+@[^\s<>()\[\],;:\"\\@]+")
_WORD = re.compile(r"=\?[^?\s]+\?[bBqQ]\?[^?]*\?=")


def by_crlf(message: bytes, key: str) -> list[set[str]]:
    """For each field of this name, everything in it that looks like an address."""
    fields: list[tuple[bytes, bytes]] = []
    for line in message.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line[:1] in {b" ", b"\t"} and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + line)
        else:
            name, _, value = line.partition(b":")
            fields.append((name.strip().lower(), value))
    texts = [value.decode("utf-8", "replace") for name, value in fields if name == key.encode()]
    return [set(map(str.lower, _LIKE_AN_ADDRESS.findall(_WORD.sub(_decoded, text)))) for text in texts]


def by_compat32(message: bytes, key: str) -> list[set[str]]:
    """The addresses that most of Python's users see."""
    parsed: Message = message_from_bytes(message, policy=policy.compat32)
    return [
        {address.lower() for _, address in getaddresses([str(value)]) if address} for value in parsed.get_all(key, [])
    ]


def by_default(message: bytes, key: str) -> list[set[str]]:
    """The addresses that Python's newer parser sees; a value that it cannot read is itself one."""
    parsed = message_from_bytes(message, policy=policy.default)
    return [
        {address.addr_spec.lower() for address in field.addresses} or {str(field)} for field in parsed.get_all(key, [])
    ]


def _decoded(word: re.Match[str]) -> str:
    return str(make_header(decode_header(word[0])))


JUDGES: Mapping[str, Callable[[bytes, str], list[set[str]]]] = MappingProxyType(
    {"CRLF": by_crlf, "compat32": by_compat32, "default": by_default}
)
