"""The bookkeeper: writes down what came of an attempt, and goes on trying until the store has taken it.

States, attempt and reports are one transaction. It also settles what nobody ended: an attempt that a fault of ours
broke off, or the end of an earlier run.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from relay import log
from relay.delivery.lifecycle import Event, State, message_state, next_state
from relay.delivery.office import Office
from relay.delivery.reporter import Reporter
from relay.delivery.schedule import Schedule
from relay.delivery.verdict import Copy, Verdict, begun, copies_of, interrupted, judge, sending
from relay.delivery.work import Work, ended, settlement_of
from relay.directory.model import Account, Meaning
from relay.mail.reply import Reply
from relay.store.errors import StoreError
from relay.store.messages import Attempt, Fenced, HoldRow, NewMessage, StoredMessage
from relay.store.queue import Queue
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.phase import Phase

_TROUBLE_SECONDS = 5.0
_STOPPED = Reply(451, "4.4.2", "the relay was stopped in the middle of this attempt")
_FAULT = Reply(451, "4.3.0", "the relay met a fault of its own in this attempt; its log says which")
_NOT_BEGUN = Reply(451, "4.7.8", "the account was held just before this attempt, which was not made")


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Bookkeeper:
    """Keeps the queue's records of attempts. `on_change` is called when something may be due."""

    office: Office
    queue: Queue
    schedule: Schedule
    reporter: Reporter
    clock: Callable[[], datetime] = utc_now
    chance: Callable[[], float] = random.random
    on_change: Callable[[], None] = field(default=lambda: None)

    def new_attempt(self, message: StoredMessage) -> Attempt:
        """Return the next attempt of a message, which begins now."""
        return Attempt(
            number=message.attempts + 1, started=self.clock(), server="", username="", phase=str(Phase.RESOLVE)
        )

    def judge(self, message: StoredMessage, outcome: Outcome) -> Verdict:
        """Return what follows from an outcome, by the schedule."""
        return self._judge(message, copies_of(message, outcome))

    async def record_final_dot(self, work: Work) -> None:
        """Put on disk that our final dot is about to be sent. Raises Fenced, StoreError: then it must not be."""
        await self.queue.mark_final_dot(work.message.id, work.message.fence, work.attempt.number)

    async def write_down(self, work: Work, outcome: Outcome, verdict: Verdict) -> None:
        """Write down the verdict about a stored message, however long the store takes to take it. Raises Fenced."""
        if verdict.consequence and verdict.message.state == State.HELD:
            account = Account(work.attempt.server, work.attempt.username)
            verdict = replace(verdict, message=replace(verdict.message, held_by=str(account)))
        attempt, reports = ended(work.attempt, outcome, self.clock()), self._reports(work, verdict, outcome)
        await self._settle(work.message, verdict, attempt, reports)

    async def confirm(self, work: Work, verdict: Verdict, outcome: Outcome) -> None:
        """Store the confirmation that a client asked for (NOTIFY=SUCCESS), of a message that is not stored itself.

        Only for a message that its server took: one that it refuses is given back to the client, which needs no
        report. A store that fails costs the confirmation alone. The server has the message, and a client that is
        told of trouble would send it again.
        """
        reports = self._reports(work, verdict, outcome)
        if not reports:
            return
        try:
            await self.queue.add(*reports)
        except StoreError as error:
            log.broken(str(error), id=work.message.id)
        else:
            self.on_change()

    async def hold(self, message: StoredMessage, hold: HoldRow, attempt: Attempt | None = None) -> None:
        """Let a message wait for a hold, untried; `attempt` is the one that was written down and not made."""
        recipients = tuple(
            replace(one, state=str(next_state(State(one.state), Event.HOLD)), meaning=hold.meaning)
            for one in sending(message)
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

    async def give_back(self, message: StoredMessage, pause: float | None = None) -> None:
        """Let a claimed message wait as before, and go on trying: a lease that we keep would keep it from everybody."""
        state = message_state(State(one.state) for one in message.recipients)
        while True:
            await asyncio.sleep(_TROUBLE_SECONDS if pause is None else pause)
            pause = None
            try:
                await self.queue.release_lease(message.id, message.fence, str(state))
            except Fenced:
                return
            except StoreError as error:
                log.broken(str(error), id=message.id)
            else:
                return

    async def take_back(self) -> None:
        """Settle what an earlier run of this relay left under way."""
        async for message, attempt in self.queue.take_back(self.clock()):
            await self._end_broken_off(message, attempt, _STOPPED, self.clock())

    async def recover(self, message: StoredMessage) -> None:
        """Settle an attempt that a fault of ours ended: by what is on disk of it, as the next start would."""
        attempts = await self.queue.attempts(message.id)
        attempt = attempts[-1] if attempts and attempts[-1].ended is None else None
        later = self.schedule.next_attempt(self.clock(), message.attempts + 1, self.chance())
        await self._end_broken_off(message, attempt, _FAULT, later)

    def _judge(self, message: StoredMessage, copies: tuple[Copy, ...]) -> Verdict:
        return judge(message, copies, now=self.clock(), schedule=self.schedule, chance=self.chance())

    def _reports(self, work: Work, verdict: Verdict, outcome: Outcome) -> tuple[NewMessage, ...]:
        return self.reporter.reports(
            verdict,
            work.content,
            route=work.route,
            fallback=self.office.routing().default_route(),
            server=outcome.host,
            has_dsn=outcome.has_dsn,
            now=self.clock(),
        )

    async def _end_broken_off(
        self, message: StoredMessage, attempt: Attempt | None, reply: Reply, again: datetime
    ) -> None:
        """Settle an attempt without an outcome. It is unknown after its final dot, and before that tried `again`."""
        under_way, now = begun(message), self.clock()
        if attempt is not None and attempt.final_dot:
            lost = Failure(phase=Phase.FINAL, reply=reply, meaning=Meaning.UNKNOWN, from_server=False)
            verdict = self._judge(under_way, tuple(Copy(one.number, reply, lost) for one in sending(under_way)))
        else:
            lost = Failure(phase=Phase.CONTENT, reply=reply, meaning=Meaning.TEMPORARY, from_server=False)
            verdict = Verdict(message=interrupted(under_way, lost, now=now, again=again))
        over = replace(attempt, ended=now, reply=str(reply), meaning=str(lost.meaning)) if attempt else None
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
            except Fenced:
                raise
            except StoreError as error:
                log.broken(str(error), id=before.id)
                await asyncio.sleep(_TROUBLE_SECONDS)
        self.office.telling.settled(verdict.message, attempt, self.clock(), len(reports))
        if reports or verdict.is_open:
            self.on_change()
