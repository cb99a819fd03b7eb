"""Every exception that a step may raise becomes one Failure; one that aiosmtplib gains makes a test here fail."""

import errno
import inspect
import socket
import ssl

import pytest
from aiosmtplib import errors

from relay.directory.model import Meaning
from relay.mail.reply import Reply
from relay.upstream.outcome import MAPPED, Peer, Phase, failure_of, own_failure, refusal
from relay.upstream.protocol import OutOfStep
from relay.upstream.transaction import Timeouts

PEER = Peer("mail.example", 587, 30)
NOT_CERTIFIED = ssl.SSLCertVerificationError(1, "certificate verify failed")
NOT_CERTIFIED.verify_message = "certificate has expired"
REFUSED_ONE = errors.SMTPRecipientRefused(550, "5.1.1 no", "a@b.c")

# Each of aiosmtplib's exceptions in the phase where it is likeliest: what reply it becomes, and whether the server's.
EXPECTED: dict[type[Exception], tuple[Exception, Phase, str, bool]] = {
    errors.SMTPException: (errors.SMTPException("what?"), Phase.EHLO, "451 4.5.0", False),
    errors.SMTPServerDisconnected: (errors.SMTPServerDisconnected("gone"), Phase.MAIL, "451 4.4.2", False),
    errors.SMTPConnectError: (errors.SMTPConnectError("no"), Phase.CONNECT, "451 4.4.1", False),
    errors.SMTPTimeoutError: (errors.SMTPTimeoutError("slow"), Phase.MAIL, "451 4.4.2", False),
    errors.SMTPConnectTimeoutError: (errors.SMTPConnectTimeoutError("slow"), Phase.CONNECT, "451 4.4.1", False),
    errors.SMTPReadTimeoutError: (errors.SMTPReadTimeoutError("slow"), Phase.RCPT, "451 4.4.2", False),
    errors.SMTPNotSupported: (errors.SMTPNotSupported("no UTF-8"), Phase.MAIL, "554 5.5.4", False),
    errors.SMTPResponseException: (errors.SMTPResponseException(450, "4.2.0 no"), Phase.MAIL, "450 4.2.0 no", True),
    errors.SMTPConnectResponseError: (
        errors.SMTPConnectResponseError(554, "go away"),
        Phase.GREETING,
        "554 5.0.0 go away",
        True,
    ),
    errors.SMTPHeloError: (errors.SMTPHeloError(501, "bad name"), Phase.EHLO, "501 5.0.0 bad name", True),
    errors.SMTPDataError: (errors.SMTPDataError(552, "5.3.4 big"), Phase.FINAL, "552 5.3.4 big", True),
    errors.SMTPAuthenticationError: (
        errors.SMTPAuthenticationError(535, "5.7.8 no"),
        Phase.LOGIN,
        "535 5.7.8 no",
        True,
    ),
    errors.SMTPSenderRefused: (errors.SMTPSenderRefused(550, "5.7.1 no", "a@b.c"), Phase.MAIL, "550 5.7.1 no", True),
    errors.SMTPRecipientRefused: (REFUSED_ONE, Phase.RCPT, "550 5.1.1 no", True),
    errors.SMTPRecipientsRefused: (
        errors.SMTPRecipientsRefused([REFUSED_ONE]),
        Phase.RCPT,
        "550 5.1.1 no",
        True,
    ),
}


def test_no_exception_of_aiosmtplib_is_unmapped() -> None:
    found = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == errors.__name__
    }
    assert found == set(EXPECTED)


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_an_exception_becomes_a_reply(kind: type[Exception]) -> None:
    error, phase, reply, from_server = EXPECTED[kind]
    assert isinstance(error, MAPPED)
    failure = failure_of(error, phase, PEER)
    assert str(failure.reply).startswith(reply)
    assert failure.from_server is from_server
    assert failure.phase is phase


@pytest.mark.parametrize(
    ("error", "phase", "code", "detail"),
    [
        (socket.gaierror(socket.EAI_NONAME, "?"), Phase.RESOLVE, "4.4.3", "the name mail.example does not exist"),
        (
            socket.gaierror(socket.EAI_AGAIN, "?"),
            Phase.RESOLVE,
            "4.4.3",
            "no name server answers about mail.example",
        ),
        (
            socket.gaierror(socket.EAI_FAIL, "Name server failed"),
            Phase.RESOLVE,
            "4.4.3",
            "the name mail.example cannot be looked up: Name server failed",
        ),
        (
            TimeoutError(),
            Phase.RESOLVE,
            "4.4.1",
            "no answer from the name server about mail.example within 30 s",
        ),
        (TimeoutError(), Phase.CONNECT, "4.4.1", "no answer from mail.example port 587 within 30 s"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            Phase.CONNECT,
            "4.4.1",
            "connection refused by mail.example port 587",
        ),
        (
            OSError(errno.ENETUNREACH, "Network is unreachable"),
            Phase.CONNECT,
            "4.4.1",
            "no connection to mail.example port 587: this machine has no way to its network",
        ),
        (OSError(5, "Input/output error"), Phase.CONNECT, "4.4.1", "OSError: [Errno 5] Input/output error"),
        (
            NOT_CERTIFIED,
            Phase.STARTTLS,
            "4.7.5",
            "the certificate of mail.example port 587 is not accepted: certificate has expired",
        ),
        (
            ssl.SSLError(1, "wrong version number"),
            Phase.STARTTLS,
            "4.7.5",
            "TLS with mail.example port 587 failed: wrong version number",
        ),
        (
            ConnectionAbortedError("SSL handshake is taking longer than 30 seconds"),
            Phase.STARTTLS,
            "4.7.5",
            "no answer from mail.example port 587 within 30 s",
        ),
        (
            ConnectionResetError(104, "reset"),
            Phase.STARTTLS,
            "4.7.5",
            "mail.example port 587 reset the connection",
        ),
        (
            FileNotFoundError(2, "No such file", "/etc/ca.pem"),
            Phase.STARTTLS,
            "4.7.5",
            "/etc/ca.pem: No such file",
        ),
        (BrokenPipeError(32, "Broken pipe"), Phase.RCPT, "4.4.2", "mail.example port 587 closed the connection"),
        (TimeoutError(), Phase.CONTENT, "4.4.2", "no answer from mail.example port 587 within 30 s"),
        (ValueError("NUL"), Phase.LOGIN, "4.3.5", "ValueError: NUL"),
    ],
)
def test_an_error_of_the_network_is_temporary(error: Exception, phase: Phase, code: str, detail: str) -> None:
    failure = failure_of(error, phase, PEER)
    assert (failure.reply.code, failure.reply.enhanced) == (451, code)
    assert failure.meaning is Meaning.TEMPORARY
    assert not failure.from_server
    assert failure.detail == detail


NOT_ASCII = UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range")


@pytest.mark.parametrize("error", [ValueError("control"), NOT_ASCII, errors.SMTPNotSupported("no")], ids=repr)
def test_what_cannot_be_told_to_the_server_is_refused(error: Exception) -> None:
    failure = failure_of(error, Phase.MAIL, PEER)
    assert (failure.reply.code, failure.meaning) == (554, Meaning.REFUSED)


@pytest.mark.parametrize("code", [-1, 0, 42, 199, 250, 354, 600, 999])
def test_no_reply_code_is_garbage(code: int) -> None:
    failure = failure_of(errors.SMTPResponseException(code, "hä\x07\n" * 200), Phase.MAIL, PEER)
    assert (str(failure.reply)[:9], failure.meaning) == ("451 4.5.0", Meaning.TEMPORARY)
    assert failure.detail.isprintable()
    assert len(failure.detail) <= 500


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), TimeoutError(), errors.SMTPResponseException(-1, "?"), OutOfStep(b"250 ok")]
)
def test_without_an_answer_to_the_final_dot_the_outcome_is_unknown(error: Exception) -> None:
    assert failure_of(error, Phase.FINAL, PEER).meaning is Meaning.UNKNOWN


def test_an_answer_to_the_final_dot_is_what_it_says() -> None:
    assert refusal(Phase.FINAL, Reply(451, "4.3.0", "disk")).meaning is Meaning.TEMPORARY
    assert refusal(Phase.FINAL, Reply(554, "5.6.0", "no")).meaning is Meaning.REFUSED


def test_the_cause_of_an_exception_is_in_the_detail() -> None:
    lost = errors.SMTPServerDisconnected("lost")
    assert failure_of(lost, Phase.MAIL, PEER).detail == "mail.example port 587 closed the connection"
    lost.__cause__ = ConnectionResetError(104, "reset by peer")
    assert failure_of(lost, Phase.MAIL, PEER).detail == "mail.example port 587 reset the connection"
    odd = errors.SMTPException("odd")
    odd.__cause__ = RuntimeError("more")
    assert failure_of(odd, Phase.MAIL, PEER).detail == "SMTPException: odd: more"


@pytest.mark.parametrize("phase", Phase)
def test_a_silence_is_told_with_its_own_deadline(phase: Phase) -> None:
    times = Timeouts(connect=1, reply=2, chunk=3, final=4)
    expected = {Phase.RESOLVE: 1, Phase.CONNECT: 1, Phase.STARTTLS: 1, Phase.CONTENT: 3, Phase.FINAL: 4}
    assert times.of(phase) == expected.get(phase, 2)


def test_a_failure_says_phase_reply_and_detail() -> None:
    failure = own_failure(Phase.MAIL, Reply(451, "4.4.2", "lost"), Meaning.TEMPORARY, "why\nnot")
    assert str(failure) == "mail: 451 4.4.2 lost (why not)"
