"""A message goes to a Microsoft Graph: what leaves, for whom, and what its answers mean."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.directory.model import AnswerRule, Meaning
from relay.mail.content import Content
from relay.upstream.http.client import ApiClient
from relay.upstream.outcome import Phase
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress, RequireTls
from tests.peers.graph import GraphServer
from tests.peers.rows import each_row
from tests.unit.upstream.http.api_kit import (
    CONTENT,
    HEADER,
    TIMES,
    deliver,
    graph_at,
    replace_header,
    transfer_to,
    with_header,
)


async def test_what_leaves_is_the_very_message(graph: GraphServer) -> None:
    outcome = await deliver(transfer_to(graph_at(graph.url)))
    assert str(outcome.accepted) == "250 2.0.0 accepted by Microsoft Graph (HTTP status 202)"
    (sent,) = graph.sent
    assert (sent.mime, sent.mailbox) == (b"".join(CONTENT.chunks()), "support@acme.example")
    assert sent.recipients == ["jo@customer.example"]
    assert outcome.host == "127.0.0.1"


async def test_who_is_not_named_gets_it_by_bcc_and_nobody_reads_that(graph: GraphServer) -> None:
    hidden = [f"hidden{number}@customer.example" for number in range(40)]
    await deliver(transfer_to(graph_at(graph.url), "Jo@Customer.example", *hidden))
    (sent,) = graph.sent
    assert sent.fields["bccRecipients"] == hidden
    assert sent.mime == b"".join(CONTENT.chunks())


async def test_a_message_that_names_somebody_else_is_refused_and_sent_to_nobody(graph: GraphServer) -> None:
    content = with_header("Cc: Eve <eve@elsewhere.example>")
    outcome = await deliver(transfer_to(graph_at(graph.url), content=content))
    assert outcome.failure is not None
    assert str(outcome.failure.reply) == (
        "554 5.6.0 To and Cc name eve@elsewhere.example, who is no recipient of this message; this provider sends to "
        "all whom they name"
    )
    assert graph.requests == []


async def test_recipients_that_cannot_be_read_are_sent_to_nobody(graph: GraphServer) -> None:
    content = replace_header(CONTENT, HEADER.replace(b"To: jo", b"To: @x:jo <jo"))
    failure = (await deliver(transfer_to(graph_at(graph.url), content=content))).failure
    assert failure is not None
    assert failure.reply.code == 554
    assert "To cannot be read" in failure.reply.text
    assert graph.requests == []


async def test_addresses_beyond_ascii_leave_as_they_are(graph: GraphServer) -> None:
    content = replace_header(CONTENT, HEADER + "Subject: Grüße\r\n".encode())
    await deliver(transfer_to(graph_at(graph.url), "jo@customer.example", "jürgen@exämple.example", content=content))
    (sent,) = graph.sent
    assert sent.recipients == ["jo@customer.example", "jürgen@exämple.example"]
    assert "Subject: Grüße".encode() in sent.mime


async def test_requiretls_cannot_be_promised(graph: GraphServer) -> None:
    failure = (await deliver(transfer_to(graph_at(graph.url), require_tls=RequireTls.ALWAYS))).failure
    assert failure is not None
    assert failure.reply.enhanced == "5.7.30"
    assert graph.requests == []


@each_row(
    ("mood", "meaning", "reply", "phase"),
    [
        ("401 InvalidAuthenticationToken", Meaning.LOGIN_REFUSED, "535 5.7.8", Phase.LOGIN),
        ("403 ErrorAccessDenied", Meaning.LOGIN_REFUSED, "535 5.7.8", Phase.LOGIN),
        ("403 ErrorSendAsDenied", Meaning.IDENTITY_REFUSED, "550 5.7.60", Phase.MAIL),
        ("404 ErrorInvalidUser", Meaning.IDENTITY_REFUSED, "550 5.1.8", Phase.MAIL),
        ("413 RequestEntityTooLarge", Meaning.REFUSED, "552 5.3.4", Phase.CONTENT),
        ("400 ErrorInvalidRecipients", Meaning.REFUSED, "550 5.1.3", Phase.CONTENT),
        ("400 ErrorMimeContentInvalid", Meaning.REFUSED, "554 5.6.0", Phase.CONTENT),
        ("429 ApplicationThrottled", Meaning.THROTTLE, "450 4.7.0", Phase.MAIL),
        ("503 ErrorServerBusy", Meaning.THROTTLE, "450 4.7.0", Phase.MAIL),
        ("503 ServiceUnavailable", Meaning.TEMPORARY, "451 4.3.0", Phase.MAIL),
        ("507 ErrorQuotaExceeded", Meaning.ACCOUNT_FULL, "552 5.2.2", Phase.MAIL),
        ("403 ErrorAccountSuspend", Meaning.LOCK_OUT, "550 5.7.1", Phase.MAIL),
        ("400 ErrorExceededMessageLimit", Meaning.QUOTA, "452 4.5.3", Phase.MAIL),
        ("403 ErrorExceededHourlyMessageLimit", Meaning.QUOTA, "452 4.5.3", Phase.MAIL),
        ("403 ErrorSubmissionQuotaExceeded", Meaning.QUOTA, "452 4.5.3", Phase.MAIL),
        ("403 ErrorAccountSuspendShowTierUpgrade", Meaning.LOCK_OUT, "550 5.7.1", Phase.MAIL),
        ("403 ErrorMessageBlocked", Meaning.REFUSED, "550 5.7.1", Phase.CONTENT),
        ("504 UnknownError", Meaning.UNKNOWN, "451 4.4.2", Phase.FINAL),
        ("500 ErrorInternalServerError", Meaning.UNKNOWN, "451 4.4.2", Phase.FINAL),
    ],
)
async def test_what_an_error_means(graph: GraphServer, mood: str, meaning: Meaning, reply: str, phase: Phase) -> None:
    graph.moods = [mood]
    progress = Progress()
    failure = (await deliver(transfer_to(graph_at(graph.url)), progress)).failure
    assert failure is not None
    assert (failure.meaning, str(failure.reply)[:9].strip(), failure.phase) == (meaning, reply[:9], phase)
    assert failure.from_server
    assert mood.split()[1] in failure.reply.text
    assert progress.final_dot_sent == (phase is Phase.FINAL)
    assert graph.sent == ()


async def test_how_long_it_asks_to_wait_is_in_the_words(graph: GraphServer) -> None:
    graph.moods = ["429 ApplicationThrottled"]
    failure = (await deliver(transfer_to(graph_at(graph.url)))).failure
    assert failure is not None
    assert failure.reply.text.endswith("; retry after 7 s")


async def test_an_own_reading_counts_first(graph: GraphServer) -> None:
    graph.moods = ["400 ErrorOdd"]
    rules = (AnswerRule(match="400 errorodd", means=Meaning.TEMPORARY),)
    failure = (await deliver(transfer_to(graph_at(graph.url, answers=rules)))).failure
    assert failure is not None
    assert failure.meaning is Meaning.TEMPORARY


async def test_a_token_that_is_not_good_is_a_refused_login(graph: GraphServer) -> None:
    graph.tokens = {}
    failure = (await deliver(transfer_to(graph_at(graph.url)))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (Meaning.LOGIN_REFUSED, Phase.LOGIN)
    assert "good-token" not in str(failure)


@pytest.mark.parametrize("mood", ["lost after", "504 after"])
async def test_a_lost_answer_is_asked_for_at_once(graph: GraphServer, mood: str) -> None:
    graph.moods = [mood]
    outcome = await deliver(transfer_to(graph_at(graph.url)))
    assert outcome.accepted is not None
    assert "sent already" in outcome.accepted.text
    assert len(graph.sent) == 1


async def test_a_lost_answer_that_cannot_be_found_is_unknown(graph: GraphServer) -> None:
    graph.moods = ["lost before"]
    failure = (await deliver(transfer_to(graph_at(graph.url)))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase, failure.from_server) == (Meaning.UNKNOWN, Phase.FINAL, False)


async def test_before_a_retry_the_provider_is_asked(graph: GraphServer) -> None:
    transfer = transfer_to(graph_at(graph.url))
    await deliver(transfer)
    transfer.since = datetime.now(UTC)
    outcome = await deliver(transfer)
    assert outcome.accepted is not None
    assert len(graph.sent) == 1


async def test_what_was_sent_before_it_came_is_another_message(graph: GraphServer) -> None:
    transfer = transfer_to(graph_at(graph.url))
    await deliver(transfer)
    transfer.since = datetime.now(UTC) + timedelta(minutes=2)
    await deliver(transfer)
    assert len(graph.sent) == 2


async def test_what_was_sent_to_others_is_not_this_message(graph: GraphServer) -> None:
    server = graph_at(graph.url)
    await deliver(transfer_to(server))
    await deliver(transfer_to(server, "jo@customer.example", "two@customer.example", since=datetime.now(UTC)))
    assert len(graph.sent) == 2


async def test_where_the_token_may_not_look_the_message_is_sent(graph: GraphServer) -> None:
    graph.may_read = False
    outcome = await deliver(transfer_to(graph_at(graph.url), since=datetime.now(UTC)))
    assert outcome.accepted is not None
    assert len(graph.sent) == 1


async def test_the_gate_is_passed_before_the_end_of_the_message(graph: GraphServer) -> None:
    seen: list[tuple[int, bool]] = []

    async def gate() -> None:
        seen.append((len(graph.sent), progress.final_dot_sent))

    async def on_mail() -> None:
        seen.append((-1, progress.final_dot_sent))

    progress = Progress(before_final_dot=gate, on_mail=on_mail)
    await deliver(transfer_to(graph_at(graph.url)), progress)
    assert seen == [(-1, False), (0, False)]
    assert progress.final_dot_sent


@pytest.mark.parametrize("octets", range(57 * 1024 * 2 - 180, 57 * 1024 * 2 - 150))
async def test_the_gate_is_passed_before_the_last_octet_of_any_length(graph: GraphServer, octets: int) -> None:
    async def gate() -> None:
        raise OSError

    content = Content(HEADER, (b"x" * octets + b"\r\n",))
    await deliver(transfer_to(graph_at(graph.url), content=content), Progress(before_final_dot=gate))
    assert graph.sent == ()


async def test_a_gate_that_fails_keeps_the_message_here(graph: GraphServer) -> None:
    async def gate() -> None:
        raise OSError("the disk is full")

    failure = (await deliver(transfer_to(graph_at(graph.url)), Progress(before_final_dot=gate))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (Meaning.TEMPORARY, Phase.CONTENT)
    assert "the disk is full" in failure.detail
    assert graph.sent == ()


async def test_a_delivery_that_is_cancelled_before_the_end_is_nobodys(graph: GraphServer) -> None:
    reached, progress = asyncio.Event(), Progress()

    async def gate() -> None:
        reached.set()
        await asyncio.Event().wait()

    progress.before_final_dot = gate
    task = asyncio.create_task(deliver(transfer_to(graph_at(graph.url)), progress))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not progress.final_dot_sent
    assert graph.sent == ()


async def test_nobody_there_is_temporary(graph: GraphServer) -> None:
    failure = (await deliver(transfer_to(graph_at("http://127.0.0.1:1/v1.0")))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (Meaning.TEMPORARY, Phase.CONNECT)
    assert failure.detail == "connection refused by 127.0.0.1 port 1"


async def test_a_name_that_does_not_exist_is_temporary() -> None:
    failure = (await deliver(transfer_to(graph_at("https://graph.nowhere.invalid/v1.0")))).failure
    assert failure is not None
    assert (failure.meaning, failure.phase) == (Meaning.TEMPORARY, Phase.CONNECT)
    assert "graph.nowhere.invalid" in failure.detail


async def test_no_more_requests_go_at_once_than_the_server_allows(graph: GraphServer) -> None:
    graph.at_once, graph.answer_seconds = 2, 0.05
    server, upstream = graph_at(graph.url, max_connections=2), Upstream("relay.test", TIMES)
    contents = [Content(HEADER.replace(b"<1@", f"<n{number}@".encode()), (b"Hi\r\n",)) for number in range(8)]
    outcomes = await asyncio.gather(*(upstream.deliver(transfer_to(server, content=one)) for one in contents))
    assert upstream.under_way == 0
    await upstream.aclose()
    assert all(outcome.accepted for outcome in outcomes)
    assert (graph.most_at_once, len(graph.sent)) == (2, 8)


class Noted:
    """An allowance of some connections that notes what it is told of those that are open."""

    granted = 2

    def __init__(self) -> None:
        self.told: list[int] = []

    def report(self, limit: int, wanted: int, is_open: int) -> None:
        assert (limit, is_open <= wanted) == (4, True)
        self.told.append(is_open)

    def watch(self, changed: Callable[[], None]) -> None:
        """It never is another."""


async def test_other_processes_are_told_of_the_requests_that_are_under_way(graph: GraphServer) -> None:
    noted = Noted()
    upstream = Upstream("relay.test", TIMES, lambda scope: noted)
    try:
        server = graph_at(graph.url, max_connections=4)
        outcomes = await asyncio.gather(*(upstream.deliver(transfer_to(server)) for _ in range(5)))
    finally:
        await upstream.aclose()
    assert all(outcome.accepted for outcome in outcomes)
    assert (max(noted.told), noted.told[-1]) == (2, 0)


async def test_messages_that_begin_at_once_share_the_connections_of_their_account(
    graph: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second message opens a client while the first is delivered by its own, which both use from then on."""
    clients: list[ApiClient] = []
    closed: list[ApiClient] = []
    is_delivered = asyncio.Event()
    opened, close = ApiClient.open, ApiClient.aclose

    async def open_behind_the_first(*args: Any) -> ApiClient:
        client = await opened(*args)
        clients.append(client)
        if len(clients) > 1:
            await is_delivered.wait()
        return client

    async def note_and_close(client: ApiClient) -> None:
        closed.append(client)
        await close(client)

    monkeypatch.setattr(ApiClient, "open", open_behind_the_first)
    monkeypatch.setattr(ApiClient, "aclose", note_and_close)
    upstream = Upstream("relay.test", TIMES)
    server = graph_at(graph.url)
    try:
        both = [asyncio.create_task(upstream.deliver(transfer_to(server))) for _ in range(2)]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)  # the client of either may be opened first
        is_delivered.set()
        assert all([(await each).accepted for each in both])
        assert closed == clients[1:]
    finally:
        await upstream.aclose()
    assert set(closed) == set(clients)
