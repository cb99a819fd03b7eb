"""What came of a delivery, and what a server's words mean: phases, failures, the table of answers, waiting times.

Every way in which a step can fail becomes one kind of value, by `failure_of`:

socket.gaierror                       the name is not found
ssl.SSLError                          no secure connection
TimeoutError                          no answer in time   (with SMTPTimeoutError and those under it)
ConnectionError, OSError              lost or unreachable (with SMTPServerDisconnected, SMTPConnectError)
SMTPResponseException                 an answer           (and those under it); -1 stands for garbage
SMTPRecipientsRefused                 its first recipient's answer
SMTPNotSupported, ValueError          this item cannot be told to this server
SMTPException                         anything else that aiosmtplib says

SECURITY: the texts come from the server; every pattern here takes linear time.
"""

import errno
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from aiosmtplib.errors import SMTPException, SMTPNotSupported, SMTPRecipientsRefused, SMTPResponseException

from relay.directory.model import AnswerRule, Meaning
from relay.mail.reply import Reply, clean_text


class Phase(StrEnum):
    """The steps of a delivery, in their order."""

    RESOLVE = "resolve"
    """The server's name is looked up."""
    CONNECT = "connect"
    """A TCP connection is made."""
    GREETING = "greeting"
    """The server's first words are awaited."""
    EHLO = "ehlo"
    """EHLO, before and after STARTTLS."""
    STARTTLS = "starttls"
    """TLS begins, by STARTTLS or from the start."""
    LOGIN = "login"
    """AUTH."""
    MAIL = "mail"
    """MAIL, and a RSET before it."""
    RCPT = "rcpt"
    """One RCPT after the other."""
    DATA = "data"
    """DATA was sent, 354 is awaited."""
    CONTENT = "content"
    """The message is on its way, its final dot is not."""
    FINAL = "final"
    """Our final dot was sent, no answer yet: from here on a lost connection leaves the outcome unknown."""


BEFORE_LOGIN = frozenset({Phase.RESOLVE, Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.STARTTLS})
"""Where a server knows neither the login nor the message: what it says there is about neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One thing that did not work.

    `reply` is the server's own, or one that we made where it gave none (`from_server` tells which). `detail` is for
    the log alone: an exception's words, host names. `in_next_transaction` marks a recipient that the server only has
    no room for in this transaction (452 4.5.3 at RCPT, RFC 5321 section 4.5.3.1.10): send it in another one.
    `out_of_step`: the server's answers cannot be those of our commands, so nothing that it said is believed.
    """

    phase: Phase
    reply: Reply
    meaning: Meaning
    from_server: bool
    detail: str = ""
    in_next_transaction: bool = False
    out_of_step: bool = False

    @property
    def is_closing(self) -> bool:
        """Whether the server only closed this connection (421), without words that say more."""
        return self.from_server and self.reply.code == 421 and self.meaning is Meaning.TEMPORARY

    @property
    def is_refused_login(self) -> bool:
        """Whether the server refused who we said we are."""
        return self.from_server and self.phase is Phase.LOGIN and self.meaning is Meaning.LOGIN_REFUSED

    @property
    def why(self) -> str:
        """The reply and what else is known, for those who look after the accounts."""
        return f"{self.reply} ({self.detail})" if self.detail else str(self.reply)

    def __str__(self) -> str:
        return f"{self.phase}: {self.reply}" + (f" ({self.detail})" if self.detail else "")


class Failed(Exception):
    """A step of a delivery did not work. Carries its failure; inside `upstream` only."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection was encrypted: "TLSv1.3" and the cipher's name."""

    version: str
    cipher: str


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class Outcome:
    """What came of one transfer: `accepted` or `failure`, never both.

    `accepted` is the answer to the final dot: every recipient that is not in `refused` has the message. `failure` is
    why nobody has it; where recipients were refused, that is the first one's. `refused` holds the recipients that were
    refused at RCPT, by their index in the transfer. `host` and `tls` say who answered and how the way was protected,
    `has_dsn` whether the server was told what the client asked about reports (RFC 3461) and so answers for it.
    `refuses_null_sender`: what failed was MAIL FROM:<> itself, and so says nothing about the account.
    `on_new_connection`: no message went over this connection before.
    """

    host: str
    accepted: Reply | None = None
    failure: Failure | None = None
    refused: Mapping[int, Failure] = field(default_factory=dict)
    tls: Tls | None = None
    has_dsn: bool = False
    refuses_null_sender: bool = False
    on_new_connection: bool = True

    def __post_init__(self) -> None:
        if (self.accepted is None) == (self.failure is None):
            raise ValueError("a transfer is either accepted or has failed")

    @property
    def is_complete(self) -> bool:
        """Whether the server has the message for every recipient."""
        return self.failure is None and not self.refused

    @property
    def first_failure(self) -> Failure | None:
        """What went wrong, or at the first recipient; recipients whose turn is still to come are no failure."""
        if self.failure is not None or not self.refused:  # nearly always nothing at all
            return self.failure
        return next((each for each in self.refused.values() if each.from_server), None)

    def failure_at(self, index: int) -> Failure | None:
        """What happened to one recipient: None where the server accepted the message for it."""
        return self.refused.get(index, self.failure) if self.refused else self.failure


_ALL = frozenset(Phase)
_LOGIN = frozenset({Phase.LOGIN})
_MAIL = frozenset({Phase.MAIL})
_RCPT = frozenset({Phase.RCPT})
_SENDING = frozenset({Phase.MAIL, Phase.DATA, Phase.CONTENT, Phase.FINAL})
_AFTER_MAIL = frozenset({Phase.RCPT, Phase.DATA, Phase.CONTENT, Phase.FINAL})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: all that is given must match. The patterns are regular expressions.

    `code` and `enhanced` match the whole code, `text` is found anywhere in the words.
    """

    meaning: Meaning
    code: str = "..."
    enhanced: str = r".*"
    text: str = ""
    phases: frozenset[Phase] = _ALL

    def matches(self, phase: Phase, reply: Reply) -> bool:
        """Whether this row speaks about that reply in that phase."""
        return (
            phase in self.phases
            and re.fullmatch(self.code, str(reply.code)) is not None
            and re.fullmatch(self.enhanced, reply.enhanced) is not None
            and re.search(self.text, reply.text, re.IGNORECASE) is not None
        )


TABLE: tuple[Row, ...] = (
    # A server that closes the connection (RFC 5321 section 3.8) and says why: too much at once, or policy (RFC 3463
    # X.7.X), such as Gmail's 421 4.7.0, or for how long.
    Row(Meaning.THROTTLE, code="421", enhanced=r"4\.7\.\d+"),
    Row(Meaning.THROTTLE, code="421", text=r"too (?:many|much|fast)|\brate\b|\blimit|throttl|concurrent|slow down"),
    Row(Meaning.THROTTLE, code="421", text=r"\b(?:in|after|for) \d{1,6} ?(?:s|m|h)"),
    # Any other 421 ends that connection; it slows the account when a new one is told so again
    # (relay.delivery.accounts). No enhanced code makes more of it: Gmail's 421 4.4.5 is a busy server, where its 550
    # 5.4.5 is a used-up day.
    Row(Meaning.TEMPORARY, code="421"),
    # Google at AUTH: "454 4.7.0 Too many login attempts" (support.google.com/a/answer/3726730); the same code in other
    # words, such as Postfix's "Temporary authentication failure", is a server that cannot check passwords now.
    Row(Meaning.THROTTLE, code="4..", text=r"too many (?:failed )?(?:log-?ins?|auth)", phases=_LOGIN),
    # Microsoft 365, more than its recipients a day: a 5xx that the rolling window heals
    # (learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements).
    Row(Meaning.QUOTA, text=r"SubmissionQuotaExceededException"),
    # Gmail 550 5.4.5, its daily limit of a user (support.google.com/a/answer/166852).
    Row(Meaning.QUOTA, enhanced=r"[45]\.4\.5"),
    # Google's SMTP relay 550 5.7.1 and Amazon SES 454 name the day in their words only.
    Row(Meaning.QUOTA, text=r"Daily (?:SMTP relay|message|user sending)\b.{0,80}?\b(?:limit|quota) exceeded"),
    # SendGrid: used-up credits, said at AUTH.
    Row(Meaning.QUOTA, code="451", text=r"Maximum credits exceeded"),
    # Amazon SES: sending too fast (docs manage-sending-quotas-errors).
    Row(Meaning.THROTTLE, code="454", text=r"Throttling failure"),
    # Microsoft 365: over 3 connections (smtp-submission-improvements).
    Row(Meaning.THROTTLE, code="432", enhanced=r"4\.3\.2", text=r"concurrent|thread limit"),
    # In other words than these the same codes ask for a slower pace too, where they are about sending. At AUTH and
    # STARTTLS they are about those (RFC 4954 section 6, RFC 3207 section 4), at RCPT about that recipient.
    Row(Meaning.THROTTLE, code="432|454", phases=_SENDING),
    # Google's SMTP relay: too many at once for the customer.
    Row(Meaning.THROTTLE, code="450", enhanced=r"4\.2\.1", text=r"\bpeak\b"),
    # Security or policy for now (RFC 3463 X.7.X); at RCPT it is that recipient's (greylisting), at AUTH the login's.
    Row(Meaning.THROTTLE, code="4..", enhanced=r"4\.7\.\d+", phases=_ALL - _LOGIN - _RCPT),
    # Too many recipients, said where no recipient is meant (RFC 5321 section 4.5.3.1.10 speaks of RCPT).
    Row(Meaning.THROTTLE, code="452", enhanced=r"4\.5\.3", phases=_ALL - _RCPT),
    # Microsoft 365: the mailbox is shut out after continued errors; 550, where the same number with 554 is the error
    # itself (learn.microsoft.com, continuous-error-throttling-smtp-auth-submissions).
    Row(Meaning.LOCK_OUT, code="550", enhanced=r"5\.2\.25[1-5]"),
    # RFC 4954 section 6, and Microsoft 365: 5.7.3, 5.7.139 (SMTP AUTH disabled), 5.7.30 (basic auth gone).
    Row(Meaning.LOGIN_REFUSED, code="53[0458]", phases=_LOGIN),
    Row(Meaning.LOGIN_REFUSED, enhanced=r"5\.7\.(?:3|8|9|30|139)", phases=_LOGIN),
    # Any other lasting answer to AUTH: the login does not work, the message is not at fault.
    Row(Meaning.LOGIN_REFUSED, code="5..", phases=_LOGIN),
    # RFC 4954 section 6: "530 Authentication required" answers MAIL; Microsoft 365 says 530 5.7.57.
    Row(Meaning.LOGIN_REFUSED, code="530", phases=_MAIL),
    Row(Meaning.LOGIN_REFUSED, code="530", enhanced=r"5\.7\.\d+", phases=_AFTER_MAIL),
    # Microsoft 365: this account may not send as this address (gophish#2900; OfficeDocs-Support#1187).
    Row(Meaning.IDENTITY_REFUSED, code="554", enhanced=r"5\.2\.252"),
    Row(Meaning.IDENTITY_REFUSED, text=r"SendAsDenied"),
    # The same in older words (gophish#1600). Exactly 5.7.60: 5.7.606 to 5.7.649 is a blocked network.
    Row(Meaning.IDENTITY_REFUSED, enhanced=r"5\.7\.60"),
    Row(Meaning.IDENTITY_REFUSED, code="5..", text=r"not have permissions? to send as this sender"),
    # Postfix and those built on it with 553, Yandex with 550 (docker-postfix#67).
    Row(Meaning.IDENTITY_REFUSED, code="55[03]", text=r"\bnot owned\b"),
    # Zoho: "Relaying disallowed as <address>".
    Row(Meaning.IDENTITY_REFUSED, code="553", text=r"Relaying disallowed"),
    # Amazon SES, for From, Sender and Return-Path alike, and for a user without the right to send (docs
    # troubleshoot-smtp).
    Row(Meaning.IDENTITY_REFUSED, text=r"Email address is not verified"),
    Row(Meaning.IDENTITY_REFUSED, code="554", text=r"not authorized to perform .?ses:"),
    # A strict host that compares From with the envelope (decke/smtprelay#134).
    Row(Meaning.IDENTITY_REFUSED, text=r"header from does not match"),
    # SendGrid: "You are not authorized to send from that email address", a code of its own.
    Row(Meaning.IDENTITY_REFUSED, code="403"),
    # Microsoft 365 keeps sent mail in the mailbox and fills it; at RCPT the same words are about a recipient's mailbox.
    Row(Meaning.ACCOUNT_FULL, code="554", enhanced=r"5\.2\.2", phases=_ALL - _RCPT),
    # A server that turns us away before it knows the message says nothing about the message: it waits.
    Row(Meaning.TEMPORARY, code="5..", phases=BEFORE_LOGIN),
    # This recipient (RCPT: 5.1.x, 5.2.1) or this message (5.3.4, 5.6.x, the rest), for good.
    Row(Meaning.REFUSED, code="5.."),
    Row(Meaning.TEMPORARY),
)


def meaning_of(phase: Phase, reply: Reply, rules: Iterable[AnswerRule] = ()) -> Meaning:
    """Return what a server's refusing reply means. `rules` are the server's own from directory.toml.

    A rule is found in "CODE TEXT", with the enhanced code between them and without it, in any case of letters.
    """
    said = f"{reply}\n{reply.code} {reply.text}".casefold()
    for rule in rules:
        if rule.match.casefold() in said:
            return rule.means
    return next(row.meaning for row in TABLE if row.matches(phase, reply))


def is_overflow(phase: Phase, reply: Reply) -> bool:
    """Whether the server only wants the rest of the recipients in another transaction (RFC 5321 section 4.5.3.1.10)."""
    return phase is Phase.RCPT and reply.code == 452 and reply.enhanced == "4.5.3"


# Only behind words that speak of waiting: "500 messages in 24 hours" names a limit and no end of it.
_WINDOW = re.compile(
    r"\b(?:try(?: again)?|retry|retry-after|wait|come back|blocked|locked|suspended|disabled)"
    r"(?: later| out)?(?: in| after| for| at least|:)?(?: about| another| at least)? "
    r"?([0-9]{1,6}) ?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)\b",
    re.IGNORECASE,
)
_SECONDS: Mapping[str, int] = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86400})


def named_window(text: str) -> float | None:
    """Return the seconds that a server's words ask to wait, None where they name no time."""
    found = _WINDOW.search(text)
    if found is None or not int(found[1]):
        return None
    return float(int(found[1]) * _SECONDS[found[2][0].lower()])


_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_NO_WAY: Mapping[int | None, str] = MappingProxyType(
    {
        errno.ENETUNREACH: "this machine has no way to its network",
        errno.EHOSTUNREACH: "no machine answers at its address",
        errno.EADDRNOTAVAIL: "this machine has no free port or no address for it",
        errno.EACCES: "this machine does not permit it",
        errno.EPERM: "this machine does not permit it",
        errno.EMFILE: "this process has too many files open",
        errno.ENFILE: "this machine has too many files open",
    }
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server as its settings name it, and how many seconds it had for the step that failed."""

    host: str
    port: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


def describe(error: BaseException, phase: Phase, peer: Peer) -> str:
    """Return what an exception of the network means, in one sentence without Python's names where there is one."""
    # The order matters: resolver, TLS and timeout errors are OSErrors too. asyncio aborts a handshake that lasts.
    match error:
        case socket.gaierror():
            return _unresolved(error, peer)
        case ssl.SSLCertVerificationError(verify_message=str(message)):
            return f"the certificate of {peer} is not accepted: {message}"
        case ssl.SSLError():
            return f"TLS with {peer} failed: {_tls_reason(error)}"
        case TimeoutError() | ConnectionAbortedError():
            who = f"the name server about {peer.host}" if phase is Phase.RESOLVE else peer
            return f"no answer from {who} within {peer.seconds:g} s"
        case ConnectionRefusedError():
            return f"connection refused by {peer}"
        case ConnectionError():
            is_reset = isinstance(error, ConnectionResetError) or isinstance(error.__cause__, ConnectionResetError)
            return f"{peer} {'reset' if is_reset else 'closed'} the connection"
        case OSError(filename=str(name)):
            return f"{name}: {error.strerror}"
        case OSError(errno=number) if number in _NO_WAY:
            return f"no connection to {peer}: {_NO_WAY[number]}"
    cause = f": {error.__cause__}" if error.__cause__ else ""
    return f"{type(error).__name__}: {error}{cause}"


def _unresolved(error: socket.gaierror, peer: Peer) -> str:
    if error.errno in _NO_SUCH_NAME:
        return f"the name {peer.host} does not exist"
    if error.errno == socket.EAI_AGAIN:
        return f"no name server answers about {peer.host}"
    return f"the name {peer.host} cannot be looked up: {error.strerror}"


def _tls_reason(error: ssl.SSLError) -> str:
    # OpenSSL's reasons are words already: WRONG_VERSION_NUMBER. What did not come from it has none.
    reason: str | None = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if reason else str(error.strerror or error)


MAPPED = (SMTPException, OSError, ValueError)
"""What a step may raise. asyncio's and aiosmtplib's timeouts, ssl's and the resolver's errors are OSErrors."""

_NOT_FOUND = Reply(451, "4.4.3", "The name of the mail server cannot be resolved")
_UNREACHABLE = Reply(451, "4.4.1", "The mail server cannot be reached")
_LOST = Reply(451, "4.4.2", "The connection to the mail server was lost")
_SILENT = Reply(451, "4.4.2", "The mail server did not answer in time")
_NO_TLS = Reply(451, "4.7.5", "No secure connection to the mail server")
_GARBAGE = Reply(451, "4.5.0", "The mail server gave an answer that makes no sense")
_NOT_SENDABLE = Reply(554, "5.5.4", "The message cannot be put in terms of the mail server")
_NOT_USABLE = Reply(451, "4.3.5", "The settings for the mail server do not work")
_TRANSACTION = frozenset({Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.CONTENT})
_NOT_CONNECTED = frozenset({Phase.RESOLVE, Phase.CONNECT})
_DETAIL = 500
_TOO_LARGE = frozenset({"5.2.3", "5.3.4"})


def refusal(phase: Phase, reply: Reply, rules: tuple[AnswerRule, ...] = ()) -> Failure:
    """Return the failure that a server's 4xx or 5xx reply is."""
    is_full = is_overflow(phase, reply)
    meaning = meaning_of(phase, reply, rules)
    return Failure(phase=phase, reply=reply, meaning=meaning, from_server=True, in_next_transaction=is_full)


def own_failure(phase: Phase, reply: Reply, meaning: Meaning, detail: str = "") -> Failure:
    """Return a failure in our own words. After the final dot it is always unknown: the server may have the message."""
    if phase is Phase.FINAL:
        meaning = Meaning.UNKNOWN
    return Failure(phase=phase, reply=reply, meaning=meaning, from_server=False, detail=clean_text(detail)[:_DETAIL])


def garbage(phase: Phase, detail: str) -> Failure:
    """Return the failure of an answer that is none: no reply code, or one that cannot answer what was asked."""
    return replace(own_failure(phase, _GARBAGE, Meaning.TEMPORARY, detail), out_of_step=True)


def early_failure(phase: Phase, reply: Reply, rules: tuple[AnswerRule, ...] = ()) -> Failure:
    """Return the failure that a 4xx or 5xx is which came before the end of the message, and so answers no command.

    A 421 may come at any moment (RFC 5321 section 3.8), and that a message is too large is found out on its way.
    """
    failure = refusal(phase, reply, rules)
    if reply.code in {421, 552} or reply.enhanced in _TOO_LARGE:
        return failure
    meaning = Meaning.TEMPORARY if failure.meaning is Meaning.REFUSED else failure.meaning
    return replace(failure, meaning=meaning, detail="it came before the end of the message", out_of_step=True)


def failure_of(error: BaseException, phase: Phase, peer: Peer, rules: tuple[AnswerRule, ...] = ()) -> Failure:
    """Return the failure that an exception (one of MAPPED) is in that phase of talking to that server."""
    if isinstance(error, SMTPRecipientsRefused) and error.recipients:
        error = error.recipients[0]
    if isinstance(error, SMTPResponseException):
        if not 400 <= error.code <= 599:
            return garbage(phase, f"{error.code} {error.message}")
        return refusal(phase, Reply.of_upstream(error.code, error.message), rules)
    reply, meaning = _own_reply(error, phase)
    return own_failure(phase, reply, meaning, describe(error, phase, peer))


def _own_reply(error: BaseException, phase: Phase) -> tuple[Reply, Meaning]:
    # The order matters: resolver, TLS and timeout errors are OSErrors too, and a certificate error is a ValueError.
    if isinstance(error, socket.gaierror):
        return _NOT_FOUND, Meaning.TEMPORARY
    if isinstance(error, ssl.SSLError) or (isinstance(error, OSError) and phase is Phase.STARTTLS):
        return _NO_TLS, Meaning.TEMPORARY
    if isinstance(error, TimeoutError):
        return (_UNREACHABLE if phase in _NOT_CONNECTED else _SILENT), Meaning.TEMPORARY
    if isinstance(error, OSError):
        return (_UNREACHABLE if phase in _NOT_CONNECTED else _LOST), Meaning.TEMPORARY
    if isinstance(error, (ValueError, SMTPNotSupported)):
        is_item = phase in _TRANSACTION
        return (_NOT_SENDABLE, Meaning.REFUSED) if is_item else (_NOT_USABLE, Meaning.TEMPORARY)
    return _GARBAGE, Meaning.TEMPORARY
