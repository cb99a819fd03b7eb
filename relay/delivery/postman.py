"""The postman: makes one attempt for a message from the queue, and writes down what came of it.

Every attempt is on disk before it connects, and once more before its final dot, so that a crash leaves no doubt about
which messages a server may have. What follows from it is one transaction: states, attempt, reports.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from relay import log
from relay.delivery.accounts import Accounts
from relay.delivery.handing import at_once, hand_over
from relay.delivery.lifecycle import Event, State, message_state, next_state
from relay.delivery.lifting import lift
from relay.delivery.office import Office, Refused
from relay.delivery.parcel import Handed, Parcel, header_of, pack, pinned_route
from relay.delivery.reporter import Reporter
from relay.delivery.schedule import Schedule
from relay.delivery.turn import Turn
from relay.delivery.verdict import Copy, Verdict, begun, copies_of, interrupted, judge, sending
from relay.directory.model import Account, Meaning
from relay.directory.routing import Route
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.identity import from_address
from relay.mail.reply import Reply
from relay.secrets.secret import Secret
from relay.store.errors import StoreError
from relay.store.messages import Attempt, Fenced, HoldRow, NewMessage, NoContent, Settlement, StoredMessage
from relay.store.queue import Queue
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.phase import Phase
from relay.upstream.transfer import Progress

_TROUBLE_SECONDS = 5.0
_STOPPED = Reply(451, "4.4.2", "the relay was stopped in the middle of this attempt")
_FAULT = Reply(451, "4.3.0", "the relay met a fault of its own in this attempt; its log says which")

_NOT_BEGUN = Reply(451, "4.7.8", "the account was held just before this attempt, which was not made")


class _Paced(Exception):
    """The account may send no more just now: the message waits on."""


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Work:
    """One attempt under way: the message with its copies SENDING, as it came, and where it goes."""

    message: StoredMessage
    content: Content
    attempt: Attempt
    route: Route | None = None
    secret_version: str = ""


@dataclass(slots=True)
class Postman:
    """Makes attempts with the parts of one relay. `on_change` is called when something may be due."""

    office: Office
    queue: Queue
    accounts: Accounts
    schedule: Schedule
    reporter: Reporter
    clock: Callable[[], datetime] = utc_now
    chance: Callable[[], float] = random.random
    on_change: Callable[[], None] = field(default=lambda: None)
    _following: set[asyncio.Task[None]] = field(default_factory=set)

    async def attempt(self, message: StoredMessage, turn: Turn | None = None) -> None:
        """Try a claimed message once, and settle what came of it. Ends its turn; without one it waits for one."""
        try:
            await self._attempt(begun(message), turn)
        except _Paced:
            await self._give_back(message, pause=0.0)
        except Fenced:
            log.warned("a message was taken over while it was under way; the other's record counts", id=message.id)
        except (StoreError, NoContent) as error:
            # Before the final dot: nobody has the message, and it waits on as soon as the store can be told.
            log.broken(str(error) or "the store has no content of this message", id=message.id)
            await self._give_back(message)
        except Exception:
            log.broken("an attempt ended by a fault of ours", id=message.id, exc_info=True)
            await self._recover(message)
        finally:
            if turn is not None:
                turn.end()

    def follow(self, work: Work, handover: asyncio.Task[Outcome]) -> None:
        """Let a hand-over whose message was stored meanwhile go on, and write down its outcome."""
        task = asyncio.create_task(self._follow(work, handover))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def stop(self) -> None:
        """Wait for the hand-overs that go on without their clients; the caller sets a limit."""
        if self._following:
            await asyncio.wait(set(self._following))

    async def note(self, work: Work, outcome: Outcome) -> Verdict:
        """Judge an outcome, and let the account feel it at once: no other message makes the same attempt in vain."""
        self.office.telling.attempted(work.message, self._ended(work.attempt, outcome), outcome)
        verdict = self._judge(work.message, copies_of(work.message, outcome))
        try:
            await self._change_account(work, verdict)
        except StoreError as error:
            log.broken(str(error), id=work.message.id)  # the hold is in effect, and is stored with the next refusal
        return verdict

    def hold_over(self, route: Route, secret: Secret | None) -> HoldRow | None:
        """Return the hold over an attempt by this route; a new secret makes a refused login no reason any more.

        Where a probe of the account is due, None lets this attempt be the probe, and no other.
        """
        hold = self.accounts.hold_of(route.account, route.identity)
        if hold is None:
            return None
        is_old = hold.meaning == Meaning.LOGIN_REFUSED and secret is not None and hold.secret_version != secret.version
        may_go = is_old or (not hold.address and self.accounts.take_probe(route.account))
        return None if may_go else hold

    async def record_final_dot(self, work: Work) -> None:
        """Put on disk that our final dot is about to be sent. Raises Fenced, StoreError: then it must not be."""
        await self.queue.mark_final_dot(work.message.id, work.message.fence, work.attempt.number)

    async def take_back(self) -> None:
        """Settle what an earlier run of this relay left under way."""
        async for message, attempt in self.queue.take_back(self.clock()):
            await self._end_broken_off(message, attempt, _STOPPED, self.clock())

    def route_of_account(self, account: Account) -> Route | None:
        """Return a route that logs in as this account; None where none does any more."""
        routing = self.office.routing()
        default = routing.default_route()
        if default and default.account == account:
            return default
        directory = routing.directory
        profile = next((one for one in directory.profiles() if directory.account_of(one) == account), None)
        return routing.route_of(profile) if profile else None

    async def conclude(self, work: Work, outcome: Outcome) -> Verdict:
        """Judge the outcome of an attempt and write it down, however long the store takes to take it."""
        return await self.write_down(work, outcome, await self.note(work, outcome))

    async def write_down(self, work: Work, outcome: Outcome, verdict: Verdict) -> Verdict:
        """Write down what `note` said of the outcome of a stored message, however long the store takes to take it."""
        if verdict.consequence and verdict.message.state == State.HELD:
            account = Account(work.attempt.server, work.attempt.username)
            verdict = replace(verdict, message=replace(verdict.message, held_by=str(account)))
        attempt, reports = self._ended(work.attempt, outcome), self._reports(work, verdict, outcome)
        await self._settle(work.message, verdict, attempt, reports)
        return verdict

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

    async def _follow(self, work: Work, handover: asyncio.Task[Outcome]) -> None:
        try:
            await self.conclude(work, await handover)
        except Fenced:
            log.warned("a message was taken over while it was under way; the other's record counts", id=work.message.id)
        except Exception:
            log.broken("a delivery ended by a fault of ours", id=work.message.id, exc_info=True)
            await self._recover(work.message)

    async def _give_back(self, message: StoredMessage, pause: float | None = None) -> None:
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

    async def _attempt(self, message: StoredMessage, turn: Turn | None) -> None:
        content = await self.queue.content(message.id)
        work = Work(message, content, self._new_attempt(message))
        try:
            parcel, secret = await self._pack(work)
        except Refused as refusal:
            await self.conclude(work, Outcome(host="", failure=_failure_of(refusal)))
            return
        account, identity = parcel.route.account, parcel.route.identity
        was_held = self.accounts.hold_of(account, identity) is not None
        if (hold := self.hold_over(parcel.route, secret)) is not None:
            await self._hold(message, hold)
            return
        turn = await self._charged(work, parcel.route, turn)
        try:
            await self.queue.begin_attempt(message.id, message.fence, work.attempt)
            if not was_held and (hold := self.accounts.hold_of(account, identity)) is not None:
                await self._hold(message, hold, work.attempt)  # another attempt met it meanwhile
                return
            outcome = await self._deliver(work, parcel, secret, turn)
        finally:
            turn.end()
        await self.conclude(work, outcome)

    async def _charged(self, work: Work, route: Route, turn: Turn | None) -> Turn:
        """Return a turn for as many recipients as may have the message now. Raises _Paced where that is none."""
        if turn is None:
            turn = await self.office.pacing.turn(route.server, route.account, work.message.profile)
        if turn is None:
            raise _Paced
        if not turn.charge(at_once(route.server, len(sending(work.message)))):
            turn.end()
            raise _Paced
        return turn

    async def _deliver(self, work: Work, parcel: Parcel, secret: Secret | None, turn: Turn) -> Outcome:
        transfer = parcel.transfer(self._handed(work), secret)
        outcome = await hand_over(self.office, self.accounts, parcel.route, transfer, self._progress(work), turn)
        if not outcome.refuses_null_sender:
            return outcome
        # This provider takes no null sender: once from the identity, and nothing about the account follows from it.
        retried = replace(transfer, sender=parcel.route.identity)
        try:
            turn = await self._charged(work, parcel.route, None)
        except _Paced:  # the attempt is over; the next one asks with the null sender again
            assert outcome.failure is not None
            return replace(outcome, failure=replace(outcome.failure, meaning=Meaning.TEMPORARY))
        return await hand_over(self.office, self.accounts, parcel.route, retried, self._progress(work), turn)

    def _progress(self, work: Work) -> Progress:
        return Progress(before_final_dot=lambda: self.record_final_dot(work))

    async def _pack(self, work: Work) -> tuple[Parcel, Secret | None]:
        """Make the message ready, as server, account, identity and secret are now. Raises Refused."""
        handed = self._handed(work)
        header = header_of(work.content)
        route = work.route = self._route(work.message, handed.envelope.sender or from_address(header))
        work.attempt = replace(work.attempt, server=route.account.server, username=route.account.username)
        parcel = pack(self.office, handed, header, route)
        self.office.telling.routed(work.message.id, parcel.message_id, route, parcel.sender)
        try:
            secret = await self.office.find_secret(route)
        except Refused:
            work.secret_version = await self.office.secret_version(route) or ""
            raise
        work.secret_version = secret.version if secret else ""
        return parcel, secret

    def _route(self, message: StoredMessage, sender: Address | None) -> Route:
        """Return the route of the profile that the message is pinned to. Raises Refused where that is gone."""
        route = pinned_route(self.office.routing(), message.profile, sender)
        if route is None:
            gone = f"the profile '{message.profile}' is gone" if message.profile else "there is no default server"
            raise Refused(Reply(451, "4.3.5", gone), gone, meaning=Meaning.LOGIN_REFUSED)
        return route

    def _handed(self, work: Work) -> Handed:
        message = work.message
        recipients = tuple(one.recipient for one in sending(message))
        return Handed(message.client, message.arrival, replace(message.envelope, recipients=recipients), work.content)

    def _new_attempt(self, message: StoredMessage) -> Attempt:
        return Attempt(
            number=message.attempts + 1, started=self.clock(), server="", username="", phase=str(Phase.RESOLVE)
        )

    def _ended(self, attempt: Attempt, outcome: Outcome) -> Attempt:
        """Return an attempt with what came of it."""
        failure = outcome.first_failure
        return replace(
            attempt,
            ended=self.clock(),
            phase=str(failure.phase if failure else Phase.FINAL),
            final_dot=outcome.failure is None or outcome.failure.phase is Phase.FINAL,
            reply=str(outcome.failure.reply if outcome.failure else outcome.accepted),
            meaning=str(failure.meaning) if failure else "",
            tls=outcome.tls.version if outcome.tls else "",
        )

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

    def _judge(self, message: StoredMessage, copies: tuple[Copy, ...]) -> Verdict:
        return judge(message, copies, now=self.clock(), schedule=self.schedule, chance=self.chance())

    async def _recover(self, message: StoredMessage) -> None:
        """Settle an attempt that a fault of ours ended: by what is on disk of it, as the next start would."""
        attempts = await self.queue.attempts(message.id)
        attempt = attempts[-1] if attempts and attempts[-1].ended is None else None
        later = self.schedule.next_attempt(self.clock(), message.attempts + 1, self.chance())
        await self._end_broken_off(message, attempt, _FAULT, later)

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
        ended = replace(attempt, ended=now, reply=str(reply), meaning=str(lost.meaning)) if attempt else None
        await self._settle(message, verdict, ended, ())

    async def _change_account(self, work: Work, verdict: Verdict) -> None:
        route, failure = work.route, verdict.consequence
        if route is None:
            return
        if failure is None:
            if verdict.delivered:
                await self._prosper(route, work.attempt.started)
        elif failure.meaning is Meaning.THROTTLE:
            pause = self.accounts.slow_down(route.server, route.account, failure, self.clock())
            if pause is not None:
                self.office.telling.slowed(route.account, pause.reason, pause.until)
        else:
            if failure.meaning is Meaning.LOGIN_REFUSED:
                self.office.forget_secret(route)
            row = self.accounts.hold(route.account, route.identity, failure, work.secret_version, self.clock())
            await self._keep(row)

    async def _keep(self, row: HoldRow) -> None:
        self.office.telling.held(row)
        await self.queue.put_hold(row)

    async def _prosper(self, route: Route, began: datetime) -> None:
        """A message got through: nothing holds this account any more, and it may go faster again.

        What was under way when the hold began proves nothing: it may have used a connection that was open before.
        """
        account = route.account
        self.accounts.speed_up(route.server, account)
        hold = self.accounts.hold_of(account)
        if hold is not None and began >= hold.since:
            await lift(self.queue, self.accounts, account, self.clock(), with_pairs=False)
            self.on_change()

    async def _hold(self, message: StoredMessage, hold: HoldRow, attempt: Attempt | None = None) -> None:
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
        ended = replace(attempt, ended=self.clock(), reply=str(_NOT_BEGUN), meaning=hold.meaning) if attempt else None
        await self._settle(message, Verdict(message=held), ended, ())

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


def settlement_of(
    before: StoredMessage, verdict: Verdict, attempt: Attempt | None, reports: tuple[NewMessage, ...]
) -> Settlement:
    """Return what is to be written: the verdict's message, with those of its recipients that changed."""
    after = verdict.message
    was = {one.number: one for one in before.recipients}
    return Settlement(
        id=after.id,
        fence=after.fence,
        recipients=tuple(one for one in after.recipients if was[one.number] != one or one.state == State.SENDING),
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
        attempt=attempt,
        is_finished=State(after.state).is_final,
        reports=reports,
    )


def _failure_of(refusal: Refused) -> Failure:
    """Return our own refusal as what ended an attempt."""
    meaning = refusal.meaning or (Meaning.REFUSED if refusal.reply.is_permanent else Meaning.TEMPORARY)
    return Failure(phase=Phase.MAIL, reply=refusal.reply, meaning=meaning, from_server=False, detail=refusal.detail)
