"""The grammar of commands: bytes in, values out (RFC 5321 section 4.1.2 with the parameters of its extensions).

SECURITY: every byte of a hostile client's command passes here. What comes out holds no control character, no address
that `relay.mail.address` refuses, and nothing that was decoded twice. A fault is a CommandFault with its reply.
"""

import base64
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from relay.listener import replies
from relay.mail.address import Address, AddressError
from relay.mail.dsn_parameters import (
    ParameterFault,
    parse_envid,
    parse_notify,
    parse_original_recipient,
    parse_return,
)
from relay.mail.envelope import Body, Envelope, Recipient
from relay.mail.reply import Reply, clean_text

# RFC 5321 section 4.5.3.1.4 allows 512 octets; AUTH= adds 500 (RFC 4954), DSN 107 at MAIL and 573 at RCPT (RFC 3461).
# The CR counts.
LONGEST_LINE = 2048
# RFC 4954 section 4: what a client answers within AUTH may be as long as that, in base64.
LONGEST_RESPONSE = 12_288
# One with "AUTH mechanism" before it; no name of a mechanism has more than 20 characters (RFC 4422 section 3.1).
LONGEST_LOGIN_LINE = len("AUTH  ") + 20 + LONGEST_RESPONSE
# RFC 5321 section 4.1.1.1 wants a domain or an address literal; clients send what their machine is called.
_LONGEST_HELLO = 255

# A page in a browser can make it send these to a port of this machine; what would follow is for the attacker to say.
HTTP_VERBS: Final = frozenset(
    [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"PRI"]
)
# What is kept of the lines and arguments that came before: at most so many, of at most so many octets.
_MOST_KEPT: Final = 4096
_SHORT: Final = 512
# How the lines begin that a session consists of, as clients write them.
_VERBS: Final = (b"EHLO ", b"HELO ", b"MAIL ", b"RCPT ", b"DATA", b"RSET", b"QUIT")
_BARE: Final = (b"DATA\r", b"RSET\r", b"QUIT\r")
_COMMON: Final = frozenset((*_VERBS, *map(bytes.lower, _VERBS)))
_COMMON_ALONE: Final = _COMMON.union(_BARE, map(bytes.lower, _BARE))

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_UNFIT_FOR_HELLO = re.compile(r"[^!-~]")
# RFC 5321 section 3.3 wants no space behind the colon; so many clients send one that it is taken. A path ends at the
# first ">" outside a quoted string; what is between is judged by Address. Parameters follow after a space.
_PATH: Final = rb' ?<((?:[^<>"]++|"(?:[^"\\]|\\.)*+")*+)>( .*)?'
_FROM = re.compile(b"FROM:" + _PATH, re.IGNORECASE | re.DOTALL)
_TO = re.compile(b"TO:" + _PATH, re.IGNORECASE | re.DOTALL)
# RFC 5321 section 4.1.2: esmtp-param, with the UTF-8 values of RFC 6531 section 3.3.
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")
_BODIES: Final = MappingProxyType({body.value.encode(): body for body in Body})
_SIZE = re.compile(rb"[0-9]{1,20}")
_CHUNK = re.compile(rb"([0-9]{1,20})( +LAST)?", re.IGNORECASE)


class CommandFault(Exception):
    """A command cannot be understood or obeyed; `reply` says so to the client."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(str(reply))


@dataclass(frozen=True, slots=True)
class AuthCommand:
    """AUTH: `mechanism` in upper case; `initial` is the decoded initial response, None where there was none."""

    mechanism: bytes
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class BdatCommand:
    """BDAT (RFC 3030): so many octets follow the line."""

    octets: int
    is_last: bool = False


_Read: TypeAlias = Callable[[bytes | None], Any]
"""Reads the value of a parameter, None where it has none. Raises CommandFault or ParameterFault."""


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """Return the verb in upper case and its argument, of a line without its line end. Raises CommandFault."""
    # SECURITY: no other line is kept: it may be a password that came at the wrong moment.
    if line[:5] in _COMMON and not line[_SHORT:]:
        return _split_common(line)
    return _split(line)


def _split(line: bytes) -> tuple[bytes, bytes]:
    if _CONTROL.search(line):
        raise CommandFault(replies.CONTROL_CHARACTER)
    verb, _, argument = line.partition(b" ")
    if len(line) >= LONGEST_LINE and verb.upper() != b"AUTH":
        raise CommandFault(replies.LINE_TOO_LONG)
    return verb.upper(), argument.strip(b" ")


_split_common = lru_cache(maxsize=_MOST_KEPT)(_split)


def command_alone(octets: bytes) -> tuple[bytes, bytes] | None:
    """Return what `split_command` does of octets that are one line with its CRLF, and a common one; None of others."""
    return _split_alone(octets) if octets[:5] in _COMMON_ALONE and not octets[_SHORT:] else None


@lru_cache(maxsize=_MOST_KEPT)
def _split_alone(octets: bytes) -> tuple[bytes, bytes] | None:
    line = octets[:-2]
    if octets[-2:] != b"\r\n" or _CONTROL.search(line):
        return None
    return _split(line)


def parse_hello(argument: bytes) -> str:
    """Return the name in EHLO or HELO, as printable ASCII without spaces. Raises CommandFault where there is none."""
    words = argument.decode("ascii", "replace").split()
    if not words:
        raise CommandFault(replies.NEED_HELLO_NAME)
    return _UNFIT_FOR_HELLO.sub("?", words[0])[:_LONGEST_HELLO]


def parse_mail(argument: bytes) -> Envelope:
    """Read the argument of MAIL, `FROM:<path> [parameters]`, to an envelope without recipients. Raises CommandFault."""
    return _read_mail(argument) if argument[_SHORT:] else _known_mail(argument)


def parse_rcpt(argument: bytes) -> Recipient:
    """Read the argument of RCPT: `TO:<path> [parameters]`. Raises CommandFault."""
    return _read_rcpt(argument) if argument[_SHORT:] else _known_rcpt(argument)


def _read_mail(argument: bytes) -> Envelope:
    mail = _FROM.fullmatch(argument)
    if mail is None:
        raise CommandFault(replies.MAIL_SYNTAX)
    sender = _address(mail[1], replies.bad_sender) if mail[1] else None
    envelope = Envelope(sender, **_parameters(mail[2], _MAIL_PARAMETERS)) if mail[2] else Envelope(sender)
    if sender and not envelope.smtputf8 and not sender.is_ascii:
        raise CommandFault(replies.NEED_SMTPUTF8)
    return envelope


def _read_rcpt(argument: bytes) -> Recipient:
    rcpt = _TO.fullmatch(argument)
    if rcpt is None:
        raise CommandFault(replies.RCPT_SYNTAX)
    address = _address(rcpt[1], replies.bad_recipient)
    return Recipient(address, **_parameters(rcpt[2], _RCPT_PARAMETERS)) if rcpt[2] else Recipient(address)


# The same few senders come again and again, and so do many recipients; what is read of them is immutable.
_known_mail = lru_cache(maxsize=_MOST_KEPT)(_read_mail)
_known_rcpt = lru_cache(maxsize=_MOST_KEPT)(_read_rcpt)


def parse_auth(argument: bytes, offered: Container[bytes]) -> AuthCommand:
    """Read the argument of AUTH: `mechanism [initial response]`, with one of the mechanisms offered.

    Raises CommandFault.
    """
    words = argument.split()
    if not 1 <= len(words) <= 2:
        raise CommandFault(replies.AUTH_SYNTAX)
    mechanism = words[0].upper()
    if mechanism not in offered:
        raise CommandFault(replies.UNKNOWN_MECHANISM)
    if len(words) == 1:
        return AuthCommand(mechanism)
    # RFC 4954 section 4: an initial response that is empty is written "=".
    return AuthCommand(mechanism, b"" if words[1] == b"=" else _unbase64(words[1]))


def decode_response(line: bytes) -> bytes:
    """Return what a client's line says within AUTH. Raises CommandFault where it gives up, or for no base64."""
    if line == b"*":
        raise CommandFault(replies.LOGIN_CANCELLED)
    return _unbase64(line)


def parse_bdat(argument: bytes) -> BdatCommand:
    """Read the argument of BDAT: `octets [LAST]`. Raises CommandFault."""
    chunk = _CHUNK.fullmatch(argument)
    if chunk is None:
        raise CommandFault(replies.CHUNK_SYNTAX)
    return BdatCommand(int(chunk[1]), is_last=chunk[2] is not None)


def _unbase64(text: bytes) -> bytes:
    if len(text) > LONGEST_RESPONSE:
        raise CommandFault(replies.LINE_TOO_LONG)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise CommandFault(replies.NOT_BASE64) from None


def _address(path: bytes, fault: Callable[[object], Reply]) -> Address:
    try:
        return Address.parse(path.decode())
    except UnicodeDecodeError:
        raise CommandFault(fault("it is not UTF-8")) from None
    except AddressError as error:
        raise CommandFault(fault(clean_text(str(error)))) from None


def _parameters(words: bytes, known: Mapping[bytes, tuple[str, _Read]]) -> dict[str, Any]:
    """Return what parameters say, by the names that `known` has for them; "" is for one that says nothing to us."""
    given: dict[str, Any] = {}
    seen: set[bytes] = set()
    for word in filter(None, words.split(b" ")):
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or (keyword := parameter[1].upper()) in seen:
            raise CommandFault(replies.BAD_PARAMETER)
        seen.add(keyword)
        if keyword not in known:
            raise CommandFault(replies.UNKNOWN_PARAMETER)
        name, read = known[keyword]
        try:
            given[name] = read(parameter[2])
        except ParameterFault as fault:
            raise CommandFault(replies.bad_parameter(fault)) from None
    given.pop("", None)
    return given


def _size(value: bytes | None) -> int:
    # RFC 1870: 1*20DIGIT octets; 0 says nothing.
    digits = _given(value)
    if not _SIZE.fullmatch(digits):
        raise CommandFault(replies.BAD_PARAMETER)
    return int(digits)


def _body(value: bytes | None) -> Body:
    body = _BODIES.get((value or b"").upper())
    if body is None:
        raise CommandFault(replies.BAD_PARAMETER)
    return body


def _flag(value: bytes | None) -> bool:
    """SMTPUTF8 and REQUIRETLS say all by being there."""
    if value is not None:
        raise CommandFault(replies.BAD_PARAMETER)
    return True


def _given(value: bytes | None) -> bytes:
    if value is None:
        raise CommandFault(replies.BAD_PARAMETER)
    return value


_MAIL_PARAMETERS: Mapping[bytes, tuple[str, _Read]] = MappingProxyType(
    {
        b"SIZE": ("size", _size),
        b"BODY": ("body", _body),
        b"SMTPUTF8": ("smtputf8", _flag),
        # RFC 4954 section 5: who first submitted it. Taken and never trusted, which is the same as AUTH=<>.
        b"AUTH": ("", _given),
        b"RET": ("ret", lambda value: parse_return(_given(value))),
        b"ENVID": ("envid", lambda value: parse_envid(_given(value))),
        b"REQUIRETLS": ("require_tls", _flag),
    }
)
_RCPT_PARAMETERS: Mapping[bytes, tuple[str, _Read]] = MappingProxyType(
    {
        b"NOTIFY": ("notify", lambda value: parse_notify(_given(value))),
        b"ORCPT": ("original", lambda value: parse_original_recipient(_given(value))),
    }
)
