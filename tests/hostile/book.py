"""A session as the book says it goes: what each octet of a client must bring, read from the RFCs and DESIGN.

This is the tests' own reading, line by line and slow, so that it can be compared with the listener's. Where the book
leaves a choice (a mutated address, an odd parameter) it takes what the server answers, and goes on from there.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tests.hostile.logins import Logins
from tests.hostile.reading import canonical
from tests.hostile.steps import ANY, Book, Expect, Message, NeedTls, Play

_LOCAL = rb"[a-z0-9]+(?:[.+-][a-z0-9]+)*"
_PATH = rb"<(%s)@([a-z0-9]+(?:\.[a-z0-9]+)+)>" % _LOCAL
_MAIL = re.compile(rb"FROM: ?(?:<>|%s)((?: +[A-Za-z0-9]+(?:=[A-Za-z0-9<>]+)?)*)" % _PATH, re.IGNORECASE)
_RCPT = re.compile(rb"TO: ?%s" % _PATH, re.IGNORECASE)
_MAIL_WORDS = frozenset(
    [b"SMTPUTF8", b"BODY=8BITMIME", b"BODY=7BIT", b"RET=HDRS", b"ENVID=X1", b"AUTH=<>", b"REQUIRETLS"]
)
_BDAT = re.compile(rb"([0-9]{1,20})( +LAST)?", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_HTTP = frozenset(b"GET POST PUT HEAD DELETE OPTIONS CONNECT TRACE PATCH PRI".split())
# Those whose answer depends on nothing.
_ALWAYS: Mapping[bytes, str] = MappingProxyType(
    {b"NOOP": "250", b"HELP": "214", b"VRFY": "252"}
    | dict.fromkeys(b"EXPN ETRN ATRN TURN SEND SOML SAML".split(), "502")
)
# What the fake `Acceptance` of the tests says, by the local part.
SENDERS = {b"stranger": "550", b"foreign": "550", b"nopassword": "550", b"full": "452", b"broken": "451"}
RECIPIENTS = {b"refused": "550", b"later": "451", b"mismatch": "550", b"header": "554", b"full": "452"}


class Session(Logins):
    """One connection: `play` says what must follow what was fed."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self._forget_all()

    def play(self) -> Play:
        yield Expect(frozenset(["220"]), is_enhanced=False)
        while not self.is_over:
            line = yield from self._line(is_command=True)
            yield from self._command(line)

    def _forget_all(self) -> None:
        self.hello = ""
        self.login = ""
        self._forget_mail()

    def _forget_mail(self) -> None:
        self._sender: str | None = ""
        self._has_mail = False
        self._is_utf8: bool | None = False
        self._recipients: list[str] = []
        self._has_named = False
        self._chunks: list[bytes] | None = None
        self._chunk_refusal = ""

    # What a command must bring (RFC 5321 section 4.1.1).

    def _command(self, line: bytes) -> Play:
        verb, _, argument = line.partition(b" ")
        verb, argument = verb.upper(), argument.strip(b" ")
        if _CONTROL.search(line) or len(line) > 12_000 or (len(line) > 2040 and verb != b"AUTH"):
            yield from self._say("500")
        elif verb in _HTTP:
            yield from self._say("421")
        elif verb in _ALWAYS:
            yield from self._say(_ALWAYS[verb])
        elif verb in _HANDLERS:
            yield from _HANDLERS[verb](self, argument)
        else:
            yield from self._say("500")

    def _ehlo(self, argument: bytes) -> Play:
        if not argument:
            yield from self._say("501")
            return
        reply = yield Expect(frozenset(["250"]), is_enhanced=False)
        self.hello = "EHLO"
        self._forget_mail()
        offered = {line[4:].partition(" ")[0] for line in reply[1:]}
        assert ("STARTTLS" in offered) == self.can_starttls
        assert ("REQUIRETLS" in offered) == self.is_tls
        assert ("AUTH" in offered) == self.may_log_in
        assert offered >= {"SIZE", "8BITMIME", "SMTPUTF8", "DSN", "PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES"}

    def _helo(self, argument: bytes) -> Play:
        if not argument:
            yield from self._say("501")
            return
        yield Expect(frozenset(["250"]), is_enhanced=False)
        self.hello = "HELO"
        self._forget_mail()

    def _mail(self, argument: bytes) -> Play:
        if not self.hello or self._has_mail:
            yield from self._say("503")
            return
        match = _MAIL.fullmatch(argument)
        words = match[3].upper().split() if match else []
        if match is None or not _MAIL_WORDS.issuperset(words) or len(set(words)) != len(words):
            yield from self._mutated_mail()
            return
        code = yield from self._say(self._judged(match[1], words))
        if code == "250":
            self._has_mail = True
            self._sender = f"{match[1].decode()}@{match[2].decode()}" if match[1] else None
            self._is_utf8 = b"SMTPUTF8" in words

    def _judged(self, local: bytes | None, words: list[bytes]) -> str:
        bodies = [word for word in words if word.startswith(b"BODY=")]
        if len(bodies) > 1:
            return "501"
        if b"REQUIRETLS" in words and not self.is_tls:
            return "555"
        if not self.may_submit:
            return "530"
        return SENDERS.get(local or b"", "250")

    def _mutated_mail(self) -> Play:
        code = yield from self._say("250", "451", "452", "501", "530", "550", "552", "553", "555")
        if code == "250":
            assert self.may_submit
            self._has_mail, self._sender, self._is_utf8 = True, ANY, None

    def _rcpt(self, argument: bytes) -> Play:
        if not self._has_mail or self._chunks is not None:
            yield from self._say("503")
            return
        self._has_named = True
        match = _RCPT.fullmatch(argument)
        is_full = len(self._recipients) >= self.rules.recipients
        if match is None:
            code = yield from self._say("452" if is_full else "250", "501", "553", "555")
        else:
            code = yield from self._say("452" if is_full else "250")
        if code == "250":
            self._recipients.append(f"{match[1].decode()}@{match[2].decode()}" if match else ANY)

    def _data_command(self, argument: bytes) -> Play:
        if argument:
            yield from self._say("501")
        elif not self._has_mail or self._chunks is not None:
            yield from self._say("503")
        elif not self._recipients:
            yield from self._say("554" if self._has_named else "503")
        else:
            yield Expect(frozenset(["354"]))
            raw = yield from self._data()
            yield from self._take(raw)

    def _bdat(self, argument: bytes) -> Play:
        """RFC 3030: what is refused is swallowed all the same, and the whole message with it."""
        match = _BDAT.fullmatch(argument)
        if match is None:
            yield from self._say("501")
            return
        is_last = match[2] is not None
        octets = yield from self._octets(int(match[1]))
        refusal = self._refusal_of_chunk()
        if self._has_mail and self._chunks is None:
            self._chunks, self._chunk_refusal = [], refusal
        refusal = self._chunk_refusal or refusal
        if self._chunks is not None:
            self._chunks.append(octets)
            if not refusal and sum(map(len, self._chunks)) > self.rules.message_size:
                refusal = self._chunk_refusal = "552"
        if refusal:
            yield from self._say(refusal, counts=False)
            if is_last:
                self._forget_mail()
        elif is_last:
            yield from self._take(b"".join(self._chunks or []))
        else:
            yield from self._say("250")

    def _refusal_of_chunk(self) -> str:
        if not self._has_mail:
            return "503"
        if self._recipients:
            return ""
        return "554" if self._has_named else "503"

    def _take(self, raw: bytes) -> Play:
        """The message is whole: it counts exactly if it can be read in one way and is not too large."""
        content = canonical(raw)
        if len(raw) > self.rules.message_size:
            yield from self._say("552", counts=False)
        elif content is None:
            yield from self._say("554", counts=False)
        else:
            self.book.messages.append(
                Message(self._sender, tuple(self._recipients), content, self._protocol(), self.login)
            )
            code = yield from self._say(*self._decisions(), counts=False)
            if code == "250":
                self._errors = 0
        self._forget_mail()

    def _decisions(self) -> tuple[str, ...]:
        first = self._recipients[0]
        if first == ANY:
            return ("250", *RECIPIENTS.values())
        return (RECIPIENTS.get(first.partition("@")[0].encode(), "250"),)

    def _protocol(self) -> str:
        if self._is_utf8 is None:
            return ANY
        if self.hello == "HELO":
            return "SMTP"
        return ("UTF8SMTP" if self._is_utf8 else "ESMTP") + "S" * self.is_tls + "A" * bool(self.login)

    def _rset(self, argument: bytes) -> Play:
        yield from self._say("501" if argument else "250")
        if not argument:
            self._forget_mail()

    def _quit(self, argument: bytes) -> Play:
        yield from self._say("501" if argument else "221")

    def _starttls(self, argument: bytes) -> Play:
        if self.is_tls:
            yield from self._say("503")
        elif not self.can_starttls:
            yield from self._say("502")
        elif argument:
            yield from self._say("501")
        else:
            yield Expect(frozenset(["220"]))
            # RFC 3207 section 4.2: whatever was said before is forgotten, what came behind it in plain included.
            self._input = b""
            self._forget_all()
            self.is_tls = True
            yield NeedTls()


_HANDLERS: Mapping[bytes, Callable[[Session, bytes], Play]] = MappingProxyType(
    {
        b"EHLO": Session._ehlo,
        b"HELO": Session._helo,
        b"MAIL": Session._mail,
        b"RCPT": Session._rcpt,
        b"DATA": Session._data_command,
        b"BDAT": Session._bdat,
        b"RSET": Session._rset,
        b"QUIT": Session._quit,
        b"STARTTLS": Session._starttls,
        b"AUTH": Session._auth,
    }
)
