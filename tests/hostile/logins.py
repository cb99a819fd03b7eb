"""Logins by the book (RFC 4954, RFC 4616, RFC 5802), and what too many wrong ones bring (DESIGN section 3)."""

import re
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType

from tests.hostile.hearing import Hearing
from tests.hostile.reading import decoded, readable
from tests.hostile.steps import Book, Expect, Play, Step


class Logins(Hearing):
    """Who the client is, and how it says so."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.is_tls = self.rules.security == "tls"
        self.hello = ""
        self.login = ""
        self.proved = ""  # whom SCRAM has proved to be, if the client did it right
        self._has_mail = False

    @property
    def may_log_in(self) -> bool:
        return self.rules.auth != "none"

    @property
    def may_submit(self) -> bool:
        return bool(self.login) or (self.rules.is_trusted and self.rules.auth != "required")

    @property
    def can_starttls(self) -> bool:
        return self.rules.security == "starttls" and not self.is_tls

    def _auth(self, argument: bytes) -> Play:
        if self.hello != "EHLO" or (self.may_log_in and (self.login or self._has_mail)):
            yield from self._say("503")
            return
        if not self.may_log_in:
            yield from self._say("538" if self.can_starttls else "502")
            return
        words = argument.split()
        mechanism = words[0].upper() if words else b""
        initial = None
        if len(words) == 2:
            initial = b"" if words[1] == b"=" else decoded(words[1])
        if len(words) not in {1, 2}:
            yield from self._say("501")
        elif mechanism not in _MECHANISMS:
            yield from self._say("504")
        elif len(words) == 2 and initial is None:
            yield from self._say("501")
        else:
            yield from _MECHANISMS[mechanism](self, initial)

    def _ask(self, initial: bytes | None) -> Generator[Step, tuple[str, ...], bytes | None]:
        """Return the client's response; None where the exchange is over."""
        if initial is not None:
            return initial
        yield Expect(frozenset(["334"]))
        line = yield from self._line()
        response = decoded(line) if len(line) <= 12_000 else None
        if response is None:
            yield from self._say("500" if len(line) > 12_000 else "501")
        return response

    def _plain(self, initial: bytes | None) -> Play:
        response = yield from self._ask(initial)
        if response is None:
            return
        parts = [readable(part) for part in response.split(b"\0")]
        if len(parts) != 3 or None in parts:
            yield from self._say("501", "535")
        elif parts[0] not in {"", parts[1]}:
            yield from self._say("535", "501")
        else:
            yield from self._check(parts[1] or "", parts[2] or "")

    def _login(self, initial: bytes | None) -> Play:
        texts = []
        for given in (initial, None):
            response = yield from self._ask(given)
            if response is None:
                return
            text = readable(response)
            if text is None:
                yield from self._say("501")
                return
            texts.append(text)
        yield from self._check(*texts)

    def _check(self, name: str, password: str) -> Play:
        if self._is_barred(name):
            yield from self._say("421")
        elif (name, password) in self.rules.passwords:
            yield from self._say("235")
            self._enter(name)
        else:
            self.book.failures[self._key(name)] += 1
            yield from self._say("421" if self._is_barred(name) else "535")

    def _scram(self, initial: bytes | None) -> Play:
        """Only who computes the proof is let in; the client tells the book whether it did, by `proved`."""
        response = yield from self._ask(initial)
        if response is None:
            return
        match = re.match(rb"[a-z=,]*n=([a-z]+),", response)
        name = match[1].decode() if match else ""
        # What is no first message is 501; a name that is barred 421.
        code = yield from self._say("421" if self._is_barred(name) else "334", "501")
        for _ in range(2):
            if code != "334":
                break
            line = yield from self._line()
            codes = ["500", "501", "535", "421", *(["235"] if line == b"" else [])]
            code = yield from self._say("334", *codes)
        if code == "235":
            assert self.proved == name, "somebody is logged in without a proof"
            self._enter(name)
        elif code in {"535", "421"} and not self.had_too_many_errors and not self._is_barred(name):
            self.book.failures[self._key(name)] += 1

    def _enter(self, name: str) -> None:
        self.login = name
        if self.rules.is_trusted:
            del self.book.failures[self._key(name)]

    def _key(self, name: str) -> str:
        return name.casefold() if self.rules.is_trusted else ""

    def _is_barred(self, name: str) -> bool:
        return self.book.failures[self._key(name)] >= self.rules.login_failures


_MECHANISMS: Mapping[bytes, Callable[[Logins, bytes | None], Play]] = MappingProxyType(
    {b"PLAIN": Logins._plain, b"LOGIN": Logins._login, b"SCRAM-SHA-256": Logins._scram}
)
