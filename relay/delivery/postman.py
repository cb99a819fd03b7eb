"""The postman: makes one attempt for a message from the queue, and lets its account feel what came of it.

Every attempt is on disk before it connects, and once more before its final dot, so that a crash leaves no doubt about
which messages a server may have. The bookkeeper (`relay.delivery.bookkeeper`) writes down how it ended.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from relay import log
from relay.beside import beside
from relay.delivery.accounts import Accounts
from relay.delivery.bookkeeper import Bookkeeper
from relay.delivery.handing import at_once, hand_over
from relay.delivery.lifting import lift
from relay.delivery.office import Office, Refused
from relay.delivery.pacing import is_limited
from relay.delivery.parcel import Handed, Parcel, header_of, pack, pinned_route
from relay.delivery.schedule import Schedule
from relay.delivery.sending import Sending
from relay.delivery.turn import Turn
from relay.delivery.verdict import begun, consequence_of, sending
from relay.delivery.work import Held, Work, failure_of, may_have
from relay.directory.model import Account, Meaning
from relay.directory.routing import Route
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.identity import from_address
from relay.mail.reply import Reply
from relay.secrets.secret import Secret
from relay.settings import Settings
from relay.store.duties import Lead, Unrivalled
from relay.store.errors import StoreError
from relay.store.messages import Damaged, Fenced, HoldRow, NoContent, StoredMessage
from relay.store.queue import Queue
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.transaction import Progress, Transfer

# Seconds in which the store is waited for with what stands beside a message: between its server's answer and ours.
_BESIDE_SECONDS = 3.0


class _Paced(Exception):
    """The account may send no more just now: the message waits on."""


@dataclass(slots=True)
class Postman:
    """Makes attempts with the parts of one relay. `is_behind` says whether mail of an account waits for its turn.

    Only who has the `lead` may try out whether a hold is over.
    """

    office: Office
    accounts: Accounts
    books: Bookkeeper
    is_behind: Callable[[Account], bool] = field(default=lambda _: False)
    lead: Lead = field(default_factory=Unrivalled)
    _following: set[asyncio.Task[None]] = field(default_factory=set)
    _sending: Sending = field(default_factory=Sending)

    def adopt(self, settings: Settings) -> None:
        """Work by these settings from now on; an attempt under way goes on as it began."""
        schedule = Schedule.of(settings.delivery)
        self.office.adopt(settings)
        self.accounts.schedule = schedule
        self.books.adopt(schedule)

    @property
    def queue(self) -> Queue:
        """The queue that the attempts are from."""
        return self.books.queue

    @property
    def clock(self) -> Callable[[], datetime]:
        """Tells the time."""
        return self.books.clock

    async def attempt(self, message: StoredMessage, turn: Turn | None = None) -> None:
        """Try a claimed message once, and settle what came of it. Ends its turn; without one it waits for one."""
        try:
            await self._settled(message, self._attempt(begun(message), turn))
        finally:
            if turn is not None:
                turn.end()

    async def put_off(self, message: StoredMessage, why: str) -> None:
        """Let a claimed message that had no turn wait on, and its sender know; it may be over for it."""
        await self._settled(message, self._put_off(begun(message), why))

    async def _settled(self, message: StoredMessage, job: Coroutine[Any, Any, None]) -> None:
        """Do something that settles a claimed message, and settle it where that ends otherwise."""
        try:
            await job
        except _Paced:
            await self.books.give_back(message, pause=0.0)
        except Fenced:  # before it was sent, or the outcome is told where it is written down
            self.office.telling.overtaken(message.id, is_sent=False)
        except Damaged as damage:
            await self.books.hold_damaged(begun(message), str(damage))
        except (StoreError, NoContent) as error:
            # Before the final dot: nobody has the message, and it waits on as soon as the store can be told.
            log.broken(str(error) or "the store has no content of this message", id=message.id)
            await self.books.give_back(message)
        except Exception:
            # Whatever it was, a claimed message must not stay claimed.
            log.broken("an attempt ended by a fault of ours", id=message.id, exc_info=True)
            await self.books.recover(message)

    def follow(self, work: Work, handover: asyncio.Task[Outcome]) -> asyncio.Task[None]:
        """Let a hand-over whose message is stored go on; the task ends when its outcome is written down."""
        task = asyncio.create_task(self._follow(work, handover))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return task

    async def confirm(self, work: Work, outcome: Outcome) -> None:
        """Store the confirmation that a client asked for; a store that hangs gets it later, and keeps no 250 back."""
        await self._beside("the confirmation", work, self.books.confirm(work, outcome))

    def has_room(self, route: Route, content: Content) -> bool:
        """Whether a message that is stored now may be handed over at once, instead of waiting for its turn.

        Not before older mail of its account, and not where many do already: what waits on disk needs no memory.
        """
        if is_limited(route.server) or self.is_behind(route.account):
            return False
        return self._sending.has_room(route.account, self.accounts.connections(route.server, route.account), content)

    def send(self, work: Work, transfer: Transfer) -> None:
        """Hand over a message that was stored a moment ago, in the background."""
        progress = Progress(before_final_dot=lambda: self.books.record_final_dot(work))
        turn = Turn(recipients=at_once(transfer.server, len(transfer.recipients)))
        handover = asyncio.create_task(self.hand_over(work, transfer, progress, turn))
        handover.add_done_callback(self._sending.begin(transfer.account, work.content))
        self.follow(work, handover)

    async def stop(self) -> None:
        """Wait for the hand-overs that go on without their clients; the caller sets a limit."""
        if self._following:
            await asyncio.wait(set(self._following))

    async def write_down(self, work: Work, outcome: Outcome) -> None:
        """Write down what came of a stored message; where another took it over meanwhile, that one's record counts."""
        try:
            await self.books.write_down(work, outcome)
        except Fenced:
            self.office.telling.overtaken(work.message.id, is_sent=may_have(outcome))

    async def note(self, work: Work, outcome: Outcome) -> None:
        """Let the account feel an outcome at once: no other message makes the same attempt in vain."""
        self.office.telling.attempted(work, outcome, self.clock())
        if work.route is not None:
            self.accounts.reach.note(work.route.server.name, outcome, self.clock)
        await self._change_account(work, outcome)

    def hold_over(self, route: Route, secret: Secret | None) -> HoldRow | None:
        """Return the hold over an attempt by this route; a new secret makes a refused login no reason any more.

        Where a probe of the account is due, None lets this attempt be the probe, and no other.
        """
        hold = self.accounts.hold_of(route.account, route.identity)
        if hold is None:
            return None
        is_old = hold.meaning == Meaning.LOGIN_REFUSED and secret is not None and hold.secret_version != secret.version
        may_probe = not hold.address and self.lead.is_ours
        may_go = is_old or (may_probe and self.accounts.take_probe(route.account))
        return None if may_go else hold

    async def hand_over(self, work: Work, transfer: Transfer, progress: Progress, turn: Turn) -> Outcome:
        """Hand over a message whose client waits, and let its account feel what came of it. Raises Held, at once.

        Nothing comes between the look at the holds, the login, and the hold that follows from its refusal: of a
        hundred clients at once one meets it. May be cancelled as `relay.delivery.handing.hand_over`.
        """
        assert work.route is not None
        hold = self._new_hold(work)
        if hold is not None:
            raise Held(hold)
        outcome = await hand_over(self.office, self.accounts, work.route, transfer, progress, turn)
        with beside("what an account feels of an attempt"):
            await self.note(work, outcome)
        return outcome

    def _new_hold(self, work: Work) -> HoldRow | None:
        """Return the hold that came over the account of an attempt after it was let go."""
        assert work.route is not None
        hold = self.accounts.hold_of(work.route.account, work.route.identity)
        was = work.hold
        is_new = hold is not None and (was is None or hold.secret_version != was.secret_version)
        return hold if is_new else None

    async def _follow(self, work: Work, handover: asyncio.Task[Outcome]) -> None:
        try:
            await self.write_down(work, await handover)
        except Held as held:
            await self._settled(work.message, self.books.hold(work.message, held.hold, work.attempt))
        except Fenced:
            self.office.telling.overtaken(work.message.id, is_sent=False)
        except Exception:
            # As above: it is stored as under way, and nobody else would end it.
            log.broken("a delivery ended by a fault of ours", id=work.message.id, exc_info=True)
            await self.books.recover(work.message)

    async def _conclude(self, work: Work, outcome: Outcome) -> None:
        await self.note(work, outcome)
        await self.write_down(work, outcome)

    async def _attempt(self, message: StoredMessage, turn: Turn | None) -> None:
        content = await self.queue.content_to_send(message)
        work = Work.of(message, content, self.books.new_attempt(message))
        try:
            parcel, secret = await self._pack(work)
        except Refused as refusal:
            await self._conclude(work, Outcome(host="", failure=failure_of(refusal)))
            return
        work.hold = self.accounts.hold_of(parcel.route.account, parcel.route.identity)
        if (hold := self.hold_over(parcel.route, secret)) is not None:
            await self.books.hold(message, hold)
            return
        turn = await self._charged(work, parcel.route, turn)
        try:
            await self.queue.begin_attempt(message.id, message.fence, work.attempt)
            if (hold := self._new_hold(work)) is not None:
                await self.books.hold(message, hold, work.attempt)  # another attempt met it meanwhile
                return
            outcome = await self._deliver(work, parcel, secret, turn)
        finally:
            turn.end()
        await self._conclude(work, outcome)

    async def _put_off(self, message: StoredMessage, why: str) -> None:
        work = Work.of(message, await self.queue.content_to_send(message), self.books.new_attempt(message))
        work.route = pinned_route(self.office.routing(), message.profile, message.envelope.sender)
        await self.books.put_off(work, why)

    async def _charged(self, work: Work, route: Route, turn: Turn | None) -> Turn:
        """Return a turn for as many recipients as may have the message now. Raises _Paced where that is none."""
        if turn is None:
            turn = await self.office.pacing.turn(route.server, route.account, work.message.profile)
        if turn is None:
            raise _Paced
        try:
            if not await turn.charge(at_once(route.server, len(sending(work.message)))):
                raise _Paced
        except BaseException:
            turn.end()
            raise
        return turn

    async def _deliver(self, work: Work, parcel: Parcel, secret: Secret | None, turn: Turn) -> Outcome:
        transfer = parcel.transfer(self._handed(work), secret)
        outcome = await self._hand_over(work, parcel.route, transfer, turn)
        if not outcome.refuses_null_sender:
            return outcome
        # This provider takes no null sender: once from the identity, and nothing about the account follows from it.
        retried = replace(transfer, sender=parcel.route.identity)
        try:
            turn = await self._charged(work, parcel.route, None)
        except _Paced:  # the attempt is over; the next one asks with the null sender again
            assert outcome.failure is not None
            return replace(outcome, failure=replace(outcome.failure, meaning=Meaning.TEMPORARY))
        return await self._hand_over(work, parcel.route, retried, turn)

    async def _hand_over(self, work: Work, route: Route, transfer: Transfer, turn: Turn) -> Outcome:
        progress = Progress(before_final_dot=lambda: self.books.record_final_dot(work))
        return await hand_over(self.office, self.accounts, route, transfer, progress, turn)

    async def _pack(self, work: Work) -> tuple[Parcel, Secret | None]:
        """Make the message ready, as server, account, identity and secret are now. Raises Refused."""
        handed = self._handed(work)
        header = header_of(work.content)
        route = work.route = self._route(work.message, handed.envelope.sender or from_address(header))
        work.attempt = replace(work.attempt, server=route.account.server, username=route.account.username)
        parcel = pack(self.office, handed, header, route)
        work.attempt = replace(work.attempt, changes=parcel.changes)
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
        return Handed(message.client, message.arrival, message.envelope.to(recipients), work.content)

    async def _change_account(self, work: Work, outcome: Outcome) -> None:
        route, failure = work.route, consequence_of(outcome)
        if route is None:
            return
        if failure is None:
            if outcome.accepted is not None:
                await self._prosper(work, route)
        elif failure.meaning is Meaning.THROTTLE:
            pause = self.accounts.slow_down(route.server, route.account, failure, self.clock())
            if pause is not None:
                self.office.telling.slowed(route.account, pause.reason, pause.until)
        else:
            await self._hold(work, route, failure)

    async def _hold(self, work: Work, route: Route, failure: Failure) -> None:
        account, identity, version = route.account, route.identity, work.secret_version
        if self.accounts.is_known(account, identity, failure.meaning, version, work.attempt.started):
            return
        if failure.meaning is Meaning.LOGIN_REFUSED:
            self.office.forget_secret(route)
        row = self.accounts.hold(account, identity, failure, version, self.clock())
        self.office.telling.held(row)
        # It is in effect; one that the store did not take is stored with the next refusal.
        await self._beside("a hold", work, self.queue.put_hold(row))

    async def _prosper(self, work: Work, route: Route) -> None:
        """A message got through: nothing holds this account any more, and it may go faster again.

        What was under way when the hold began proves nothing: it may have used a connection that was open before.
        """
        account = route.account
        self.accounts.speed_up(route.server, account)
        hold = self.accounts.hold_of(account)
        if hold is not None and work.attempt.started >= hold.since:
            await self._beside("the end of a hold", work, self._lift(account))

    async def _lift(self, account: Account) -> None:
        await lift(self.queue, self.accounts, account, self.clock(), with_pairs=False)
        self.books.on_change()

    async def _beside(self, what: str, work: Work, job: Coroutine[Any, Any, None]) -> None:
        """Do something beside a message that the store has to take: no fault comes out, and a hanging store is left.

        The store takes its jobs in the order of the calls, also those that nobody waits for any more.
        """
        task = asyncio.create_task(_told(what, work, job))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        await asyncio.wait({task}, timeout=_BESIDE_SECONDS)


async def _told(what: str, work: Work, job: Coroutine[Any, Any, None]) -> None:
    with beside(what):
        try:
            await job
        except StoreError as error:
            log.broken(str(error), id=work.message.id)
