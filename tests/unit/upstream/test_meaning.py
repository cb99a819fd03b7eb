"""Each row of the table of answers, with the literal texts of the providers (providers.md)."""

import pytest

from relay.directory.model import AnswerRule, Meaning
from relay.mail.reply import Reply
from relay.upstream.outcome import TABLE, Phase, is_overflow, meaning_of
from tests.peers.rows import each_row

DAILY = "Daily SMTP relay limit exceeded for"
SES_UNVERIFIED = "Email address is not verified. The following identities failed the check in region US-EAST-1: a@b.c"

ROWS = [
    # quota
    (Phase.FINAL, "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", Meaning.QUOTA),
    (Phase.MAIL, "550 5.4.5 Daily user sending limit exceeded.", Meaning.QUOTA),
    (Phase.RCPT, f"550 5.4.5 {DAILY} user", Meaning.QUOTA),
    (Phase.RCPT, f"550 5.7.1 {DAILY} customer", Meaning.QUOTA),
    (Phase.FINAL, "454 Throttling failure: Daily message quota exceeded", Meaning.QUOTA),
    (Phase.LOGIN, "451 Authentication failed: Maximum credits exceeded", Meaning.QUOTA),
    # throttle
    (Phase.FINAL, "454 Throttling failure: Maximum sending rate exceeded", Meaning.THROTTLE),
    (Phase.GREETING, "421 Too many concurrent SMTP connections", Meaning.THROTTLE),
    (Phase.LOGIN, "421 4.7.0 Try again later, closing connection.", Meaning.THROTTLE),
    (Phase.RCPT, "421 4.3.0 Temporary System Problem", Meaning.TEMPORARY),
    (Phase.FINAL, "421 4.4.5 Server busy, try again later.", Meaning.TEMPORARY),
    (Phase.MAIL, "421 4.4.2 idle timeout, closing connection", Meaning.TEMPORARY),
    (Phase.MAIL, "421 4.3.2 sending rate exceeded", Meaning.THROTTLE),
    (Phase.GREETING, "421 try again in 10 minutes", Meaning.THROTTLE),
    (Phase.LOGIN, "454 4.7.0 Too many login attempts, please try again later.", Meaning.THROTTLE),
    (Phase.LOGIN, "454 4.7.0 Cannot authenticate due to a temporary system problem", Meaning.TEMPORARY),
    (Phase.LOGIN, "432 4.3.2 Concurrent connections limit exceeded", Meaning.THROTTLE),
    (Phase.FINAL, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Meaning.THROTTLE),
    (Phase.MAIL, "450 4.2.1 Peak SMTP relay limit exceeded for customer", Meaning.THROTTLE),
    (Phase.MAIL, "450 4.7.1 slow down", Meaning.THROTTLE),
    (Phase.MAIL, "432 4.3.2 slow down", Meaning.THROTTLE),
    (Phase.FINAL, "454 4.3.0 Too many messages", Meaning.THROTTLE),
    (Phase.RCPT, "454 4.7.1 Relay access denied", Meaning.TEMPORARY),
    (Phase.STARTTLS, "454 4.7.0 TLS not available", Meaning.THROTTLE),
    (Phase.LOGIN, "432 4.7.12 A password transition is needed", Meaning.TEMPORARY),
    (Phase.FINAL, "451 4.7.500 Server busy", Meaning.THROTTLE),
    (Phase.MAIL, "452 4.5.3 Too many recipients", Meaning.THROTTLE),
    (Phase.DATA, "452 4.5.3 Too many recipients", Meaning.THROTTLE),
    # lock-out: 550, where the same numbers with 554 mean the error itself
    (Phase.MAIL, "550 5.2.251 throttled: mailbox full", Meaning.LOCK_OUT),
    (Phase.MAIL, "550 5.2.252 throttled: SendAsDenied", Meaning.LOCK_OUT),
    (Phase.FINAL, "550 5.2.253 throttled: licence", Meaning.LOCK_OUT),
    (Phase.FINAL, "550 5.2.254 throttled: too many recipients", Meaning.LOCK_OUT),
    (Phase.FINAL, "550 5.2.255 throttled: invalid recipients", Meaning.LOCK_OUT),
    # login-refused
    (Phase.LOGIN, "535 5.7.3 Authentication unsuccessful", Meaning.LOGIN_REFUSED),
    (Phase.LOGIN, "535 5.7.139 SmtpClientAuthentication is disabled for the Tenant", Meaning.LOGIN_REFUSED),
    (Phase.LOGIN, "535 5.7.8 Username and Password not accepted", Meaning.LOGIN_REFUSED),
    (Phase.LOGIN, "534 5.7.9 Application-specific password required", Meaning.LOGIN_REFUSED),
    (Phase.LOGIN, "538 5.7.11 Encryption required", Meaning.LOGIN_REFUSED),
    (Phase.LOGIN, "530 Must issue STARTTLS", Meaning.LOGIN_REFUSED),
    (Phase.LOGIN, "535 Authentication Failed", Meaning.LOGIN_REFUSED),
    (
        Phase.LOGIN,
        "550 5.7.30 Basic authentication is not supported for Client Submission",
        Meaning.LOGIN_REFUSED,
    ),
    (Phase.LOGIN, "504 5.5.4 Unrecognized authentication type", Meaning.LOGIN_REFUSED),
    (Phase.MAIL, "530 5.7.57 Client not authenticated to send mail", Meaning.LOGIN_REFUSED),
    (Phase.MAIL, "530 Authentication required", Meaning.LOGIN_REFUSED),
    (Phase.RCPT, "530 5.7.0 Authentication required", Meaning.LOGIN_REFUSED),
    # temporary at login
    (Phase.LOGIN, "454 4.7.0 Temporary authentication failure", Meaning.TEMPORARY),
    (Phase.LOGIN, "451 4.7.0 Temporary server error", Meaning.TEMPORARY),
    # identity-refused
    (Phase.FINAL, "554 5.2.252 SendAsDenied; a@x not allowed to send as b@x; STOREDRV", Meaning.IDENTITY_REFUSED),
    (Phase.FINAL, "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException", Meaning.IDENTITY_REFUSED),
    (
        Phase.FINAL,
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
        Meaning.IDENTITY_REFUSED,
    ),
    (
        Phase.FINAL,
        "550 5.7.1 Client does not have permissions to send as this sender",
        Meaning.IDENTITY_REFUSED,
    ),
    (Phase.RCPT, "553 5.7.1 <a@b.c>: Sender address rejected: not owned by user joe", Meaning.IDENTITY_REFUSED),
    (
        Phase.FINAL,
        "550 5.7.0 Sender or From header address rejected: not owned by authorized user",
        Meaning.IDENTITY_REFUSED,
    ),
    (Phase.MAIL, "553 Relaying disallowed as <a@b.c>", Meaning.IDENTITY_REFUSED),
    (Phase.FINAL, f"554 Message rejected: {SES_UNVERIFIED}", Meaning.IDENTITY_REFUSED),
    (
        Phase.FINAL,
        "554 Access denied: User `arn:x' is not authorized to perform `ses:SendRawEmail' on resource",
        Meaning.IDENTITY_REFUSED,
    ),
    (Phase.FINAL, "550 5.7.1 header from does not match MAIL FROM", Meaning.IDENTITY_REFUSED),
    (Phase.MAIL, "403 You are not authorized to send from that email address", Meaning.IDENTITY_REFUSED),
    # account-full, and a recipient's full mailbox
    (Phase.FINAL, "554 5.2.2 mailbox full", Meaning.ACCOUNT_FULL),
    (Phase.RCPT, "554 5.2.2 mailbox full", Meaning.REFUSED),
    (Phase.RCPT, "552 5.2.2 mailbox full", Meaning.REFUSED),
    # refused, for this recipient or this message
    (Phase.RCPT, "550 5.1.1 no such user", Meaning.REFUSED),
    (Phase.RCPT, "551 5.1.6 moved", Meaning.REFUSED),
    (Phase.RCPT, "553 5.1.3 bad address", Meaning.REFUSED),
    (Phase.RCPT, "550 5.2.1 mailbox disabled", Meaning.REFUSED),
    (Phase.MAIL, "552 5.3.4 message too big", Meaning.REFUSED),
    (Phase.FINAL, "554 5.3.4 message too big", Meaning.REFUSED),
    (Phase.FINAL, "552 5.2.3 message too big", Meaning.REFUSED),
    (Phase.FINAL, "554 5.6.0 not readable", Meaning.REFUSED),
    (Phase.FINAL, "554 Transaction failed: Recipient count exceeds 50", Meaning.REFUSED),
    (Phase.DATA, "554 5.5.1 no valid recipients", Meaning.REFUSED),
    (Phase.FINAL, "550 5.7.606 Access denied, banned sending IP", Meaning.REFUSED),
    # a server that turns us away has said nothing about the message
    (Phase.GREETING, "554 5.7.1 no service for your network", Meaning.TEMPORARY),
    (Phase.EHLO, "550 bad name", Meaning.TEMPORARY),
    # temporary
    (Phase.RCPT, "450 4.2.0 mailbox busy", Meaning.TEMPORARY),
    (Phase.RCPT, "451 4.7.1 Greylisted", Meaning.TEMPORARY),
    (Phase.RCPT, "452 4.5.3 Too many recipients", Meaning.TEMPORARY),
    (Phase.MAIL, "451 Temporary service failure", Meaning.TEMPORARY),
    (Phase.FINAL, "452 4.2.2 over quota", Meaning.TEMPORARY),
    (Phase.FINAL, "451 4.3.0 disk", Meaning.TEMPORARY),
]


def reply_of(text: str) -> Reply:
    return Reply.of_upstream(int(text[:3]), text[4:])


@each_row(("phase", "text", "meaning"), ROWS, ids=[f"{phase}: {text}" for phase, text, _ in ROWS])
def test_an_answer_means(phase: Phase, text: str, meaning: Meaning) -> None:
    assert meaning_of(phase, reply_of(text)) is meaning


def test_every_row_of_the_table_is_met_by_some_answer() -> None:
    first = [next(row for row in TABLE if row.matches(phase, reply_of(text))) for phase, text, _ in ROWS]
    assert [row for row in TABLE if row not in first] == []


def test_words_are_found_in_any_case_and_over_several_lines() -> None:
    reply = Reply.of_upstream(554, "5.2.0 STOREDRV\n5.2.0 submissionquotaexceededexception")
    assert meaning_of(Phase.FINAL, reply) is Meaning.QUOTA


@pytest.mark.parametrize("match", ["mailbox busy", "MAILBOX", "450 mailbox", "450 4.2.0 mailbox", "4.2.0"])
def test_a_servers_own_rule_comes_before_the_table(match: str) -> None:
    rules = (AnswerRule(match="something else", means=Meaning.QUOTA), AnswerRule(match=match, means=Meaning.LOCK_OUT))
    assert meaning_of(Phase.RCPT, reply_of("450 4.2.0 Mailbox busy"), rules) is Meaning.LOCK_OUT


def test_a_rule_may_name_a_code_that_the_server_gave_no_enhanced_code_with() -> None:
    rules = (AnswerRule(match="450 mailbox busy", means=Meaning.THROTTLE),)
    assert meaning_of(Phase.RCPT, reply_of("450 Mailbox busy"), rules) is Meaning.THROTTLE


def test_the_first_matching_rule_wins() -> None:
    rules = (AnswerRule(match="busy", means=Meaning.QUOTA), AnswerRule(match="mailbox", means=Meaning.THROTTLE))
    assert meaning_of(Phase.RCPT, reply_of("450 mailbox busy"), rules) is Meaning.QUOTA


def test_only_at_rcpt_the_rest_goes_in_another_transaction() -> None:
    assert is_overflow(Phase.RCPT, reply_of("452 4.5.3 too many"))
    assert not is_overflow(Phase.MAIL, reply_of("452 4.5.3 too many"))
    assert not is_overflow(Phase.RCPT, reply_of("452 4.3.1 too many"))
    assert not is_overflow(Phase.RCPT, reply_of("552 5.5.3 too many"))


@pytest.mark.parametrize("text", ["Daily message ", "not authorized to perform ", "not "])
def test_no_text_of_a_server_takes_long_to_read(text: str) -> None:
    """A pattern that goes back at each word would take hours for a mebibyte, and be ended."""
    meaning_of(Phase.FINAL, Reply.of_upstream(554, text * (2**20 // len(text))))
