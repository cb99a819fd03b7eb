"""Every way in which a step can fail, as one kind of value: replies, and each exception that the network can raise.

socket.gaierror                       the name is not found
ssl.SSLError                          no secure connection
TimeoutError                          no answer in time   (with SMTPTimeoutError and those under it)
ConnectionError, OSError              lost or unreachable (with SMTPServerDisconnected, SMTPConnectError)
SMTPResponseException                 an answer           (and those under it); -1 stands for garbage
SMTPRecipientsRefused                 its first recipient's answer
SMTPNotSupported, ValueError          this item cannot be told to this server
SMTPException                         anything else that aiosmtplib says
"""

import socket
import ssl
from dataclasses import replace

from aiosmtplib.errors import SMTPException, SMTPNotSupported, SMTPRecipientsRefused, SMTPResponseException

from relay.directory.model import AnswerRule, Meaning
from relay.mail.reply import Reply, clean_text
from relay.upstream.meaning import is_overflow, meaning_of
from relay.upstream.outcome import Failure
from relay.upstream.phase import Phase
from relay.upstream.wording import Peer, describe

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
