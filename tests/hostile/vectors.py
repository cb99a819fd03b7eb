"""The forgeries: header blocks that make some program show an address that the sender may not use.

The kinds are those of "Composition Kills" (USENIX Security 2020) and "Weak Links" (arXiv 2011.08420). `forged` puts
the addresses in place of the braces.
"""

from base64 import b64encode
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What a vector is, which says what becomes of it (DESIGN section 2, "Identity, in full")."""

    OWN = "own"  # readable, and the address is the sender's own: it leaves, without what is forged around it
    OTHER = "other"  # readable, and the address is the victim's: refused or aligned, as the login may
    UNREADABLE = "unreadable"  # no plain mailbox in a clear header block: aligned, or refused with "reject"
    AMBIGUOUS = "ambiguous"  # two programs could read different header blocks: always refused


VECTORS: Mapping[str, tuple[Kind, bytes]] = MappingProxyType(
    {
        # One mailbox, and it is the victim's.
        "plain": (Kind.OTHER, b"From: {victim}"),
        "own address as the name": (Kind.OTHER, b'From: "{own}" <{victim}>'),
        "own address in a comment": (Kind.OTHER, b"From: {victim} ({own})"),
        "own address in a comment before": (Kind.OTHER, b"From: ({own}) {victim}"),
        "quoted local part": (Kind.OTHER, b"From: <{victim}> (Jane)"),
        "upper-case field name": (Kind.OTHER, b"FROM: {victim}"),
        "folded value": (Kind.OTHER, b"From:\r\n {victim}"),
        "folded at the name": (Kind.OTHER, b"From: Jane\r\n\t<{victim}>"),
        "no name, comments within": (Kind.OTHER, b"From: Jane <(a){victim}(b)>"),
        "capitals": (Kind.OTHER, b"From: {upper}"),
        "a plus tag": (Kind.OTHER, b"From: {local}+x@{domain}"),
        "wide letters in the domain": (Kind.OTHER, b"From: {local}@{wide}"),
        "a space of no width": (Kind.OTHER, "From: {local}\N{ZERO WIDTH SPACE}@{domain}".encode()),
        "no From, Sender alone": (Kind.OWN, b"Sender: {victim}"),
        "Sender beside From": (Kind.OWN, b"Sender: {victim}\r\nFrom: {own}"),
        "two Sender fields": (Kind.OWN, b"Sender: {own}\r\nSender: {victim}\r\nFrom: {own}"),
        "folded Sender": (Kind.OWN, b"Sender:\r\n {victim}\r\nFrom: {own}"),
        "Sender with several": (Kind.OWN, b"Sender: {own}, {victim}\r\nFrom: {own}"),
        "Sender group": (Kind.OWN, b"Sender: {victim}: {own};\r\nFrom: {own}"),
        "Sender with a name": (Kind.OWN, b'Sender: "{victim}" <{own}>\r\nFrom: {own}'),
        "Resent-From": (Kind.OWN, b"Resent-From: {victim}\r\nResent-Sender: {victim}\r\nFrom: {own}"),
        "Return-Path": (Kind.OWN, b"Return-Path: <{victim}>\r\nFrom: {own}"),
        # One mailbox of the own, and the forged address around it.
        "address as the name": (Kind.OWN, b'From: "{victim}" <{own}>'),
        "address as an encoded name": (Kind.OWN, b"From: =?utf-8?q?{quoted}?= <{own}>"),
        "address as a name in base64": (Kind.OWN, b"From: =?utf-8?b?{base64}?= <{own}>"),
        "address as two encoded words": (Kind.OWN, b"From: =?utf-8?q?{local}?= =?utf-8?q?=40{domain}?= <{own}>"),
        "address as encoded words in quotes": (Kind.OWN, b'From: "=?utf-8?q?{quoted}?=" <{own}>'),
        "address as a name with brackets": (Kind.OWN, b'From: "Boss <{victim}>" <{own}>'),
        "address as a name with escapes": (Kind.OWN, b'From: "{escaped}" <{own}>'),
        "address in a comment": (Kind.OWN, b"From: {own} ({victim})"),
        "address in a nested comment": (Kind.OWN, b"From: {own} (a ({victim}) b)"),
        "address behind an encoded line end": (Kind.OWN, b"From: =?utf-8?q?a=0D=0AFrom=3A_{quoted}?= <{own}>"),
        "address behind an encoded NUL": (Kind.OWN, b"From: =?utf-8?q?a=00_{quoted}?= <{own}>"),
        "address in a name of UTF-8": (Kind.OWN, 'From: Jürgen "{victim}" <{own}>'.encode()),
        # A clear header block whose From is no single plain mailbox.
        "two From fields": (Kind.UNREADABLE, b"From: {own}\r\nFrom: {victim}"),
        "two From fields, the other way": (Kind.UNREADABLE, b"From: {victim}\r\nFrom: {own}"),
        "two From fields in two cases": (Kind.UNREADABLE, b"From: {own}\r\nfROM: {victim}"),
        "two From fields apart": (Kind.UNREADABLE, b"From: {own}\r\nX: 1\r\nTo: a@b.example\r\nFrom: {victim}"),
        "an empty From first": (Kind.UNREADABLE, b"From:\r\nFrom: {victim}"),
        "several mailboxes": (Kind.UNREADABLE, b"From: {own}, {victim}"),
        "several mailboxes in brackets": (Kind.UNREADABLE, b"From: <{own}>, <{victim}>"),
        "several mailboxes and Sender": (Kind.UNREADABLE, b"From: {victim}, {own}\r\nSender: {own}"),
        "several mailboxes over lines": (Kind.UNREADABLE, b"From: {own},\r\n {victim}"),
        "an empty mailbox between": (Kind.UNREADABLE, b"From: ,,{own},,{victim}"),
        "a semicolon": (Kind.UNREADABLE, b"From: {own}; {victim}"),
        "no separator": (Kind.UNREADABLE, b"From: <{own}><{victim}>"),
        "a blank separator": (Kind.UNREADABLE, b"From: {own} {victim}"),
        "a bare address before brackets": (Kind.UNREADABLE, b"From: {victim} <{own}>"),
        "a bare address behind brackets": (Kind.UNREADABLE, b"From: <{own}> {victim}"),
        "brackets in brackets": (Kind.UNREADABLE, b"From: <{victim}<{own}>>"),
        "brackets in the name": (Kind.UNREADABLE, b"From: Boss<{victim}>Jane <{own}>"),
        "a group": (Kind.UNREADABLE, b"From: Team: {victim};"),
        "a group named as the victim": (Kind.UNREADABLE, b"From: {victim}: {own};"),
        "a group of two": (Kind.UNREADABLE, b"From: Team: {own}, {victim};"),
        "a group and a mailbox": (Kind.UNREADABLE, b"From: Team:;, {victim}"),
        "a raw address in an encoded word": (Kind.UNREADABLE, b"From: =?utf-8?q?{victim}?= <{own}>"),
        "an encoded word as the address": (Kind.UNREADABLE, b"From: =?utf-8?q?{victim}?="),
        "an encoded word in the address": (Kind.UNREADABLE, b"From: <=?utf-8?q?boss?=@corp.example>"),
        "an encoded word with an end of its own": (Kind.UNREADABLE, b"From: =?utf-8?q?{victim}=3E?=@acmejets.example"),
        "an encoded word as the local part": (Kind.UNREADABLE, b"From: =?utf-8?q?a=40b?=@acmejets.example"),
        "a source route": (Kind.UNREADABLE, b"From: <@corp.example:{own}>"),
        "a source route of two": (Kind.UNREADABLE, b"From: <@a.example,@corp.example:{victim}>"),
        "an unclosed comment": (Kind.UNREADABLE, b"From: {own} ({victim}"),
        "an unclosed quote": (Kind.UNREADABLE, b'From: "{own} <{victim}>'),
        "an unclosed bracket": (Kind.UNREADABLE, b"From: Jane <{victim}"),
        "a stray closing bracket": (Kind.UNREADABLE, b"From: {victim}> <{own}>"),
        "a backslash": (Kind.UNREADABLE, b"From: Boss\\ <{victim}>"),
        "two at signs": (Kind.UNREADABLE, b"From: {victim}@acmejets.example"),
        "dots of old": (Kind.UNREADABLE, b"From: boss..old@corp.example"),
        "blanks in the address": (Kind.UNREADABLE, b"From: boss @ corp . example"),
        "a tab control": (Kind.UNREADABLE, b"From: {victim}\x0b<{own}>"),
        "a backspace": (Kind.UNREADABLE, b"From: {own}\x08\x08\x08 {victim}"),
        "DEL": (Kind.UNREADABLE, b"From: {victim}\x7f <{own}>"),
        "a dot behind": (Kind.UNREADABLE, b"From: {victim}."),
        "a dot of another script": (Kind.UNREADABLE, "From: {victim}\N{FULLWIDTH FULL STOP}".encode()),
        "no address": (Kind.UNREADABLE, b"From: Boss of corp.example"),
        "empty": (Kind.UNREADABLE, b"From:"),
        "very long": (Kind.UNREADABLE, b"From: " + b"x" * 5000 + b" <{victim}>"),
        # Blocks that two programs split into different fields.
        "a blank before the colon": (Kind.AMBIGUOUS, b"From : {victim}\r\nFrom: {own}"),
        "a tab before the colon": (Kind.AMBIGUOUS, b"From\t: {victim}\r\nFrom: {own}"),
        "a folded field name": (Kind.AMBIGUOUS, b"From: {own}\r\nFrom\r\n : {victim}"),
        "a name broken by a fold": (Kind.AMBIGUOUS, b"Fr\r\n om: {victim}\r\nFrom: {own}"),
        "a first line with a blank": (Kind.AMBIGUOUS, b" From: {victim}\r\nFrom: {own}"),
        "a first line with a tab": (Kind.AMBIGUOUS, b"\tFrom: {victim}\r\nFrom: {own}"),
        "a line without a colon first": (Kind.AMBIGUOUS, b"From {victim}\r\nFrom: {own}"),
        "a line without a colon between": (Kind.AMBIGUOUS, b"From: {own}\r\nHello\r\nFrom: {victim}"),
        "a bare LF": (Kind.AMBIGUOUS, b"From: {own}\r\nX: 1\nFrom: {victim}"),
        "two bare LFs": (Kind.AMBIGUOUS, b"From: {own}\r\nX: 1\n\nFrom: {victim}"),
        "a bare CR": (Kind.AMBIGUOUS, b"From: {own}\r\nX: 1\rFrom: {victim}"),
        "a bare CR in From": (Kind.AMBIGUOUS, b"From: {own}\rFrom: {victim}"),
        "CR CR LF": (Kind.AMBIGUOUS, b"From: {own}\r\r\nFrom: {victim}"),
        "a NUL in the field name": (Kind.AMBIGUOUS, b"From\0: {victim}\r\nFrom: {own}"),
        "a NUL in the value": (Kind.AMBIGUOUS, b"From: {victim}\0{own}"),
        "a NUL as the end": (Kind.AMBIGUOUS, b"From: {victim}\0\r\nFrom: {own}"),
        "a control in the field name": (Kind.AMBIGUOUS, b"From\x01: {victim}\r\nFrom: {own}"),
        "eight bits in the field name": (
            Kind.AMBIGUOUS,
            "Fr\N{CYRILLIC SMALL LETTER O}m: {victim}\r\nFrom: {own}".encode(),
        ),
        "a mark of byte order": (Kind.AMBIGUOUS, b"\xef\xbb\xbfFrom: {victim}\r\nFrom: {own}"),
        "an empty field name": (Kind.AMBIGUOUS, b": {victim}\r\nFrom: {own}"),
    }
)


def forged(block: bytes, own: str, victim: str) -> bytes:
    """Return a vector with the sender's own address and the forged one, the latter in several writings."""
    local, _, domain = victim.partition("@")
    writings = {
        "own": own,
        "victim": victim,
        "quoted": f"{local}=40{domain}",
        "base64": b64encode(victim.encode()).decode(),
        "local": local,
        "domain": domain,
        "upper": victim.upper(),
        "wide": "".join(chr(ord(letter) + 0xFEE0) if letter.isalpha() else letter for letter in domain),
        "escaped": "".join("\\" + letter for letter in victim),
    }
    for name, writing in writings.items():
        block = block.replace(b"{%s}" % name.encode(), writing.encode())
    return block
