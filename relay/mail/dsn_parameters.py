"""What a client asks about reports: the parameters NOTIFY, ORCPT, RET and ENVID of MAIL and RCPT (RFC 3461 section 4).

They travel on as they came (section 5.2.1), so each value keeps its text and writes that; what is decoded is for the
report. SECURITY: a hostile client writes these and a report shows them. No value that exists here decodes to a
control character, so that none can end a line.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

# RFC 3461 section 4: xtext is printable ASCII without "+" and "=", and "+" with two hexadecimal digits in upper case.
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_NOT_XCHAR = re.compile(r"[^!-*,-<>-~]")
_PRINTABLE = re.compile(r"[ -~]*")
# RFC 6533 section 3: UTF-8 without space, "+", "=" and backslash, which are written as \x{HEX}.
_UTF8_TEXT = re.compile(r"(?:[^\x00-\x20+=\\\x7f]|\\x\{[0-9A-F]{2,6}\})*")
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]")
# An address type is an atom (RFC 3461 section 4.2); the registered ones are of these characters.
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]{1,64}")
_UTF8 = "utf-8"
_MOST_ENVID = 100
_MOST_ORCPT = 500


class ParameterFault(ValueError):
    """A parameter is not what its RFC says. The message says in one sentence what is wrong with it."""


class Event(StrEnum):
    """What a client can ask to be told of."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


class Return(StrEnum):
    """How much of the message a report of a failure brings back (RET)."""

    FULL = "FULL"
    HEADERS = "HDRS"

    @property
    def parameter(self) -> str:
        """The parameter of MAIL, for the next server."""
        return f"RET={self.value}"


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY of one recipient, as it came: "NEVER", or words of Event with commas between them.

    Raises ParameterFault for any other text.
    """

    text: str

    def __post_init__(self) -> None:
        words = self.text.upper().split(",") if self.text.isascii() else []
        if words != ["NEVER"] and not (words and all(word in Event.__members__ for word in words)):
            raise ParameterFault("NOTIFY is NEVER alone, or one or more of SUCCESS, FAILURE and DELAY")

    @property
    def events(self) -> frozenset[Event]:
        """What is to be told; nothing for NEVER."""
        words = self.text.upper().split(",")
        return frozenset(event for event in Event if event.value in words)

    @property
    def parameter(self) -> str:
        """The parameter of RCPT, for the next server."""
        return f"NOTIFY={self.text}"


@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """ORCPT: whom the sender first meant. `address_type` is as written, `text` is encoded as it came.

    Raises ParameterFault for what is not an address type, is coded wrongly, or holds unprintable characters.
    """

    address_type: str
    text: str

    def __post_init__(self) -> None:
        if not _ADDRESS_TYPE.fullmatch(self.address_type):
            raise ParameterFault("ORCPT is an address type, a semicolon and an address")
        if len(f"{self.address_type};{self.text}".encode("utf-8", "replace")) > _MOST_ORCPT:
            raise ParameterFault(f"ORCPT is at most {_MOST_ORCPT} octets")
        if not self.address.strip():
            raise ParameterFault("ORCPT holds no address")

    @property
    def address(self) -> str:
        """The address, decoded: printable, on one line. It may be no mail address, its type says what it is."""
        return _decode_utf8(self.text) if self.is_utf8 else decode_xtext(self.text)

    @property
    def is_utf8(self) -> bool:
        """Whether this is the type that holds more than ASCII (RFC 6533)."""
        return self.address_type.lower() == _UTF8

    @property
    def as_ascii(self) -> "OriginalRecipient | None":
        """The same, written for a server without SMTPUTF8 (RFC 6533 section 3); None where that is too long."""
        text = _NOT_ASCII.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", self.text)
        is_short = len(f"{self.address_type};{text}") <= _MOST_ORCPT
        return OriginalRecipient(self.address_type, text) if is_short else None

    @property
    def parameter(self) -> str:
        """The parameter of RCPT, for the next server."""
        return f"ORCPT={self.address_type};{self.text}"


def mail_parameters(ret: Return | None, envid: str) -> tuple[str, ...]:
    """Return what MAIL tells a next server that has DSN: what was given and nothing else (RFC 3461 section 5.2.1)."""
    given = (ret.parameter,) if ret else ()
    return (*given, f"ENVID={envid}") if envid else given


def parse_notify(value: bytes) -> Notify:
    """Read the value of NOTIFY. Raises ParameterFault."""
    return Notify(_text(value, "NOTIFY"))


def parse_original_recipient(value: bytes) -> OriginalRecipient:
    """Read the value of ORCPT. Raises ParameterFault."""
    try:
        address_type, _, text = value.decode().partition(";")
    except UnicodeDecodeError:
        raise ParameterFault("ORCPT is not UTF-8") from None
    return OriginalRecipient(address_type, text)


def parse_return(value: bytes) -> Return:
    """Read the value of RET. Raises ParameterFault."""
    try:
        return Return(_text(value, "RET").upper())
    except ValueError:
        raise ParameterFault("RET is FULL or HDRS") from None


def parse_envid(value: bytes) -> str:
    """Read the value of ENVID and return it as it came, encoded: at most 100 octets. Raises ParameterFault."""
    text = _text(value, "ENVID")
    if len(text) > _MOST_ENVID:
        raise ParameterFault(f"ENVID is at most {_MOST_ENVID} octets")
    if not decode_xtext(text).strip():
        raise ParameterFault("ENVID is empty")
    return text


def decode_xtext(text: str) -> str:
    """Return what xtext stands for: printable ASCII and spaces. Raises ParameterFault for anything else."""
    if not _XTEXT.fullmatch(text):
        raise ParameterFault("the value is no xtext")
    decoded = _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text)
    if not _PRINTABLE.fullmatch(decoded):
        raise ParameterFault("the value stands for an unprintable character")
    return decoded


def encode_xtext(text: str) -> str:
    """Return printable ASCII as xtext. Raises ParameterFault for anything else."""
    if not _PRINTABLE.fullmatch(text):
        raise ParameterFault("xtext stands for printable ASCII only")
    return _NOT_XCHAR.sub(lambda match: f"+{ord(match[0]):02X}", text)


def _decode_utf8(text: str) -> str:
    if not _UTF8_TEXT.fullmatch(text):
        raise ParameterFault("the address of type utf-8 is coded wrongly")
    try:
        decoded = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
    except ValueError:
        raise ParameterFault("the address of type utf-8 holds no character of Unicode") from None
    if _UNPRINTABLE.search(decoded):
        raise ParameterFault("the address of type utf-8 stands for an unprintable character")
    return decoded


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise ParameterFault(f"{name} is not ASCII") from None
