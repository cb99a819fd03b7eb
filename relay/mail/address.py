"""Email addresses by the grammar of RFC 5321 section 4.1.2 with the UTF-8 of RFC 6531, and how two of them compare.

SECURITY: everything that names a sender or recipient passes here: the listener's paths, the directory, the From
field. The grammar is our own because the standard library decodes encoded words inside an address, which lets a
client write CR, LF or another domain into it. No address that exists as a value holds a control character.
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

import idna

# RFC 5321 section 4.5.3.1.3: a path is at most 256 octets with its angle brackets. The smaller limits of 4.5.3.1.1
# and .2 are left to the receiving server: the RFC asks for no limits where possible, and VERP senders pass 64.
_MOST_OCTETS = 254
# A class that holds all beyond ASCII says what of ASCII it does not hold: Python compiles that ten times as fast, and
# `relay sendmail` is started for every mail.
_ATEXT = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]'
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
# RFC 5321: qtextSMTP = %d32-33 / %d35-91 / %d93-126; quoted-pairSMTP = %d92 %d32-126.
_QUOTED_STRING = re.compile(r'"(?:[^\x00-\x1f"\\\x7f]|\\[ -~])*"')
_QUOTED_PAIR = re.compile(r"\\(.)")
# "_" is not a host name letter, but domains with it send and receive mail, and every large server accepts it.
_LETTER = r"[^\x00-/:-@\[-^`{-\x7f]"  # A-Z, a-z, 0-9, "_", and all beyond ASCII
_LETTER_OR_HYPHEN = r"[^\x00-,./:-@\[-^`{-\x7f]"
_LABEL = re.compile(rf"{_LETTER}(?:{_LETTER_OR_HYPHEN}*{_LETTER})?")
# C1 controls, line and paragraph separators, and lone surrogates are in no name; a terminal or a log would act on them.
_FORBIDDEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]")


class AddressError(ValueError):
    """The text is no email address. The message says in one sentence what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox, as it was written: `local` may be a quoted string, `domain` a name or an address literal.

    Two spellings of one mailbox are equal by `key`, not by `==`. `text` is the whole of it as it was written. `key` is
    what two spellings of one mailbox of ours share: local part without quotes or case, domain by IDNA. `is_ascii` says
    whether a server without SMTPUTF8 (RFC 6531) can be told this address as it stands.
    """

    local: str
    domain: str
    text: str = field(init=False, repr=False, compare=False)
    key: str = field(init=False, repr=False, compare=False)
    is_ascii: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = f"{self.local}@{self.domain}"
        if _FORBIDDEN.search(text):
            raise AddressError("an address holds no control characters")
        if not _DOT_STRING.fullmatch(self.local) and not _QUOTED_STRING.fullmatch(self.local):
            raise AddressError(f"{self.local!r} is no local part")
        domain = domain_key(self.domain)
        is_ascii = text.isascii()
        if len(text if is_ascii else text.encode()) > _MOST_OCTETS:
            raise AddressError(f"an address is at most {_MOST_OCTETS} octets")
        local = self.local if self.local[0] != '"' else self.decoded_local
        key = f"{local.lower() if is_ascii else without_case(local)}@{domain}"
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "key", text if key == text else key)  # one text in memory for both
        object.__setattr__(self, "is_ascii", is_ascii)

    @classmethod
    @lru_cache(maxsize=4096)  # the same few senders, and often the same customers, all day long
    def parse(cls, text: str) -> "Address":
        """Return the address in `text` (no angle brackets, no display name). Raises AddressError."""
        local, at, domain = text.rpartition("@")
        if not at:
            if _FORBIDDEN.search(text):
                raise AddressError("an address holds no control characters")
            raise AddressError(f"{text!r} has no domain; write it as name@domain")
        return cls(local, domain)

    def __str__(self) -> str:
        return self.text

    @property
    def domain_key(self) -> str:
        """The domain as it compares: A-labels in lower case."""
        return domain_key(self.domain)

    @property
    def decoded_local(self) -> str:
        """The local part without the quotes and backslashes of its spelling."""
        if self.local.startswith('"'):
            return _QUOTED_PAIR.sub(r"\1", self.local[1:-1])
        return self.local

    @property
    def tag(self) -> str:
        """What follows the first plus sign of the local part, plus sign included; "" without one."""
        base, plus, tag = self.local.partition("+")
        is_tagged = base and not base.endswith(".") and not base.startswith('"')
        return plus + tag if is_tagged else ""

    @property
    def without_tag(self) -> "Address":
        """The same address without its plus tag (subaddress, RFC 5233)."""
        return Address(self.local.removesuffix(self.tag), self.domain) if self.tag else self

    def with_tag(self, tag: str) -> "Address":
        """Return this address with a plus tag ("+4711") behind its local part. Raises AddressError if that is none."""
        return Address(self.local + tag, self.domain) if tag else self


def without_case(text: str) -> str:
    """Return how names and local parts compare: without case, and with accents written in one way.

    ß and ss stay two, as they are to other mail servers: str.casefold would make them one.
    """
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


@lru_cache(maxsize=4096)
def domain_key(domain: str) -> str:
    """Return how a domain compares: A-labels in lower case (RFC 5891), or the canonical address literal.

    Raises AddressError for what is neither a domain name nor an address literal (RFC 5321 section 4.1.3).
    """
    if domain.startswith("[") and domain.endswith("]"):
        return _literal_key(domain[1:-1])
    labels = domain.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(f"{domain!r} is no domain")
    if domain.isascii():
        return domain.lower()
    try:
        key = idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise AddressError(f"{domain!r} is no domain: {error}") from None
    # IDNA has more dots than one, and takes any of them at the end. No mail domain ends with a dot.
    if key.endswith("."):
        raise AddressError(f"{domain!r} is no domain")
    return key


def _literal_key(literal: str) -> str:
    try:
        if literal[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(literal[5:])}]"
        return f"[{ipaddress.IPv4Address(literal)}]"
    except ValueError:
        raise AddressError(f"'[{literal}]' is not an address literal") from None
