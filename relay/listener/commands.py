"""The grammar of commands: bytes in, values out (RFC 5321 section 4.1.2 with the parameters of its extensions).

SECURITY: every byte of a hostile client's command passes here. What comes out holds no control character, no address
that `relay.mail.address` refuses, and nothing that was decoded twice. A fault is a CommandFault with its reply.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from relay.listener import replies
from relay.mail.address import Address, AddressError
from relay.mail.envelope import Body
from relay.mail.reply import Reply, clean_text

# RFC 5321 section 4.5.3.1.4 allows 512 octets; parameters add up to 500 (AUTH=, RFC 4954) and more with DSN.
LONGEST_LINE = 2048
# RFC 5321 section 4.1.1.1 wants a domain or an address literal; clients send what their machine is called.
_LONGEST_HELLO = 255

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_UNFIT_FOR_HELLO = re.compile(r"[^!-~]")
# A path ends at the first ">" outside a quoted string. What is between is judged by Address.
_PATH = re.compile(rb'<((?:[^<>"]|"(?:[^"\\]|\\.)*")*)>')
# RFC 5321 section 4.1.2: esmtp-param, with the UTF-8 values of RFC 6531 section 3.3.
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")
_SIZE = re.compile(rb"[0-9]{1,20}")


class CommandFault(Exception):
    """A command cannot be understood or obeyed; `reply` says so to the client."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(str(reply))


@dataclass(frozen=True, slots=True)
class MailCommand:
    """MAIL: `sender` None is the null sender; `size` is 0 where none was declared, else octets."""

    sender: Address | None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """RCPT."""

    recipient: Address


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """Return the verb in upper case and its argument, of a line without its line end. Raises CommandFault."""
    if _CONTROL.search(line):
        raise CommandFault(replies.CONTROL_CHARACTER)
    verb, _, argument = line.partition(b" ")
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
    command = MailCommand(_address(path, replies.bad_sender) if path else None)
    for keyword, value in _parameters(words):
        apply = _MAIL_PARAMETERS.get(keyword)
        if apply is None:
            raise CommandFault(replies.UNKNOWN_PARAMETER)
        command = apply(command, value)
    if command.sender and not command.sender.is_ascii and not command.smtputf8:
        raise CommandFault(replies.NEED_SMTPUTF8)
    return command


def parse_rcpt(argument: bytes) -> RcptCommand:
    """Read the argument of RCPT: `TO:<path>`. Raises CommandFault."""
    path, words = _split_path(argument, b"TO:", replies.RCPT_SYNTAX)
    for _ in _parameters(words):
        raise CommandFault(replies.UNKNOWN_PARAMETER)
    return RcptCommand(_address(path, replies.bad_recipient))


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
    if value is None or not _SIZE.fullmatch(value):
        raise CommandFault(replies.BAD_PARAMETER)
    return replace(command, size=int(value))


def _apply_body(command: MailCommand, value: bytes | None) -> MailCommand:
    try:
        return replace(command, body=Body((value or b"").decode("ascii", "replace").upper()))
    except ValueError:
        raise CommandFault(replies.BAD_PARAMETER) from None


def _apply_smtputf8(command: MailCommand, value: bytes | None) -> MailCommand:
    if value is not None:
        raise CommandFault(replies.BAD_PARAMETER)
    return replace(command, smtputf8=True)


def _apply_auth(command: MailCommand, value: bytes | None) -> MailCommand:
    # RFC 4954 section 5: who first submitted it. Taken and never trusted, which is the same as AUTH=<>.
    if value is None:
        raise CommandFault(replies.BAD_PARAMETER)
    return command


_MAIL_PARAMETERS: Mapping[bytes, Callable[[MailCommand, bytes | None], MailCommand]] = MappingProxyType(
    {b"SIZE": _apply_size, b"BODY": _apply_body, b"SMTPUTF8": _apply_smtputf8, b"AUTH": _apply_auth}
)
