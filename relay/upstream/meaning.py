"""What an upstream's answer means: one table, first match wins, a server's own rules before it.

Rows that cite no source are RFC 5321 section 4.2.1: what the first digit says. Texts are matched without case.
SECURITY: the texts come from the server; every pattern here takes linear time.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from relay.directory.model import AnswerRule, Meaning
from relay.mail.reply import Reply
from relay.upstream.phase import BEFORE_LOGIN, Phase

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
