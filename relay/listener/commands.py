"""The grammar of commands: bytes in, values out (RFC 5321 section 4.1.2 with the parameters of its extensions).

SECURITY: every byte of a hostile client's command passes here. What comes out holds no control character, no address
that `relay.mail.address` refuses, and nothing that was decoded twice. A fault is a CommandFault with its reply.
"""

import base64
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from relay.listener import replies
from relay.mail.address import Address, AddressError
from relay.mail.envelope import Body, Recipient
from relay.mail.notify import (
    ParameterFault,
    Return,
    parse_envid,
    parse_notify,
    parse_original_recipient,
    parse_return,
)
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

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_UNFIT_FOR_HELLO = re.compile(r"[^!-~]")
# A path ends at the first ">" outside a quoted string. What is between is judged by Address.
_PATH = re.compile(rb'<((?:[^<>"]|"(?:[^"\\]|\\.)*")*)>')
# RFC 5321 section 4.1.2: esmtp-param, with the UTF-8 values of RFC 6531 section 3.3.
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")
_SIZE = re.compile(rb"[0-9]{1,20}")
_CHUNK = re.compile(rb"([0-9]{1,20})( +LAST)?", re.IGNORECASE)


class CommandFault(Exception):
    """A command cannot be understood or obeyed; `reply` says so to the client."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(str(reply))


@dataclass(frozen=True, slots=True)
class MailCommand:
    """MAIL: `sender` None is the null sender; `size` is 0 where none was declared, else octets.

    `ret` and `envid` are RET and ENVID (RFC 3461), None and "" where they were not given. `require_tls` is REQUIRETLS
    (RFC 8689).
    """

    sender: Address | None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    size: int = 0
    ret: Return | None = None
    envid: str = ""
    require_tls: bool = False


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """RCPT."""

    recipient: Recipient


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


_Command = TypeVar("_Command", MailCommand, RcptCommand)
_Apply: TypeAlias = Callable[[_Command, bytes | None], _Command]
"""Puts one parameter's value (None where it has none) into a command. Raises CommandFault or ParameterFault."""


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """Return the verb in upper case and its argument, of a line without its line end. Raises CommandFault."""
    if _CONTROL.search(line):
        raise CommandFault(replies.CONTROL_CHARACTER)
    verb, _, argument = line.partition(b" ")
    if len(line) >= LONGEST_LINE and verb.upper() != b"AUTH":
        raise CommandFault(replies.LINE_TOO_LONG)
    return verb.upper(), argument.strip(b" ")


def parse_hello(argument: bytes) -> str:
    """Return the name in EHLO or HELO, as printable ASCII without spaces. Raises CommandFault where there is none."""
    words = argument.decode("ascii", "replace").split()
    if not words:
        raise CommandFault(replies.NEED_HELLO_NAME)
    return _UNFIT_FOR_HELLO.sub("?", words[0])[:_LONGEST_HELLO]


def parse_mail(argument: bytes) -> MailCommand:
    """Read the argument of MAIL: `FROM:<path> [parameters]`. Raises CommandFault."""
    path, words = _split_path(argument, b"FROM:", replies.MAIL_SYNTAX)
    command = _with_parameters(
        MailCommand(_address(path, replies.bad_sender) if path else None), words, _MAIL_PARAMETERS
    )
    if command.sender and not command.sender.is_ascii and not command.smtputf8:
        raise CommandFault(replies.NEED_SMTPUTF8)
    return command


def parse_rcpt(argument: bytes) -> RcptCommand:
    """Read the argument of RCPT: `TO:<path> [parameters]`. Raises CommandFault."""
    path, words = _split_path(argument, b"TO:", replies.RCPT_SYNTAX)
    command = RcptCommand(Recipient(_address(path, replies.bad_recipient)))
    return _with_parameters(command, words, _RCPT_PARAMETERS)


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


def _split_path(argument: bytes, keyword: bytes, syntax: Reply) -> tuple[bytes, bytes]:
    if argument[: len(keyword)].upper() != keyword:
        raise CommandFault(syntax)
    # RFC 5321 section 3.3 wants no space behind the colon; so many clients send one that it is taken.
    text = argument[len(keyword) :].removeprefix(b" ")
    path = _PATH.match(text)
    if path is None or text[path.end() : path.end() + 1].strip(b" "):
        raise CommandFault(syntax)
    return path[1], text[path.end() :]


def _address(path: bytes, fault: Callable[[object], Reply]) -> Address:
    try:
        return Address.parse(path.decode())
    except UnicodeDecodeError:
        raise CommandFault(fault("it is not UTF-8")) from None
    except AddressError as error:
        raise CommandFault(fault(clean_text(str(error)))) from None


def _with_parameters(command: _Command, words: bytes, known: Mapping[bytes, _Apply[_Command]]) -> _Command:
    for keyword, value in _parameters(words):
        apply = known.get(keyword)
        if apply is None:
            raise CommandFault(replies.UNKNOWN_PARAMETER)
        try:
            command = apply(command, value)
        except ParameterFault as fault:
            raise CommandFault(replies.bad_parameter(fault)) from None
    return command


def _parameters(words: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    seen: set[bytes] = set()
    for word in filter(None, words.split(b" ")):
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or parameter[1].upper() in seen:
            raise CommandFault(replies.BAD_PARAMETER)
        seen.add(parameter[1].upper())
        yield parameter[1].upper(), parameter[2]


def _apply_size(command: MailCommand, value: bytes | None) -> MailCommand:
    # RFC 1870: 1*20DIGIT octets; 0 says nothing.
    digits = _given(value)
    if not _SIZE.fullmatch(digits):
        raise CommandFault(replies.BAD_PARAMETER)
    return replace(command, size=int(digits))


def _apply_body(command: MailCommand, value: bytes | None) -> MailCommand:
    try:
        return replace(command, body=Body((value or b"").decode("ascii", "replace").upper()))
    except ValueError:
        raise CommandFault(replies.BAD_PARAMETER) from None


def _apply_smtputf8(command: MailCommand, value: bytes | None) -> MailCommand:
    if value is not None:
        raise CommandFault(replies.BAD_PARAMETER)
    return replace(command, smtputf8=True)


def _apply_require_tls(command: MailCommand, value: bytes | None) -> MailCommand:
    if value is not None:
        raise CommandFault(replies.BAD_PARAMETER)
    return replace(command, require_tls=True)


def _apply_auth(command: MailCommand, value: bytes | None) -> MailCommand:
    # RFC 4954 section 5: who first submitted it. Taken and never trusted, which is the same as AUTH=<>.
    _given(value)
    return command


def _apply_ret(command: MailCommand, value: bytes | None) -> MailCommand:
    return replace(command, ret=parse_return(_given(value)))


def _apply_envid(command: MailCommand, value: bytes | None) -> MailCommand:
    return replace(command, envid=parse_envid(_given(value)))


def _apply_notify(command: RcptCommand, value: bytes | None) -> RcptCommand:
    return RcptCommand(replace(command.recipient, notify=parse_notify(_given(value))))


def _apply_orcpt(command: RcptCommand, value: bytes | None) -> RcptCommand:
    return RcptCommand(replace(command.recipient, original=parse_original_recipient(_given(value))))


def _given(value: bytes | None) -> bytes:
    if value is None:
        raise CommandFault(replies.BAD_PARAMETER)
    return value


_MAIL_PARAMETERS: Mapping[bytes, _Apply[MailCommand]] = MappingProxyType(
    {
        b"SIZE": _apply_size,
        b"BODY": _apply_body,
        b"SMTPUTF8": _apply_smtputf8,
        b"AUTH": _apply_auth,
        b"RET": _apply_ret,
        b"ENVID": _apply_envid,
        b"REQUIRETLS": _apply_require_tls,
    }
)
_RCPT_PARAMETERS: Mapping[bytes, _Apply[RcptCommand]] = MappingProxyType(
    {b"NOTIFY": _apply_notify, b"ORCPT": _apply_orcpt}
)
