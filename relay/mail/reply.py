"""An SMTP reply: code, enhanced status code and text (RFC 5321 section 4.2, RFC 3463).

Both sides use it: what we answer a client and what an upstream answered us. Pure.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})")
_TEXT_WITH_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+|$)(.*)", re.DOTALL)
_LINE_END = re.compile(r"[\r\n]+")
# RFC 5321 section 4.2: reply text is printable; anything under 0x20 would forge a line. Python and log readers end
# lines at C1's NEL and at Unicode's separators too, and terminals obey C1 as they obey escape sequences.
_LINE_CONTROLS = "\\x00-\\x1f\\x7f-\\x9f\u2028\u2029"
# What turns the direction of the text around it: it can make a line say something else than it holds.
_DIRECTION_CONTROLS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_LINE_CONTROLS}]")
_UNFIT = re.compile(f"[{_LINE_CONTROLS}{_DIRECTION_CONTROLS}]+")
# RFC 5321 section 4.5.3.1.5: a reply line is at most 512 octets with code and CRLF.
_TEXT_OCTETS = 480


@dataclass(init=False, unsafe_hash=True, slots=True)
class Reply:
    """One reply. `enhanced` is "" only where RFC 2034 wants none: greeting, EHLO and 3xx. `text` is one clean line.

    `line` is the whole of it as text, without CRLF. Nothing of it changes, though it is not frozen: that would double
    what it takes to make one.
    """

    code: int
    enhanced: str
    text: str
    line: str = field(init=False, repr=False, compare=False)
    _wire: bytes = field(init=False, repr=False, compare=False)

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        start = _start(code, enhanced)
        if not (text.isascii() and text.isprintable()) and _CONTROL.search(text):
            raise ValueError("the text of a reply is one line without control characters")
        self.code = code
        self.enhanced = enhanced
        self.text = text
        self.line = f"{start} {text}" if text else start
        self._wire = b""

    @classmethod
    def of_upstream(cls, code: int, text: str) -> "Reply":
        """Return the reply that an upstream gave, cleaned to one line.

        `text` may hold several lines ("\\n" between them) and the enhanced code in front of each. Where the server
        gave no enhanced code, or one of another class, X.0.0 of the code's class stands for it (RFC 3463: "other").
        """
        if text.isascii() and text.isprintable():  # one clean line, as nearly all
            enhanced, words = _split_enhanced(text)
            words = words.strip()
        else:
            lines = [_split_enhanced(line) for line in _LINE_END.split(text)]
            enhanced = next((found for found, _ in lines if found and found[0] == str(code)[0]), "")
            words = " ".join(filter(None, [clean_text(line) for _, line in lines]))
        if enhanced[:1] != str(code)[0]:
            enhanced = f"{code // 100}.0.0" if code >= 400 else ""
        return cls._of(code, enhanced, words)

    @classmethod
    def _of(cls, code: int, enhanced: str, text: str) -> "Reply":
        """Return the reply with a text that is known to be one clean line."""
        reply = object.__new__(cls)
        reply.code, reply.enhanced, reply.text, reply._wire = code, enhanced, text, b""
        start = _start(code, enhanced)
        reply.line = f"{start} {text}" if text else start
        return reply

    @property
    def is_success(self) -> bool:
        """2xx: the command did what it says."""
        return self.code < 300

    @property
    def is_temporary(self) -> bool:
        """4xx: the same command may succeed later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5xx: the same command will fail again."""
        return self.code >= 500

    def __str__(self) -> str:
        return self.line

    def __bytes__(self) -> bytes:
        """Return the reply as one line for the wire, CRLF included, at most 512 octets.

        All of it is ASCII, other letters as "\\xfc": UTF-8 is only for who asked for it (RFC 6531 section 3.7.4.2), and
        a refused MAIL may be of somebody who did not.
        """
        if not self._wire:
            line = self.line.encode("ascii", "backslashreplace")
            self._wire = (line if len(line) <= _TEXT_OCTETS else line[:_TEXT_OCTETS] + b"...") + b"\r\n"
        return self._wire


@lru_cache(maxsize=512)
def _start(code: int, enhanced: str) -> str:
    """Return what a reply begins with. Raises ValueError for codes that are none."""
    if not 200 <= code <= 599:
        raise ValueError(f"{code} is no SMTP reply code")
    if not enhanced:
        return str(code)
    if not _ENHANCED.fullmatch(enhanced) or enhanced[0] != str(code)[0]:
        raise ValueError(f"{enhanced} is no enhanced code for {code}")
    return f"{code} {enhanced}"


def clean_text(text: str) -> str:
    """Return text as one line without control characters or undecodable bytes, fit for a reply, a log or a terminal."""
    if text.isascii() and text.isprintable():
        return text.strip()
    return _UNFIT.sub(" ", text.encode("utf-8", "replace").decode()).strip()


def _split_enhanced(line: str) -> tuple[str, str]:
    match = _TEXT_WITH_ENHANCED.fullmatch(line.strip())
    return (match[1], match[2]) if match else ("", line)
