"""One submission: a message being handed to us, in one of the three modes (DESIGN section 5).

direct: it goes upstream while its client waits, all recipients or none, and nothing is stored.
queued: it is stored, and the client has its answer.
auto:   as direct, but what the upstream did not take is stored instead of given back. So is what takes longer than
        the client's patience: then the hand-over that is under way goes on without the client.

The client may leave at any moment: before our final dot that ends the attempt, after it the outcome is recorded. A
relay that stops hurries: patience is over then, and who waits has an answer in time.
"""

import asyncio
import time
from dataclasses import dataclass, field, replace

from relay.beside import beside
from relay.delivery import replies
from relay.delivery.drafts import Draft
from relay.delivery.handing import at_once
from relay.delivery.history import History
from relay.delivery.journey import Ending, Journey
from relay.delivery.lifecycle import State
from relay.delivery.office import Office, Refused
from relay.delivery.pacing import is_limited
from relay.delivery.parcel import Handed, header_of, pack
from relay.delivery.patience import Patience
from relay.delivery.postman import Postman
from relay.delivery.running_ahead import RunningAhead
from relay.delivery.turn import Turn
from relay.delivery.work import Held, Work, ended
from relay.directory.client import Client
from relay.directory.model import Meaning, Mode
from relay.directory.routing import Route
from relay.mail.content import Content, GrowingBody
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.secrets.secret import Secret
from relay.store.errors import StoreError, StoreFull
from relay.store.messages import HoldRow, NewMessage
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.phase import Phase
from relay.upstream.transfer import Progress, Transfer


@dataclass(slots=True)
class Submission:
    """One message being handed to us. `complete` is called once; `client_left` and `hurry` at any time."""

    office: Office
    postman: Postman
    history: History
    client: Client
    envelope: Envelope
    arrival: Arrival
    _began: float = field(default_factory=time.monotonic)
    _progress: Progress = field(default_factory=Progress)
    _handover: asyncio.Task[Outcome] | None = None
    _waiting: asyncio.Task[Turn | None] | None = None
    _patience: Patience = field(default_factory=Patience)
    _ahead: RunningAhead | None = None
    _left: bool = False

    def foresee(self, header: bytes, body: GrowingBody) -> None:
        """A large message comes, and this is there of it: it may go ahead to its server."""
        handed = Handed(self.client, self.arrival, self.envelope, Content(header, body))
        self._ahead = RunningAhead(self.office, self.postman, handed, body)
        self._ahead.begin()

    def more(self) -> None:
        """More of it has come."""
        if self._ahead is not None:
            self._ahead.more()

    def abandon(self) -> None:
        """It will not go by what was foreseen."""
        if self._ahead is not None:
            self._ahead.abandon()

    async def complete(self, content: Content) -> Reply:
        """Do with the message what its mode says, and return what its client is told; the journey goes to the log."""
        self._began = time.monotonic()
        try:
            return await self._complete(content)
        finally:
            self.abandon()

    async def _complete(self, content: Content) -> Reply:
        handed = Handed(self.client, self.arrival, self.envelope, content)
        found: list[Draft] = []
        try:
            journey = await self._travel(handed, found)
        except Refused as refusal:
            ending = Ending.REFUSED if refusal.reply.is_permanent else Ending.DEFERRED
            journey = self._journey(ending, refusal.reply, handed, found, detail=refusal.detail)
        except StoreFull as error:
            journey = self._journey(Ending.DEFERRED, replies.STORE_FULL, handed, found, detail=str(error))
        except StoreError as error:
            journey = self._journey(Ending.DEFERRED, replies.STORE_BROKEN, handed, found, detail=str(error))
        with beside("what is told of a message"):
            self.office.tell(journey)
        return journey.reply

    def client_left(self) -> None:
        """The client has gone: nobody waits for an answer any more."""
        self._left = True
        if self._waiting:
            self._waiting.cancel()
        if self._handover and not self._progress.final_dot_sent:
            self._handover.cancel()

    def hurry(self, seconds: float) -> None:
        """We stop: the client is to have its answer within so many seconds, and before if it can."""
        self._patience.hurry(seconds)

    async def _travel(self, handed: Handed, found: list[Draft]) -> Journey:
        header = header_of(handed.content)
        route = self.office.route_of_message(self.client, self.envelope, header)
        parcel = pack(self.office, handed, header, route)
        draft = Draft(handed, header, parcel, self.postman.queue.came_ahead())
        found.append(draft)
        self.office.telling.routed(self.arrival.id, parcel.message_id, route, parcel.sender)
        mode = self.office.mode_of(route)
        if mode is Mode.DIRECT:
            return await self._direct(draft)
        if mode is Mode.AUTO:
            return await self._auto(draft)
        return await self._queue(draft)

    # direct

    async def _direct(self, draft: Draft) -> Journey:
        route = draft.parcel.route
        secret = await self.office.find_secret(route)
        work = self._work(draft, secret)
        self._check_hold(route, secret)
        self._check_number(route)
        end = time.monotonic() + self.office.direct_patience
        turn = await self._turn(route, self.office.direct_patience)
        if turn is None:
            self._check_time()
            raise Refused(replies.PACED, self._why_paced(route))
        handover = self._start(work, draft.parcel.transfer(draft.handed, secret, all_or_none=True), turn)
        if not await self._patience.wait(handover, end - time.monotonic()) and not self._progress.final_dot_sent:
            handover.cancel()
            await asyncio.wait({handover})
            if handover.cancelled():
                self._check_time()
                raise Refused(replies.TOOK_TOO_LONG)
        try:
            return self._finish(draft, work, await self._outcome(handover))
        except Held as held:
            raise _refused_by(held.hold, route) from None

    def _check_time(self) -> None:
        """Refuse what is not under way where we are about to end."""
        if self._patience.is_over:
            raise Refused(replies.STOPPING)

    def _check_hold(self, route: Route, secret: Secret | None) -> None:
        hold = self.postman.hold_over(route, secret)
        if hold is not None:
            raise _refused_by(hold, route)
        slow = self.postman.accounts.slowness_of(route.account, self.postman.clock())
        if slow is not None:
            raise Refused(replies.of_meaning(Meaning.THROTTLE), f"{route.account} makes a pause: {slow.reason}")

    def _check_number(self, route: Route) -> None:
        """Refuse for good what never goes in one transaction: where a second fails, the first cannot be taken back."""
        limits = (route.server.recipients_per_message, route.server.recipients_per_day)
        most, number = min((limit for limit in limits if limit), default=0), len(self.envelope.recipients)
        if most and number > most:
            raise Refused(replies.too_many_recipients(number, most))

    # auto

    async def _auto(self, draft: Draft) -> Journey:
        route = draft.parcel.route
        try:
            secret = await self.office.find_secret(route)
        except Refused:
            return await self._store(draft)  # the queue holds it, and says why
        work = self._work(draft, secret)
        if self.postman.hold_over(route, secret) or self._is_slow(route):
            return await self._store(draft)  # an attempt now would be in vain
        end = time.monotonic() + self.office.patience
        turn = await self._turn(route, self.office.patience)
        if turn is None:
            return await self._store(draft, self._why_paced(route))
        if self._is_slow(route):
            turn.end()
            return await self._store(draft)
        handover = self._start(work, draft.parcel.transfer(draft.handed, secret), turn)
        if not await self._patience.wait(handover, end - time.monotonic()):
            return await self._leave_to_go_on(work, handover, draft)
        try:
            outcome = await self._outcome(handover)
        except Held:
            return await self._store(draft)
        if outcome.is_complete and any(one.notify for one in self.envelope.recipients):
            await self.postman.confirm(work, outcome)
        if outcome.is_complete or _is_refused(outcome, len(self.envelope.recipients)):
            return self._finish(draft, work, outcome)
        # Committed before the client has its 250: who is still owed the message, and the report about who refused it.
        work.attempt = replace(work.attempt, final_dot=_may_be_there(outcome))
        await self.postman.queue.add(NewMessage(message=work.message, content=work.content, attempt=work.attempt))
        # From here on it is ours: a fault while that is written down, or a store that hangs, takes no 250 back.
        await self._patience.wait(self.postman.follow(work, handover), max(end - time.monotonic(), 0.0))
        return self._queued(draft, outcome)

    def _is_slow(self, route: Route) -> bool:
        return self.postman.accounts.slowness_of(route.account, self.postman.clock()) is not None

    async def _leave_to_go_on(self, work: Work, handover: asyncio.Task[Outcome], draft: Draft) -> Journey:
        """Store a message whose delivery is under way, and let that go on: its outcome decides, and it is sent once."""
        stored = asyncio.get_running_loop().create_future()

        async def record() -> None:
            await asyncio.shield(stored)
            await self.postman.books.record_final_dot(work)

        self._handover = None  # from here on the client may go: what is stored goes on
        self._progress.before_final_dot = record
        work.attempt = replace(work.attempt, phase=str(self._progress.phase), final_dot=self._progress.final_dot_sent)
        try:
            await self.postman.queue.add(NewMessage(message=work.message, content=work.content, attempt=work.attempt))
        except StoreError:
            stored.cancel()
            if not self._progress.final_dot_sent:
                handover.cancel()
                raise
            return self._finish(draft, work, await self._outcome(handover))
        stored.set_result(None)
        self.postman.follow(work, handover)
        return self._queued(draft)

    # queued

    async def _queue(self, draft: Draft) -> Journey:
        """Store a message, and hand it over in the background: at once where nothing is in its way."""
        route = draft.parcel.route
        if draft.parcel.sender is None or not self.postman.has_room(route, draft.handed.content):
            return await self._store(draft)
        try:
            secret = await self.office.find_secret(route)
        except Refused:
            return await self._store(draft)  # the queue holds it, and says why
        if self._is_slow(route) or self.postman.hold_over(route, secret):
            return await self._store(draft)
        work, transfer = self._work(draft, secret), draft.parcel.transfer(draft.handed, secret)
        await self.postman.queue.add(NewMessage(message=work.message, content=work.content, attempt=work.attempt))
        self.postman.send(work, transfer)
        return self._queued(draft)

    async def _store(self, draft: Draft, why: str = "") -> Journey:
        message = draft.queued(self.postman.clock())
        await self.postman.queue.add(NewMessage(message=message, content=draft.handed.content))
        with beside("the dispatcher's wake-up"):  # it looks by itself, too
            self.postman.books.on_change()
        return self._queued(draft, detail=why)

    # what they share

    def _work(self, draft: Draft, secret: Secret | None) -> Work:
        """Return the attempt that begins now, under the hold that its account has now."""
        now, route = self.postman.clock(), draft.parcel.route
        account, identity = route.account, route.identity
        hold, version = self.postman.accounts.hold_of(account, identity), secret.version if secret else ""
        attempt = draft.first_attempt(now)
        return Work(lambda: draft.under_way(now), draft.handed.content, attempt, route, version, hold)

    async def _turn(self, route: Route, patience: float) -> Turn | None:
        """Wait for the turn of this message, and take its recipients off the budget; None where it takes too long."""
        server, number = route.server, at_once(route.server, len(self.envelope.recipients))
        turn: Turn | None = Turn()
        if is_limited(server):
            waiting = self.office.pacing.turn(
                server,
                route.account,
                route.profile.name if route.profile else None,
                recipients=number,
                within=patience,
            )
            turn = await self._wait_for_turn(asyncio.create_task(waiting))
        if turn is None:
            return None
        is_charged = False
        try:
            is_charged = await turn.charge(number) == number
        finally:
            if not is_charged:
                turn.end()
        return turn if is_charged else None

    async def _wait_for_turn(self, waiting: asyncio.Task[Turn | None]) -> Turn | None:
        self._waiting = waiting
        is_ours = False
        try:
            is_ours = await self._patience.wait(waiting) and not self._left
        finally:
            if not is_ours:
                _end_unused(waiting)
        if self._left:
            raise Refused(replies.CLIENT_LEFT)
        return waiting.result() if is_ours else None

    def _why_paced(self, route: Route) -> str:
        """Count a message that its account's limits keep back, and return why."""
        self.office.telling.paced(route.server.name)
        return self.office.pacing.reason(route.server, route.account)

    def _start(self, work: Work, transfer: Transfer, turn: Turn) -> asyncio.Task[Outcome]:
        """Begin the hand-over, as a task of its own: a service that stops does not take its outcome away."""
        if self._left:
            turn.end()
            raise Refused(replies.CLIENT_LEFT)
        head_start = self._ahead.take() if self._ahead is not None else None
        if head_start is not None:
            transfer = replace(transfer, head_start=head_start)
        self._handover = asyncio.create_task(self.postman.hand_over(work, transfer, self._progress, turn))
        self._handover.add_done_callback(lambda _: turn.end())  # also where it is cancelled before it begins
        if head_start is not None:
            self._handover.add_done_callback(lambda _: head_start.abandon())  # where it was not made use of
        return self._handover

    async def _outcome(self, handover: asyncio.Task[Outcome]) -> Outcome:
        """Wait for the end of a hand-over. Raises Refused, Held."""
        if not await self._patience.wait_to_the_last(handover):
            raise Refused(replies.of_meaning(Meaning.UNKNOWN), "the relay stopped before the server had answered")
        if handover.cancelled():
            raise Refused(replies.CLIENT_LEFT)
        return handover.result()

    def _finish(self, draft: Draft, work: Work, outcome: Outcome) -> Journey:
        """Return the end of a message that is not stored: delivered, refused, or given back to its client."""
        failures = map(outcome.failure_at, range(len(self.envelope.recipients)))
        failure = next(filter(None, failures), None)
        if failure is None:
            assert outcome.accepted is not None
            server = draft.parcel.route.server
            reply, ending = replies.delivered(server.name, outcome.accepted), Ending.DELIVERED
        else:
            reply = replies.of_failure(failure)
            ending = Ending.FAILED if reply.is_permanent else Ending.DEFERRED
        if ending is not Ending.DEFERRED:
            state = State.DELIVERED if ending is Ending.DELIVERED else State.FAILED
            upstream = failure.reply if failure else outcome.accepted
            now = self.postman.clock()
            with beside("the history"):
                self.history.record(draft.over(state, upstream, outcome, now), ended(work.attempt, outcome, now))
        return self._journey(ending, reply, draft.handed, [draft], outcome=outcome, failure=failure)

    def _queued(self, draft: Draft, outcome: Outcome | None = None, *, detail: str = "") -> Journey:
        reply = replies.queued(self.arrival.id)
        return self._journey(Ending.QUEUED, reply, draft.handed, [draft], outcome=outcome, detail=detail)

    def _journey(
        self,
        ending: Ending,
        reply: Reply,
        handed: Handed,
        found: list[Draft],
        *,
        outcome: Outcome | None = None,
        failure: Failure | None = None,
        detail: str = "",
    ) -> Journey:
        parcel = found[0].parcel if found else None
        failure = failure or (outcome.failure if outcome else None)
        return Journey(
            ending=ending,
            arrival=self.arrival,
            client=self.client,
            envelope=self.envelope,
            size=handed.content.size,
            reply=reply,
            seconds=time.monotonic() - self._began,
            message_id=parcel.message_id if parcel else "",
            route=parcel.route if parcel else None,
            sender=parcel.sender if parcel else None,
            changes=parcel.outgoing.changes if parcel else (),
            upstream=failure.reply if failure else outcome.accepted if outcome else None,
            phase=str(failure.phase) if failure else "",
            tls=outcome.tls.version if outcome and outcome.tls else "",
            detail=failure.detail if failure else detail,
        )


def _end_unused(waiting: asyncio.Task[Turn | None]) -> None:
    """End a turn that nobody waits for any more, or the wait for it."""
    if not waiting.cancel() and not waiting.cancelled() and (turn := waiting.result()) is not None:
        turn.end()


def _refused_by(hold: HoldRow, route: Route) -> Refused:
    return Refused(replies.of_meaning(Meaning(hold.meaning)), f"{route.account} is held: {hold.reason}")


def _is_refused(outcome: Outcome, recipients: int) -> bool:
    """Whether nobody has the message, and each of the recipients was refused for good."""
    failures = [outcome.failure_at(index) for index in range(recipients)]
    return outcome.accepted is None and all(_is_refusal(failure) for failure in failures if failure)


def _is_refusal(failure: Failure) -> bool:
    """Whether a failure is about the message or recipient, and for good."""
    return failure.meaning is Meaning.REFUSED and failure.reply.is_permanent


def _may_be_there(outcome: Outcome) -> bool:
    """Whether the server may have the message for somebody."""
    return outcome.failure is None or outcome.failure.phase is Phase.FINAL
