"""A submission: one message, from its content to the reply of its client, in one of three modes (DESIGN section 5).

direct: it is sent while its client waits, all recipients or none, and nothing is stored.
queued: it is stored, and the client has its answer.
auto:   as direct, but what the upstream did not take is stored instead of given back. So is what takes longer than
        the client waits: then the attempt that is under way goes on without the client.

The client may leave at any moment: before our final dot that ends the attempt, after it the outcome is recorded. A
relay that stops hurries: nothing is waited for any more, and who waits has an answer in time.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from relay import log
from relay.delivery import replies
from relay.delivery.attempt import Attempts, Ended, Held
from relay.delivery.client_wait import ClientWait
from relay.delivery.cut_through import CutThrough
from relay.delivery.events import Ending, Journey
from relay.delivery.history import History
from relay.delivery.outcome import State, is_refused_for_all, may_be_there
from relay.delivery.preparation import Draft, Refused, Submitted, check_number, header_of, prepare, refused_by
from relay.delivery.recorder import RunningAttempt, ended
from relay.directory.client import Client
from relay.directory.model import Account, Meaning, Mode
from relay.directory.routing import Route
from relay.limits.limiter import Permit, is_limited
from relay.mail.content import Content, GrowingBody
from relay.mail.envelope import Envelope
from relay.mail.header import Header
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, traceparent_of
from relay.secrets.secret import Secret
from relay.store.db.errors import StoreError, StoreFull
from relay.store.queue.messages import HoldRow, NewMessage
from relay.system.fault_barrier import beside, tell_fault
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.transaction import Progress, Transfer


class Rules(Protocol):
    """What a submission asks of who opened it (`relay.delivery.acceptance`), which is above it."""

    history: History  # where a message goes that is over while its client waits
    patience: float  # seconds that a client waits in mode auto
    direct_patience: float  # and in mode direct, up to our final dot

    @property
    def tell(self) -> Callable[[Journey], None]:
        """Is told how the submission ended."""

    def route_of_message(self, client: Client, envelope: Envelope, header: Header) -> Route:
        """Return the route of a message. Raises Refused."""

    def mode_of(self, route: Route) -> Mode:
        """Return the mode of messages that leave by a route."""

    def may_send_at_once(self, route: Route, octets: int, connections: int) -> bool:
        """Whether a message of mode queued may be sent from memory as soon as it is stored."""

    def begin_at_once(self, account: Account, octets: int) -> None:
        """Count a message that is sent so, until `end_at_once`."""

    def end_at_once(self, account: Account, octets: int) -> None:
        """That has ended."""


class Submission:
    """One message being handed to us. `begin` is called once; `client_left` and `hurry` at any time.

    The message has one task, which makes its attempt. In mode auto a second one stores it where the client's patience
    ends before the attempt does, and answers.
    """

    def __init__(
        self,
        rules: Rules,
        attempts: Attempts,
        loop: asyncio.AbstractEventLoop,
        client: Client,
        envelope: Envelope,
        arrival: Arrival,
    ) -> None:
        self._rules = rules
        self._loop = loop
        self._attempts = attempts
        self._accounts = attempts.accounts
        self._limits = attempts.limits
        self._events = attempts.events
        self._recorder = recorder = attempts.recorder
        self._queue = recorder.queue
        self._client = client
        self._envelope = envelope
        self._arrival = arrival
        self._began = 0.0
        self._size = 0
        self._traceparent = ""
        self._task: asyncio.Task[None]
        self._answer: Callable[[Reply], None] | None = None  # None once the client has its reply
        self._draft: Draft | None = None
        self._ahead: CutThrough | None = None
        self._progress = Progress()
        # What to do where the attempt that runs takes longer, or we stop; None while none runs.
        self._end_patience: Callable[[], None] | None = None
        self._stopped_by: Exception | None = None  # why the attempt was cancelled
        self._storing: asyncio.Task[bool] | None = None  # stores a message whose attempt goes on without its client
        self._wait = ClientWait()

    def foresee(self, header: bytes, body: GrowingBody) -> None:
        """A large message comes, and this is there of it: it may go ahead to its server (cut-through)."""
        submitted = Submitted(self._client, self._arrival, self._envelope, Content(header, body))
        # Without this submission in it: two that know each other would keep the message until the collector comes.
        rules, client, envelope = self._rules, self._client, self._envelope
        self._ahead = CutThrough(
            self._attempts,
            submitted,
            body,
            lambda header: rules.route_of_message(client, envelope, header),
            rules.mode_of,
        )
        self._ahead.begin()

    def more(self) -> None:
        """More of it has come."""
        if self._ahead is not None:
            self._ahead.more()

    def abandon(self) -> None:
        """It will not go by what was foreseen."""
        if self._ahead is not None:
            self._ahead.abandon()

    def begin(self, content: Content, answer: Callable[[Reply], None]) -> None:
        """Do with the message what its mode says; `answer` is called once with what its client is told."""
        self._began = time.monotonic()
        self._size = content.size
        if self._events.is_traced:
            self._traceparent = traceparent_of(content.header)
        self._answer = answer
        self._task = self._loop.create_task(self._run(content))

    def client_left(self) -> None:
        """The client has gone: nobody waits for an answer any more."""
        self._wait.leave()
        if self._storing is None:  # else it is stored, or will be, and its attempt goes on
            self._stop_sending(Refused(replies.CLIENT_LEFT))

    def hurry(self, seconds: float) -> None:
        """We stop: the client is to have its answer within so many seconds, and before if it can."""
        self._wait.hurry(seconds)
        if self._end_patience is not None:
            self._end_patience()

    async def _run(self, content: Content) -> None:
        journey: Journey | None
        try:
            journey = await self._accept(Submitted(self._client, self._arrival, self._envelope, content))
        except Refused as refusal:
            ending = Ending.REFUSED if refusal.reply.is_permanent else Ending.DEFERRED
            journey = self._journey(ending, refusal.reply, detail=refusal.detail)
        except StoreFull as error:
            journey = self._journey(Ending.DEFERRED, replies.STORE_FULL, detail=str(error))
        except StoreError as error:
            journey = self._journey(Ending.DEFERRED, replies.STORE_BROKEN, detail=str(error))
        except Exception as error:
            # Ours to mend, not the client's: it hears nothing of the cause and may try again.
            log.broken("a message could not be handed over", id=self._arrival.id, exc_info=True)
            detail = f"a fault of ours: {type(error).__name__}"
            journey = self._journey(Ending.DEFERRED, replies.FAULT, detail=detail)
        finally:
            if self._ahead is not None:
                self._ahead.abandon()
        if journey is not None:
            self._conclude(journey)

    def _conclude(self, journey: Journey) -> None:
        """Give the client its reply, and tell the log of it; nothing where it has one."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        try:
            self._rules.tell(journey)
        except Exception:  # whatever it is, the client has its reply
            tell_fault("what is told of a message")
        answer(journey.reply)

    def _accept(self, submitted: Submitted) -> Coroutine[Any, Any, Journey | None]:
        """Resolve and prepare the message, and return what its mode does. Raises Refused.

        That says how the submission ended; None where its client has been answered before.
        """
        rules, attempts = self._rules, self._attempts
        header = header_of(submitted.content)
        route = rules.route_of_message(self._client, self._envelope, header)
        prepared = prepare(submitted, header, route, attempts.routing(), attempts.mismatch)
        draft = self._draft = Draft(submitted, header, prepared, self._size, self._queue.came_ahead())
        if log.is_detailed():
            self._events.routed(self._arrival.id, prepared.outgoing.message_id, route, prepared.sender)
        mode = rules.mode_of(route)
        if mode is Mode.AUTO:
            return self._auto(draft, route)
        if mode is Mode.DIRECT:
            return self._direct(draft, route)
        return self._store_and_send(draft, route)

    # direct

    async def _direct(self, draft: Draft, route: Route) -> Journey | None:
        patience = self._rules.direct_patience
        secret = await self._attempts.secret_of(route)
        attempt = self._begin(draft, route, secret)
        self._check_hold(route, secret)
        check_number(route.server, len(self._envelope.recipients))
        permit: Permit | None = None
        if is_limited(route.server):
            permit = await self._wait.permit(self._limits, route, len(self._envelope.recipients), patience)
            if permit is None:
                self._check_time()
                raise Refused(replies.PACED, self._why_limited(route))
        if self._wait.is_hurried and permit is not None:
            permit.end()
        self._check_time()
        transfer = draft.prepared.transfer(self._envelope, secret, all_or_none=True)
        ended = await self._send(attempt, transfer, permit, patience, self._give_back)
        if self._answer is None:
            return None
        if isinstance(ended, Outcome):
            return self._finish(draft, attempt, ended)
        if isinstance(ended, HoldRow):
            raise refused_by(ended, route)
        raise ended

    def _give_back(self) -> None:
        """The client has waited as long as it may: it keeps the message, unless the server has it by now."""
        if self._progress.final_dot_sent:
            self._answer_in_time()
        else:
            self._stop_sending(Refused(replies.STOPPING if self._wait.is_hurried else replies.TOOK_TOO_LONG))

    def _check_time(self) -> None:
        """Refuse what is not under way where we are about to end."""
        if self._wait.is_hurried:
            raise Refused(replies.STOPPING)

    def _check_hold(self, route: Route, secret: Secret | None) -> None:
        attempts = self._attempts
        hold = attempts.hold_over(route, secret)
        if hold is not None:
            raise refused_by(hold, route)
        slow = self._accounts.slowness_of(route.account, self._recorder.clock())
        if slow is not None:
            raise Refused(replies.of_meaning(Meaning.THROTTLE), f"{route.account} makes a pause: {slow.reason}")

    # auto

    async def _auto(self, draft: Draft, route: Route) -> Journey | None:
        attempts, patience = self._attempts, self._rules.patience
        try:
            secret = await attempts.secret_of(route)
        except Refused:
            return await self._store(draft)  # the queue holds it, and says why
        attempt = self._begin(draft, route, secret)
        if not self._accounts.is_clear and self._is_in_vain(route, secret):
            return await self._store(draft)
        permit: Permit | None = None
        if route.server.messages_per_minute or route.server.recipients_per_day:
            permit = await self._wait.permit(self._limits, route, len(self._envelope.recipients), patience)
            if permit is None:
                return await self._store(draft, self._why_limited(route))
            if self._is_slow(route):
                permit.end()
                return await self._store(draft)
        transfer = draft.prepared.transfer(self._envelope, secret)
        ended = await self._send(attempt, transfer, permit, patience, partial(self._go_on_alone, attempt))
        if self._storing is not None:
            if await self._storing:
                await attempts.end_stored(attempt, ended)
            elif self._stopped_by is not None:  # by what the store said
                raise self._stopped_by
            if self._answer is None:
                return None
        if isinstance(ended, Outcome):
            return await self._follow_up(draft, attempt, ended)
        if isinstance(ended, HoldRow):
            return await self._store(draft)
        raise ended

    async def _follow_up(self, draft: Draft, attempt: RunningAttempt, outcome: Outcome) -> Journey:
        """Do what an attempt leaves to do while its client waits: reports that are owed, and those who are."""
        attempts = self._attempts
        if outcome.failure is None and not outcome.refused:
            for one in self._envelope.recipients:
                if one.notify is not None:  # what it says decides when the report is written
                    await attempts.confirm(attempt, outcome)
                    break
            return self._finish(draft, attempt, outcome)
        if is_refused_for_all(outcome, len(self._envelope.recipients)) or self._storing is not None:
            return self._finish(draft, attempt, outcome)
        # Committed before the client has its 250: who is still owed the message, and the report about who refused it.
        attempt.attempt = replace(attempt.attempt, final_dot=may_be_there(outcome))
        await self._add(attempt)
        # From here on it is ours: a fault while that is recorded, or a store that hangs, takes no 250 back.
        left = self._began + self._rules.patience - time.monotonic()
        recording = attempts.keep(self._loop.create_task(attempts.end_stored(attempt, outcome)))
        await self._wait.until(recording, max(left, 0.0))
        return self._queued(outcome)

    def _is_in_vain(self, route: Route, secret: Secret | None) -> bool:
        """Whether an attempt now would be in vain: the account is held, or makes a pause."""
        return self._attempts.hold_over(route, secret) is not None or self._is_slow(route)

    def _is_slow(self, route: Route) -> bool:
        return self._accounts.slowness_of(route.account, self._recorder.clock()) is not None

    def _go_on_alone(self, attempt: RunningAttempt) -> None:
        """The client has waited as long as it may: the message is stored, and its attempt goes on without it.

        Its outcome decides, and it is sent once: the final dot waits until the message is stored.
        """
        if self._storing is not None or self._stopped_by is not None:
            if self._storing is not None and self._storing.done():
                self._answer_in_time()
            return
        stored = self._loop.create_future()

        async def record() -> None:
            await asyncio.shield(stored)
            await self._recorder.record_final_dot(attempt)

        progress = self._progress
        progress.before_final_dot = record
        attempt.attempt = replace(attempt.attempt, phase=str(progress.phase), final_dot=progress.final_dot_sent)
        self._storing = self._loop.create_task(self._store_under_way(attempt, stored))

    async def _store_under_way(self, attempt: RunningAttempt, stored: asyncio.Future[None]) -> bool:
        """Store a message whose attempt is under way, and answer its client. False where the store does not take it.

        The attempt is stopped then, unless the server may have the message: its outcome is the answer.
        """
        try:
            await self._add(attempt)
        except Exception as error:
            stored.cancel()
            if self._progress.final_dot_sent:
                self._answer_in_time()
            else:
                self._stopped_by = error
                if self._end_patience is not None:
                    self._task.cancel()
            return False
        stored.set_result(None)
        self._attempts.keep(self._task)
        with beside("the answer to a client"):  # who stores the message has to know that it is stored
            self._conclude(self._queued())
        return True

    # queued

    async def _store_and_send(self, draft: Draft, route: Route) -> Journey | None:
        """Store a message, answer its client, and send it: at once where nothing is in its way."""
        attempts, rules, octets = self._attempts, self._rules, self._size
        connections = self._accounts.connections(route.server, route.account)
        if draft.prepared.sender is None or not rules.may_send_at_once(route, octets, connections):
            return await self._store(draft)
        try:
            secret = await attempts.secret_of(route)
        except Refused:
            return await self._store(draft)  # the queue holds it, and says why
        if not self._accounts.is_clear and self._is_in_vain(route, secret):
            return await self._store(draft)
        attempt = self._begin(draft, route, secret)
        transfer = draft.prepared.transfer(self._envelope, secret)
        await self._add(attempt)
        rules.begin_at_once(route.account, octets)
        try:
            attempts.keep(self._task)
            try:
                self._conclude(self._queued())
            except Exception:  # whatever it is, the message is stored, and nobody else would send it
                tell_fault("the answer to a client")
            recorder = self._recorder
            progress = Progress(before_final_dot=lambda: recorder.record_final_dot(attempt))
            await attempts.run_stored(attempt, transfer, progress)
        finally:
            rules.end_at_once(route.account, octets)
        return None

    async def _store(self, draft: Draft, why: str = "") -> Journey:
        recorder = self._recorder
        message = draft.queued(recorder.clock())
        await self._queue.add(NewMessage(message=message, content=draft.submitted.content))
        recorder.due.set()
        return self._queued(detail=why)

    # what they share

    async def _add(self, attempt: RunningAttempt) -> None:
        """Store a message with the attempt that is under way for it. Raises StoreError."""
        new = NewMessage(message=attempt.message, content=attempt.content, attempt=attempt.attempt)
        await self._queue.add(new)

    def _begin(self, draft: Draft, route: Route, secret: Secret | None) -> RunningAttempt:
        """Return the attempt that begins now, under the hold that its account has now."""
        now = self._recorder.clock()
        return RunningAttempt(
            lambda: draft.under_way(now),
            draft.submitted.content,
            draft.first_attempt(now),
            route,
            secret.version if secret else "",
            self._accounts.hold_of(route.account, route.identity),
        )

    def _why_limited(self, route: Route) -> str:
        """Count a message that its account's limits keep back, and return why."""
        self._events.paced(route.server.name)
        return self._limits.reason(route.server, route.account)

    async def _send(
        self,
        attempt: RunningAttempt,
        transfer: Transfer,
        permit: Permit | None,
        patience: float,
        end_patience: Callable[[], None],
    ) -> Ended:
        """Make the attempt, and return how it ended. Raises Refused where it was stopped, and StoreError.

        `end_patience` is called where it takes longer than `patience` seconds, and where we stop.
        """
        ahead = self._ahead.take() if self._ahead is not None else None
        if ahead is not None:
            transfer = replace(transfer, cut_through=ahead)
        self._end_patience = end_patience
        timer = self._loop.call_at(self._began + patience, end_patience)
        try:
            if self._wait.has_left:
                raise Refused(replies.CLIENT_LEFT)
            if self._wait.is_hurried:
                end_patience()
            return await self._attempts.run(attempt, transfer, self._progress, permit)
        except Held as held:
            return held.hold
        except asyncio.CancelledError:
            why, self._stopped_by = self._stopped_by, None
            if why is None:
                raise
            self._task.uncancel()
            raise why from None
        except Exception as error:
            if self._storing is None:
                raise
            return error
        finally:
            # It knows this submission: the two would keep the message until the collector comes.
            self._end_patience = None
            timer.cancel()
            if permit is not None:
                permit.end()
            if ahead is not None:
                ahead.abandon()

    def _stop_sending(self, why: Exception) -> None:
        """Cancel the attempt, where one is under way and nobody has the message; `why` is what its client is told."""
        if self._end_patience is not None and not self._progress.final_dot_sent and self._stopped_by is None:
            self._stopped_by = why
            self._task.cancel()

    def _answer_in_time(self) -> None:
        """Where we stop, tell the client that nobody knows, unless the server answers before it has to be told."""
        if self._wait.is_hurried and self._end_patience is not None:
            reply, why = replies.of_meaning(Meaning.UNKNOWN), "the relay stopped before the server had answered"
            late = partial(self._journey, Ending.DEFERRED, reply, detail=why)
            self._loop.call_at(self._wait.answer_at, lambda: self._conclude(late()))

    def _finish(self, draft: Draft, attempt: RunningAttempt, outcome: Outcome) -> Journey:
        """Return the end of a message that is not stored: delivered, refused, or given back to its client."""
        failure: Failure | None = None
        if outcome.failure is not None or outcome.refused:
            failures = map(outcome.failure_at, range(len(self._envelope.recipients)))
            failure = next(filter(None, failures), None)
        if failure is None:
            assert outcome.accepted is not None
            server = draft.prepared.route.server
            reply, ending = replies.delivered(server.name, outcome.accepted), Ending.DELIVERED
        else:
            reply = replies.of_failure(failure)
            ending = Ending.FAILED if reply.is_permanent else Ending.DEFERRED
        if ending is not Ending.DEFERRED:
            state = State.DELIVERED if ending is Ending.DELIVERED else State.FAILED
            upstream = failure.reply if failure else outcome.accepted
            try:
                now = self._recorder.clock()
                self._rules.history.record(
                    draft.over(state, upstream, outcome, now), ended(attempt.attempt, outcome, now)
                )
            except Exception:  # whatever it is, the server has the message
                tell_fault("the history")
        return self._journey(ending, reply, outcome=outcome, failure=failure)

    def _queued(self, outcome: Outcome | None = None, *, detail: str = "") -> Journey:
        reply = replies.queued(self._arrival.id)
        return self._journey(Ending.QUEUED, reply, outcome=outcome, detail=detail)

    def _journey(
        self,
        ending: Ending,
        reply: Reply,
        *,
        outcome: Outcome | None = None,
        failure: Failure | None = None,
        detail: str = "",
    ) -> Journey:
        prepared = self._draft.prepared if self._draft is not None else None
        failure = failure or (outcome.failure if outcome else None)
        return Journey(
            ending=ending,
            arrival=self._arrival,
            client=self._client,
            envelope=self._envelope,
            size=self._size,
            reply=reply,
            seconds=time.monotonic() - self._began,
            message_id=prepared.outgoing.message_id if prepared else "",
            route=prepared.route if prepared else None,
            sender=prepared.sender if prepared else None,
            edited=prepared.outgoing.edited if prepared else (),
            upstream=failure.reply if failure else outcome.accepted if outcome else None,
            phase=str(failure.phase) if failure else "",
            tls=outcome.tls.version if outcome and outcome.tls else "",
            detail=failure.detail if failure else detail,
            traceparent=self._traceparent,
        )
