"""A message goes to Amazon SES: what leaves, for whom, how it is signed, and what the answers mean."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from relay.directory.model import AnswerRule, Kind, Meaning, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.secrets.secret import Secret
from relay.upstream.http.probe import examine_api, probe_api
from relay.upstream.outcome import Phase
from relay.upstream.transaction import Progress, RequireTls, Transfer
from tests.peers.rows import each_row
from tests.peers.ses import SesServer, ses_server
from tests.unit.upstream.http.api_kit import CONTENT, HEADER, ME, deliver, replace_header, transfer_to, with_header

SECRET = Secret("right", "v1")
UNVERIFIED = "400 MessageRejected Email address is not verified. The following identities failed the check"


@pytest.fixture
def ses() -> Iterator[SesServer]:
    with ses_server() as server:
        yield server


def server_at(ses: SesServer, **keys: Any) -> Server:
    """A server of kind https at SES."""
    given = {"name": "ses", "kind": Kind.HTTPS, "api": "ses", "api_url": ses.url, "username": "AKIDEXAMPLE"}
    return Server(**{**given, "address": ME, **keys})


def at(ses: SesServer, *recipients: str, **facts: Any) -> Transfer:
    """One message for these recipients."""
    return transfer_to(server_at(ses), *recipients, **{"secret": SECRET, **facts})


async def test_what_leaves_is_the_very_message_for_its_envelope(ses: SesServer) -> None:
    content = with_header("Cc: Eve <eve@elsewhere.example>")
    outcome = await deliver(at(ses, "jo@customer.example", "hidden@customer.example", content=content))
    assert str(outcome.accepted) == "250 2.0.0 accepted by Amazon SES as 0100-1 (HTTP status 200)"
    (sent,) = ses.sent
    assert (sent.key, sent.mime, sent.sender) == ("AKIDEXAMPLE", b"".join(content.chunks()), ME)
    assert sent.recipients == ("jo@customer.example", "hidden@customer.example")
    assert b"hidden" not in sent.mime


async def test_ten_megabytes_are_signed_and_arrive_octet_for_octet(ses: SesServer) -> None:
    content = Content(HEADER, (b"x" * 998 + b"\r\n",) * 10_000)
    seen: list[int] = []

    async def gate() -> None:
        seen.append(len(ses.sent))

    outcome = await deliver(at(ses, content=content), Progress(before_final_dot=gate))
    assert outcome.accepted is not None, outcome
    assert (ses.sent[0].mime, seen) == (b"".join(content.chunks()), [0])


async def test_a_domain_beyond_ascii_is_spelled_in_ascii(ses: SesServer) -> None:
    await deliver(at(ses, "jo@exämple.example"))
    assert ses.sent[0].recipients == ("jo@xn--exmple-cua.example",)


@each_row(
    ("recipient", "content", "smtputf8", "reply"),
    [
        ("jürgen@customer.example", CONTENT, True, "553 5.6.7"),
        ("jo@customer.example", replace_header(CONTENT, HEADER + "Subject: Grüße\r\n".encode()), True, "550 5.6.7"),
        ("jo@exämple.example", replace_header(CONTENT, HEADER + "Cc: jo@exämple.example\r\n".encode()), False, "553"),
    ],
)
async def test_what_needs_smtputf8_is_refused_here(
    ses: SesServer, recipient: str, content: Content, smtputf8: bool, reply: str
) -> None:
    failure = (await deliver(at(ses, recipient, content=content, smtputf8=smtputf8))).failure
    assert failure is not None
    assert str(failure.reply).startswith(reply)
    assert ses.requests == []


async def test_requiretls_cannot_be_promised(ses: SesServer) -> None:
    failure = (await deliver(at(ses, require_tls=RequireTls.ALWAYS))).failure
    assert failure is not None
    assert failure.reply.enhanced == "5.7.30"
    assert ses.requests == []


@each_row(
    ("mood", "meaning", "reply", "phase"),
    [
        ("400 ThrottlingException Daily message quota exceeded", Meaning.QUOTA, "452 4.5.3", Phase.MAIL),
        ("400 ThrottlingException Maximum sending rate exceeded", Meaning.THROTTLE, "450 4.7.0", Phase.MAIL),
        ("429 TooManyRequestsException", Meaning.THROTTLE, "450 4.7.0", Phase.MAIL),
        (UNVERIFIED, Meaning.IDENTITY_REFUSED, "550 5.7.60", Phase.MAIL),
        ("400 MailFromDomainNotVerifiedException", Meaning.IDENTITY_REFUSED, "550 5.7.60", Phase.MAIL),
        ("400 AccountSuspendedException", Meaning.LOCK_OUT, "550 5.7.1", Phase.MAIL),
        ("400 SendingPausedException", Meaning.LOCK_OUT, "550 5.7.1", Phase.MAIL),
        ("403 AccessDeniedException", Meaning.LOGIN_REFUSED, "535 5.7.8", Phase.LOGIN),
        ("400 RequestExpired", Meaning.LOGIN_REFUSED, "535 5.7.8", Phase.LOGIN),
        ("413 RequestEntityTooLarge", Meaning.REFUSED, "552 5.3.4", Phase.CONTENT),
        ("400 BadRequestException Illegal address", Meaning.REFUSED, "550 5.1.3", Phase.CONTENT),
        ("400 MessageRejected Transaction failed: spam", Meaning.REFUSED, "554 5.6.0", Phase.CONTENT),
        ("500 InternalFailure", Meaning.UNKNOWN, "451 4.4.2", Phase.FINAL),
        ("503 ServiceUnavailable", Meaning.TEMPORARY, "451 4.3.0", Phase.MAIL),
    ],
)
async def test_what_an_error_means(ses: SesServer, mood: str, meaning: Meaning, reply: str, phase: Phase) -> None:
    ses.moods = [mood]
    failure = (await deliver(at(ses))).failure
    assert failure is not None
    assert (failure.meaning, str(failure.reply)[: len(reply)], failure.phase) == (meaning, reply, phase)
    assert mood.split()[1] in failure.reply.text
    assert ses.sent == ()


async def test_an_own_reading_counts_first(ses: SesServer) -> None:
    ses.moods = ["400 MessageRejected odd"]
    rules = (AnswerRule(match="400 messagerejected: odd", means=Meaning.TEMPORARY),)
    failure = (await deliver(transfer_to(server_at(ses, answers=rules), secret=SECRET))).failure
    assert failure is not None
    assert failure.meaning is Meaning.TEMPORARY


@each_row(
    ("keys", "words"),
    [({"AKIDEXAMPLE": "other"}, "signature does not match"), ({}, "security token in the request is invalid")],
)
async def test_a_key_that_is_wrong_or_revoked_is_a_refused_login(
    ses: SesServer, keys: dict[str, str], words: str
) -> None:
    ses.keys = keys
    failure = (await deliver(at(ses))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (Meaning.LOGIN_REFUSED, Phase.LOGIN)
    assert words in failure.reply.text
    assert "right" not in str(failure)


@pytest.mark.parametrize("username", ["support@acme.example", "schlüssel", "a/b, c"])
async def test_a_user_name_that_is_no_access_key_id_is_not_sent(ses: SesServer, username: str) -> None:
    server = server_at(ses, username=username)
    failure = (await deliver(transfer_to(server, secret=SECRET))).failure
    assert failure is not None
    assert (failure.meaning, str(failure.reply)) == (
        Meaning.LOGIN_REFUSED,
        "535 5.7.8 The user name is no access key id",
    )
    assert ses.requests == []


async def test_without_a_password_nothing_is_asked(ses: SesServer) -> None:
    failure = (await deliver(at(ses, secret=None))).failure
    assert failure is not None
    assert str(failure.reply) == "535 5.7.8 There is no password for this account"
    assert ses.requests == []


@pytest.mark.parametrize("mood", ["lost after", "504 after", "lost before"])
async def test_after_a_lost_answer_nobody_can_tell(ses: SesServer, mood: str) -> None:
    ses.moods = [mood]
    failure = (await deliver(at(ses))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (Meaning.UNKNOWN, Phase.FINAL)
    assert [asked[:5] for asked in ses.requests] == ["POST "]
    await deliver(at(ses, since=datetime.now(UTC)))
    assert len(ses.sent) == (2 if mood.endswith("after") else 1)


async def steps(ses: SesServer, sender: str = ME) -> list[tuple[str, bool, str]]:
    """What a test shows that sends nothing."""
    found = probe_api(server_at(ses), at(ses).account, SECRET, Address.parse(sender), Address.parse(ME), None)
    return [(step.step, step.ok, step.detail) async for step in found if step.step not in {"resolve", "connect"}]


async def test_a_test_tells_the_limits_of_the_account_and_what_is_verified(ses: SesServer) -> None:
    limits = "50000.0 messages in 24 hours, 14.0 a second"
    login = ("login", True, f"logged in as AKIDEXAMPLE: the key is good; {limits}")
    assert await steps(ses) == [login, ("mail", True, "acme.example is verified")]
    _, (step, is_good, words) = await steps(ses, "me@other.example")
    assert (step, is_good) == ("mail", False)
    assert "neither me@other.example nor its domain is verified" in words
    assert ses.sent == ()


async def test_a_key_that_may_only_send_is_good(ses: SesServer) -> None:
    ses.may_look = False
    (_, is_good, login), (_, may_send, mail) = await steps(ses)
    assert (is_good, may_send) == (True, True)
    assert login.endswith("the key is good, and may not look at the account (ses:GetAccount)")
    assert mail == f"whether {ME} may be used is judged only when a message is sent"


async def test_an_examination_says_which_address_may_not_be_used(ses: SesServer) -> None:
    other = Address.parse("me@other.example")
    seen = await examine_api(server_at(ses), at(ses).account, SECRET, [Address.parse(ME), other])
    assert (seen.has_logged_in, list(seen.refused), seen.proven) == (True, [other], {Address.parse(ME)})
    ses.may_look = False
    seen = await examine_api(server_at(ses), at(ses).account, SECRET, [other])
    assert (seen.asked, seen.refused, seen.proven) == ([other], {}, set())
    ses.keys = {}
    seen = await examine_api(server_at(ses), at(ses).account, SECRET, [])
    assert seen.failure is not None
    assert seen.failure.meaning is Meaning.LOGIN_REFUSED
