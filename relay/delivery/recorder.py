"""The recorder: puts on disk what an attempt is about to do and what came of it, until the store has taken it.

States, attempt and reports are one transaction. It also settles what nobody ended: an attempt that a fault of ours
broke off, or the end of an earlier run.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from relay import log
from relay.delivery.dsn import Reporter
from relay.delivery.events import MessageEvents
from relay.delivery.outcome import (
    Copy,
    Event,
    Schedule,
    State,
    Verdict,
    begun,
    consequence_of,
    copies_of,
    interrupted,
    judge,
    message_state,
    next_state,
    sending,
)
from relay.delivery.preparation import Refused, pinned_route
from relay.directory.model import Account, Meaning
from relay.directory.routing import Route, Routing
from relay.mail.content import Content
from relay.mail.reply import Reply
from relay.store.db.errors import StoreClosed, StoreError
from relay.store.queue.messages import Attempt, Fenced, HoldRow, NewMessage, Settlement, StoredMessage
from relay.store.queue.queue import Queue
from relay.system.clock import utc_now
from relay.upstream.outcome import Failure, Outcome, Phase

_TROUBLE_SECONDS = 5.0
_STOPPED = Reply(451, "4.4.2", "the relay was stopped in the middle of this attempt")
_FAULT = Reply(451, "4.3.0", "the relay met a fault of its own in this attempt; its log says which")
_NO_TURN = Reply(451, "4.7.0", "The sending limit of the account is used up")
_NOT_BEGUN = Reply(451, "4.7.8", "the account was held just before this attempt, which was not made")


_UNKNOWN, _TEMPORARY = Meaning.UNKNOWN, Meaning.TEMPORARY


@dataclass(slots=True)
class RunningAttempt:
    """One attempt under way: the message with its copies SENDING, as it came, and where it goes.

    `make` gives the message where somebody asks for it: what goes well while its client waits is never stored so.
    """

    make: Callable[[], StoredMessage]
    content: Content
    attempt: Attempt
    route: Route | None = None
    secret_version: str = ""
    hold: HoldRow | None = None  # over its account when it was let go; any other stops it
    _message: StoredMessage | None = None

    @classmethod
    def of(
        cls, message: StoredMessage, content: Content, attempt: Attempt, route: Route | None = None
    ) -> "RunningAttempt":
        """Return the attempt for a message that is stored."""
        return cls(lambda: message, content, attempt, route)

    @property
    def message(self) -> StoredMessage:
        """The message, the same one every time."""
        if self._message is None:
            self._message = self.make()
        return self._message


@dataclass(slots=True)
class Recorder:
    """Keeps the queue's records of attempts. `due` is set when something may be due.

    `routing` returns the routing of the directory in effect; `events` has the log and the counters.
    """

    queue: Queue
    routing: Callable[[], Routing]
    schedule: Schedule
    reporter: Reporter
    events: MessageEvents
    clock: Callable[[], datetime] = utc_now
    chance: Callable[[], float] = random.random
    due: asyncio.Event = field(default_factory=asyncio.Event)

    def adopt(self, schedule: Schedule) -> None:
        """Judge by this schedule from now on."""
        self.schedule = schedule
        self.reporter = replace(self.reporter, schedule=schedule)

    def new_attempt(self, message: StoredMessage) -> Attempt:
        """Return the next attempt of a message, which begins now."""
        return Attempt(
            number=message.attempts + 1, started=self.clock(), server="", username="", phase=str(Phase.RESOLVE)
        )

    async def record_final_dot(self, running: RunningAttempt) -> None:
        """Put on disk that our final dot is about to be sent. Raises Fenced, StoreError: then it must not be."""
        await self.queue.mark_final_dot(running.message.id, running.message.fence, running.attempt.number)

    async def write_down(self, running: RunningAttempt, outcome: Outcome) -> None:
        """Judge a stored message and write that down, however long the store takes to take it. Raises Fenced."""
        message, now, ahead = running.message, self.clock(), self.queue.ahead()
        verdict = self._judge(message, copies_of(message, outcome), now, ahead)
        if verdict.message.state == State.HELD and consequence_of(outcome):
            account = Account(running.attempt.server, running.attempt.username)
            verdict = replace(verdict, message=verdict.message.changed(held_by=str(account)))
        attempt, reports = ended(running.attempt, outcome, now), self._reports(running, verdict, outcome, now, ahead)
        await self._settle(message, verdict, attempt, reports)

    async def confirm(self, running: RunningAttempt, outcome: Outcome) -> None:
        """Store the confirmation that a client asked for (NOTIFY=SUCCESS), of a message that is not stored itself.

        Only for a message that its server took: one that it refuses is given back to the client, which needs no
        report. A store that fails costs the confirmation alone. The server has the message, and a client that is
        told of trouble would send it again.
        """
        now, ahead = self.clock(), self.queue.ahead()
        verdict = self._judge(running.message, copies_of(running.message, outcome), now, ahead)
        reports = self._reports(running, verdict, outcome, now, ahead)
        if not reports:
            return
        try:
            await self.queue.add(*reports)
        except StoreError as error:
            log.broken(str(error), id=running.message.id)
        else:
            self.due.set()

    async def hold(self, message: StoredMessage, hold: HoldRow, attempt: Attempt | None = None) -> None:
        """Let a message wait for a hold, untried; `attempt` is the one that was written down and not made."""
        recipients = tuple(
            replace(one, state=str(next_state(one.state, Event.HOLD)), meaning=hold.meaning) for one in sending(message)
        )
        others = {one.number: one for one in message.recipients} | {one.number: one for one in recipients}
        held = replace(
            message,
            recipients=tuple(others[number] for number in sorted(others)),
            state=str(State.HELD),
            held_since=self.clock(),
            held_by=str(Account(hold.server, hold.username)),
            next_attempt=None,
            reason=f"{hold.meaning}: {hold.reason}",
        )
        over = replace(attempt, ended=self.clock(), reply=str(_NOT_BEGUN), meaning=hold.meaning) if attempt else None
        await self._settle(message, Verdict(message=held), over, ())

    async def hold_damaged(self, message: StoredMessage, damage: str) -> None:
        """Let a message wait for a person whose stored content is not what came: it is neither sent nor returned."""
        reason = f"damaged: {damage}"
        log.broken(f"message {message.id} is held, and not sent: {damage}", id=message.id)
        moved = {one.number: str(next_state(one.state, Event.HOLD)) for one in sending(message)}
        recipients = tuple(replace(one, state=moved.get(one.number, one.state)) for one in message.recipients)
        held = replace(
            message,
            recipients=recipients,
            state=str(State.HELD),
            held_since=self.clock(),
            next_attempt=None,
            reason=reason,
        )
        await self._settle(message, Verdict(message=held), None, ())

    async def put_off(self, running: RunningAttempt, why: str) -> None:
        """Judge a message whose account had no turn for it by how long it has waited. Nothing was tried."""
        lost = Failure(phase=Phase.RESOLVE, reply=_NO_TURN, meaning=_TEMPORARY, from_server=False, detail=why)
        outcome = Outcome(host="", failure=lost)
        now, ahead = self.clock(), self.queue.ahead()
        verdict = self._judge(running.message, copies_of(running.message, outcome), now, ahead)
        judged = replace(verdict.message, attempts=running.message.attempts)
        if judged.state == State.QUEUED:  # it keeps its place in the line
            judged = replace(judged, next_attempt=running.message.next_attempt, reason=running.message.reason)
        verdict = replace(verdict, message=judged)
        await self._settle(running.message, verdict, None, self._reports(running, verdict, outcome, now, ahead))

    async def give_back(self, message: StoredMessage, pause: float | None = None) -> None:
        """Let a claimed message wait as before, and go on trying: a lease that we keep would keep it from everybody.

        Where the relay ends, its next start takes it back.
        """
        state = message_state(one.state for one in message.recipients)
        while True:
            await asyncio.sleep(_TROUBLE_SECONDS if pause is None else pause)
            pause = None
            try:
                await self.queue.release_lease(message.id, message.fence, str(state))
            except (Fenced, StoreClosed):
                return
            except StoreError as error:
                log.broken(str(error), id=message.id)
            else:
                return

    async def take_back(self) -> None:
        """Settle what an earlier run of this relay left under way, or another machine has let expire."""
        async for message, attempt in self.queue.take_back(self.clock()):
            await self._end_broken_off(message, attempt)

    async def recover(self, message: StoredMessage) -> None:
        """Settle an attempt that a fault of ours ended: unknown after its final dot, and before that put off.

        It counts like any other, so that a message that we can never handle is given up in its time, too.
        """
        under_way, attempt = begun(message), await self._open_attempt(message) or self.new_attempt(message)
        phase, meaning = (Phase.FINAL, _UNKNOWN) if attempt.final_dot else (Phase.CONTENT, _TEMPORARY)
        lost = Failure(phase=phase, reply=_FAULT, meaning=meaning, from_server=False)
        now = self.clock()
        copies = tuple(Copy(one.number, _FAULT, lost) for one in sending(under_way))
        verdict = self._judge(under_way, copies, now, self.queue.ahead())
        over = replace(attempt, ended=now, reply=str(_FAULT), meaning=str(meaning))
        try:
            await self._settle(message, verdict, over, await self._reports_anyhow(under_way, verdict))
        except Fenced:
            self.events.overtaken(message.id, is_sent=attempt.final_dot)

    async def _open_attempt(self, message: StoredMessage) -> Attempt | None:
        """Return what is on disk of the attempt under way, as soon as the store can tell."""
        while True:
            try:
                attempts = await self.queue.attempts(message.id)
            except StoreClosed:
                raise
            except StoreError as error:
                log.broken(str(error), id=message.id)
                await asyncio.sleep(_TROUBLE_SECONDS)
            else:
                return attempts[-1] if attempts and attempts[-1].ended is None else None

    async def _reports_anyhow(self, message: StoredMessage, verdict: Verdict) -> tuple[NewMessage, ...]:
        """Return what is owed after a fault; where the message itself is the trouble, reports that do without it."""
        if not verdict.failed and not verdict.is_delayed:
            return ()
        nothing = Outcome(host="", accepted=_FAULT)
        try:
            route = pinned_route(self.routing(), message.profile, message.envelope.sender)
            running = RunningAttempt.of(
                message, await self.queue.content_to_send(message), self.new_attempt(message), route
            )
            return self._reports(running, verdict, nothing, self.clock(), self.queue.ahead())
        except Exception:
            # Whatever the message does to us, its sender is owed the report.
            log.broken("a report is written without the message that it is about", id=message.id, exc_info=True)
            running = RunningAttempt.of(message, Content(b""), self.new_attempt(message))
            return self._reports(running, verdict, nothing, self.clock(), self.queue.ahead())

    def _judge(self, message: StoredMessage, copies: tuple[Copy, ...], now: datetime, ahead: float) -> Verdict:
        return judge(message, copies, now=now, schedule=self.schedule, chance=self.chance(), ahead=ahead)

    def _reports(
        self, running: RunningAttempt, verdict: Verdict, outcome: Outcome, now: datetime, ahead: float
    ) -> tuple[NewMessage, ...]:
        return self.reporter.reports(
            verdict,
            running.content,
            route=running.route,
            fallback=self.routing().default_route(),
            server=outcome.host,
            has_dsn=outcome.has_dsn,
            now=now,
            ahead=ahead,
        )

    async def _end_broken_off(self, message: StoredMessage, attempt: Attempt | None) -> None:
        """Settle an attempt that ended with its relay: unknown after its final dot, and before that tried at once."""
        under_way, now = begun(message), self.clock()
        if attempt is not None and attempt.final_dot:
            lost = Failure(phase=Phase.FINAL, reply=_STOPPED, meaning=_UNKNOWN, from_server=False)
            copies = tuple(Copy(one.number, _STOPPED, lost) for one in sending(under_way))
            verdict = self._judge(under_way, copies, now, self.queue.ahead())
        else:
            lost = Failure(phase=Phase.CONTENT, reply=_STOPPED, meaning=_TEMPORARY, from_server=False)
            verdict = Verdict(message=interrupted(under_way, lost, now=now, again=now))
        over = replace(attempt, ended=now, reply=str(_STOPPED), meaning=str(lost.meaning)) if attempt else None
        await self._settle(message, verdict, over, ())

    async def _settle(
        self, before: StoredMessage, verdict: Verdict, attempt: Attempt | None, reports: tuple[NewMessage, ...]
    ) -> None:
        """Write an attempt's end, and go on trying: what came of it must not be forgotten while we live."""
        settlement = settlement_of(before, verdict, attempt, reports)
        while True:
            try:
                await self.queue.settle(settlement)
                break
            except (Fenced, StoreClosed):
                raise
            except StoreError as error:
                log.broken(str(error), id=before.id)
                await asyncio.sleep(_TROUBLE_SECONDS)
        self.events.settled(verdict.message, attempt, self.clock(), len(reports))
        if reports or verdict.is_open:
            self.due.set()


def ended(attempt: Attempt, outcome: Outcome, now: datetime) -> Attempt:
    """Return an attempt with what came of it."""
    failure = outcome.first_failure
    return Attempt(
        number=attempt.number,
        started=attempt.started,
        server=attempt.server,
        username=attempt.username,
        changes=attempt.changes,
        ended=now,
        phase=str(failure.phase if failure else Phase.FINAL),
        final_dot=outcome.failure is None or outcome.failure.phase is Phase.FINAL,
        reply=str(outcome.failure.reply if outcome.failure else outcome.accepted),
        meaning=str(failure.meaning) if failure else "",
        tls=outcome.tls.version if outcome.tls else "",
    )


def may_have(outcome: Outcome) -> bool:
    """Whether the server has the message for anybody, or may have it."""
    failures = [failure for failure in (outcome.failure, *outcome.refused.values()) if failure is not None]
    return outcome.accepted is not None or any(failure.meaning is Meaning.UNKNOWN for failure in failures)


def failure_of(refusal: Refused) -> Failure:
    """Return our own refusal as what ended an attempt."""
    meaning = refusal.meaning or (Meaning.REFUSED if refusal.reply.is_permanent else Meaning.TEMPORARY)
    return Failure(phase=Phase.MAIL, reply=refusal.reply, meaning=meaning, from_server=False, detail=refusal.detail)


def settlement_of(
    before: StoredMessage, verdict: Verdict, attempt: Attempt | None, reports: tuple[NewMessage, ...]
) -> Settlement:
    """Return what is to be written: the verdict's message, with those of its recipients that changed."""
    after, is_finished = verdict.message, not verdict.is_open
    was = before.recipients
    return Settlement(
        id=after.id,
        fence=after.fence,
        recipients=tuple([one for old, one in zip(was, after.recipients, strict=True) if one is not old]),
        state=after.state,
        next_attempt=after.next_attempt,
        reason=after.reason,
        held_by=after.held_by,
        unknowns=after.unknowns,
        warned=after.warned,
        held_since=after.held_since,
        held_seconds=after.held_seconds,
        delivered=after.delivered,
        reply=after.reply,
        attempt=_as_kept(attempt, is_finished=is_finished) if attempt else None,
        is_finished=is_finished,
        reports=reports,
        event=_event_of(State(after.state), attempt),
        after=after,
    )


def _event_of(state: State, attempt: Attempt | None) -> str:
    """Return what is told of a message that an attempt left in a state; a turn that it did not get is nothing."""
    if state is State.QUEUED:
        return "deferred" if attempt is not None else ""
    return str(state)


def _as_kept(attempt: Attempt, *, is_finished: bool) -> Attempt:
    """Return an attempt as history has it: of a header that never left, and is made anew, no changes are kept."""
    return attempt if attempt.final_dot or is_finished else replace(attempt, changes=None)
