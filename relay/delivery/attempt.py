"""One attempt: a message is handed over once, with the server, account, secret and identity as they are now.

The procedure is the same for a message whose client waits (`relay.delivery.acceptance`) and for one from the queue
(`Attempts.try_stored`):

1. The route and its secret are resolved, and the message is prepared (`relay.delivery.preparation`).
2. The holds over the account are looked at, and once more next to the login: of a hundred clients one meets a refusal.
3. A permit is taken where the account has limits. It says how many recipients go at once.
4. The message is sent. A refused access token is renewed once, and a refused null sender replaced by the identity once.
5. The account feels what came of it at once: it is held, makes a pause, or its hold is over.

What a message in the queue needs beside that is put on disk by `relay.delivery.recorder`: that an attempt connects now,
that it sends its final dot now, and how it ended.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from relay import log
from relay.config.settings import Settings
from relay.delivery import replies
from relay.delivery.backup_server import Backups
from relay.delivery.events import MessageEvents
from relay.delivery.holds import Accounts, lift
from relay.delivery.outcome import (
    Schedule,
    begun,
    consequence_of,
    is_about_null_sender,
    sending,
    used_recipients,
    with_rest,
    without_blame,
)
from relay.delivery.preparation import Prepared, Refused, Submitted, at_once, header_of, pinned_route, prepare
from relay.delivery.recorder import Recorder, RunningAttempt, failure_of, may_have
from relay.directory.model import Account, Meaning
from relay.directory.routing import Route, Routing
from relay.limits.limiter import Limiter, Permit, is_limited
from relay.mail.address import Address
from relay.mail.header import Header
from relay.mail.identity import Mismatch, from_address
from relay.mail.reply import Reply
from relay.secrets.resolver import SecretResolver
from relay.secrets.secret import Secret, secret_ref
from relay.secrets.sources import SecretDelayed, SecretUnavailable
from relay.store.cluster.leases import Lead, Unrivalled
from relay.store.db.errors import StoreError
from relay.store.queue.messages import Damaged, Fenced, HoldRow, NoContent, StoredMessage
from relay.system.fault_barrier import beside, tell_fault
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import BegunTransaction, Progress, Transfer

# Seconds in which the store is waited for with what stands beside a message: between its server's answer and ours.
_BESIDE_SECONDS = 3.0


class Held(Exception):
    """A hold came over the account of an attempt that had not begun: it would have been in vain."""

    def __init__(self, hold: HoldRow) -> None:
        super().__init__(hold.reason)
        self.hold = hold


Ended: TypeAlias = Outcome | HoldRow | Exception
"""How an attempt ended: what came of it, the hold that kept it from beginning, or a fault."""


class _OverLimit(Exception):
    """The account may send no more just now: the message waits on."""


class Upstream(Protocol):
    """The way out (`relay.upstream.pool`); tests have another."""

    async def deliver(self, transfer: Transfer, progress: Progress) -> Outcome:
        """Hand one message over. May be cancelled until `progress.final_dot_sent`."""

    def begin_cut_through(self, transfer: Transfer) -> BegunTransaction | None:
        """Begin to hand over a message that still arrives; None where it has to wait."""


@dataclass(slots=True, kw_only=True)
class Attempts:
    """Makes the attempts of one relay. `routing` returns the routing of the directory in effect.

    `limits` gives permits. Only who has the `lead` may try out whether a hold is over.
    """

    routing: Callable[[], Routing]
    secrets: SecretResolver
    upstream: Upstream
    limits: Limiter
    accounts: Accounts
    recorder: Recorder
    events: MessageEvents = field(default_factory=MessageEvents)
    mismatch: Mismatch = Mismatch.REWRITE
    lead: Lead = field(default_factory=Unrivalled)
    backups: Backups = field(init=False)
    _following: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Know which servers have a backup."""
        self.backups = Backups(
            directory=lambda: self.routing().directory,
            secrets=self.secrets,
            accounts=self.accounts,
            events=self.events,
            clock=lambda: self.recorder.clock(),  # noqa: PLW0108  that of later
        )

    def adopt(self, settings: Settings) -> None:
        """Work by these settings from now on; an attempt under way goes on as it began."""
        schedule = Schedule.of(settings.delivery)
        self.mismatch = Mismatch(settings.policy.from_mismatch)
        self.accounts.schedule = schedule
        self.recorder.adopt(schedule)

    async def run(
        self, attempt: RunningAttempt, transfer: Transfer, progress: Progress, permit: Permit | None = None
    ) -> Outcome:
        """Send a message, and let its account feel what came of it. Ends the permit. Raises Held, at once.

        Nothing comes between the look at the holds, the login, and the hold that follows from its refusal. May be
        cancelled until `progress.final_dot_sent`, and nobody has the message then.
        """
        route = attempt.route
        assert route is not None
        is_clear = self.accounts.is_clear
        if not is_clear and (hold := self.accounts.new_hold(route.account, route.identity, attempt.hold)) is not None:
            raise Held(hold)
        outcome = await self._send(route, transfer, progress, permit, is_clear=is_clear)
        if outcome.refuses_null_sender:
            outcome = await self._send_from_identity(route, transfer, progress, outcome)
        try:
            self.events.attempted(attempt, outcome, self.recorder.clock)
            if outcome.failure is not None or outcome.refused or not self.accounts.is_clear:
                await self._let_account_feel(attempt, route, outcome)
        except Exception:  # the server has the message, or said why not: that counts
            tell_fault("what an account feels of an attempt")
        return outcome

    # Resolve and prepare

    def prepare(self, submitted: Submitted, header: Header, route: Route) -> Prepared:
        """Prepare a message for a route. Raises Refused: a loop, or a From that may not be."""
        return prepare(submitted, header, route, self.routing(), self.mismatch)

    async def secret_of(self, route: Route) -> Secret | None:
        """Return the secret that logs in on a route, None where the server wants none. Raises Refused."""
        ref = secret_ref(route.server, route.profile, override=route.override)
        if ref is None:
            return None
        try:
            secret = await self.secrets.secret(ref)
        except SecretDelayed as error:
            raise Refused(replies.of_meaning(Meaning.TEMPORARY), str(error), Meaning.TEMPORARY) from None
        except SecretUnavailable as error:
            raise _no_login(str(error)) from None
        if secret is None:
            raise _no_login(self.secrets.lack(ref, route.account))
        return secret

    async def secret_version(self, route: Route) -> str | None:
        """Return the version of the secret that would log in on a route; None where there is none to be had."""
        ref = secret_ref(route.server, route.profile, override=route.override)
        try:
            return await self.secrets.version(ref) if ref else None
        except SecretUnavailable:
            return None

    # Holds

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

    # Permit and send

    async def _permit(self, attempt: RunningAttempt, route: Route, permit: Permit | None, wanted: int) -> Permit | None:
        """Return a permit for as many recipients as may have the message now; None where nothing is limited.

        Raises _OverLimit where that is nobody.
        """
        server = route.server
        if permit is not None and permit.scope != server.scope(route.account):  # it goes another way meanwhile
            permit.end()
            permit = None
        if permit is None and is_limited(server):
            permit = await self.limits.permit(server, route.account, attempt.message.profile)
            if permit is None:
                raise _OverLimit
        if permit is not None:
            try:
                if not await permit.charge(at_once(server, wanted)):
                    raise _OverLimit
            except BaseException:
                permit.end()
                raise
        return permit

    async def _send(
        self, route: Route, transfer: Transfer, progress: Progress, permit: Permit | None, *, is_clear: bool
    ) -> Outcome:
        """Hand a message over to as many recipients as go at once; the others follow, says the outcome.

        `is_clear`: nothing is known of any account or server (`Accounts.is_clear`).
        """
        accounts, server, total = self.accounts, transfer.server, len(transfer.recipients)
        number = permit.recipients if permit is not None else at_once(server, total)
        first = transfer if number == total else replace(transfer, recipients=transfer.recipients[:number])
        if not is_clear and (connections := accounts.connections(server, transfer.account)) < server.max_connections:
            first = replace(first, server=replace(server, max_connections=connections))
        outcome: Outcome | None = None
        if permit is not None:
            progress.on_mail = permit.begin
        try:
            outcome = await self.upstream.deliver(first, progress)
            if outcome.failure is not None and transfer.secret is not None and outcome.failure.is_refused_login:
                outcome = await self._with_renewed_token(route, first, progress, transfer.secret, outcome)
        finally:
            if permit is not None:
                with beside("what a limit gets back"):
                    permit.end(used_recipients(number, outcome, progress))
        if outcome.failure is None and number == total and is_clear:
            return outcome
        outcome = accounts.count(route.account, outcome)
        if transfer.sender is None and outcome.failure is not None and is_about_null_sender(outcome.failure):
            outcome = without_blame(outcome, outcome.failure.meaning)
        return with_rest(outcome, number, total)

    async def _with_renewed_token(
        self, route: Route, transfer: Transfer, progress: Progress, secret: Secret, outcome: Outcome
    ) -> Outcome:
        """Try once more with a renewed access token where the server refused the one that it was given."""
        ref = secret_ref(route.server, route.profile, override=route.override)
        if ref is None or ref.token is None:
            return outcome
        try:
            renewed = await self.secrets.renewed(ref, secret)
        except SecretUnavailable as error:
            return _without_token(outcome, error)
        return outcome if renewed is None else await self.upstream.deliver(replace(transfer, secret=renewed), progress)

    async def _send_from_identity(
        self, route: Route, transfer: Transfer, progress: Progress, outcome: Outcome
    ) -> Outcome:
        """Send from the identity what a provider takes from no null sender: nothing follows from that for the account.

        Where the account may send nothing more just now, the attempt is over: the next one asks with the null sender.
        """
        server, number = route.server, at_once(route.server, len(transfer.recipients))
        permit: Permit | None = None
        if is_limited(server):
            profile = route.profile.name if route.profile else None
            permit = await self.limits.permit(server, route.account, profile)
            if permit is None or not await permit.charge(number):
                if permit is not None:
                    permit.end()
                assert outcome.failure is not None
                return replace(outcome, failure=replace(outcome.failure, meaning=Meaning.TEMPORARY))
        progress.phase, progress.final_dot_sent = Phase.RESOLVE, False  # nobody has it, and it may be cancelled again
        transfer = replace(transfer, sender=route.identity)
        return await self._send(route, transfer, progress, permit, is_clear=self.accounts.is_clear)

    # The account feels it

    async def _let_account_feel(self, attempt: RunningAttempt, route: Route, outcome: Outcome) -> None:
        """Change what is known of an account at once: no other message makes the same attempt in vain."""
        accounts, now = self.accounts, self.recorder.clock()
        if outcome.failure is None:  # it ends what was counted against the account meanwhile
            accounts.count(route.account, outcome)
        if route.server.backup:
            self.backups.note(route.server, outcome.failure)
        else:
            accounts.servers.note(route.server.name, outcome.failure, self.recorder.clock)
        failure = consequence_of(outcome)
        if failure is None:
            if outcome.accepted is not None:
                await self._lift_hold(attempt, route)
        elif failure.meaning is Meaning.THROTTLE:
            pause = accounts.slow_down(route.server, route.account, failure, now)
            if pause is not None:
                self.events.slowed(route.account, pause.reason, pause.until)
        else:
            await self._hold(attempt, route, failure)

    async def _hold(self, attempt: RunningAttempt, route: Route, failure: Failure) -> None:
        account, identity, version = route.account, route.identity, attempt.secret_version
        if self.accounts.is_known(account, identity, failure.meaning, version, attempt.attempt.started):
            return
        if failure.meaning is Meaning.LOGIN_REFUSED:
            ref = secret_ref(route.server, route.profile, override=route.override)
            if ref is not None:  # ask its source anew: the server refused what it said
                self.secrets.forget(ref)
        row = self.accounts.hold(account, identity, failure, version, self.recorder.clock())
        self.events.held(row)
        # It is in effect; one that the store did not take is stored with the next refusal.
        await self._beside("a hold", attempt, self.recorder.queue.put_hold(row))

    async def _lift_hold(self, attempt: RunningAttempt, route: Route) -> None:
        """A message got through: nothing holds this account any more, and it may go faster again.

        What was under way when the hold began proves nothing: it may have used a connection that was open before.
        """
        account = route.account
        self.accounts.speed_up(route.server, account)
        hold = self.accounts.hold_of(account)
        if hold is not None and attempt.attempt.started >= hold.since:
            await self._beside("the end of a hold", attempt, self._lift(account))

    async def _lift(self, account: Account) -> None:
        recorder = self.recorder
        await lift(recorder.queue, self.accounts, account, recorder.clock(), with_pairs=False)
        recorder.due.set()

    # Messages that are stored

    async def try_stored(self, message: StoredMessage, permit: Permit | None = None) -> None:
        """Try a claimed message once, and record what came of it. Ends its permit; without one it takes one."""
        try:
            await self._settled(message, self._try(begun(message), permit))
        finally:
            if permit is not None:
                permit.end()

    async def put_off(self, message: StoredMessage, why: str) -> None:
        """Let a claimed message that had no permit wait on, and its sender know; it may be over for it."""
        await self._settled(message, self._put_off(begun(message), why))

    async def run_stored(self, attempt: RunningAttempt, transfer: Transfer, progress: Progress) -> None:
        """Make the first attempt of a message that is stored, and record how it ended. No fault comes out."""
        ended: Ended
        try:
            ended = await self.run(attempt, transfer, progress)
        except Held as held:
            ended = held.hold
        except Exception as error:
            ended = error
        await self.end_stored(attempt, ended)

    def keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Let a task go on whose client has its answer; `stop` waits for it."""
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return task

    async def end_stored(self, attempt: RunningAttempt, ended: Ended) -> None:
        """Record how the attempt of a stored message ended; no fault comes out, and it does not stay under way."""
        message, recorder = attempt.message, self.recorder
        try:
            if isinstance(ended, Outcome):
                await self._record(attempt, ended)
            elif isinstance(ended, HoldRow):
                await self._settled(message, recorder.hold(message, ended, attempt.attempt))
            else:
                raise ended
        except Fenced:
            self.events.overtaken(message.id, is_sent=False)
        except Exception:
            # It is stored as under way, and nobody else would end it.
            log.broken("a delivery ended by a fault of ours", id=message.id, exc_info=True)
            await recorder.recover(message)

    async def confirm(self, attempt: RunningAttempt, outcome: Outcome) -> None:
        """Store the confirmation that a client asked for; a store that hangs gets it later, and keeps no 250 back."""
        await self._beside("the confirmation", attempt, self.recorder.confirm(attempt, outcome))

    async def stop(self) -> None:
        """Wait for the attempts that go on without their clients; the caller sets a limit."""
        if self._following:
            await asyncio.wait(set(self._following))

    async def _try(self, message: StoredMessage, permit: Permit | None) -> None:
        recorder = self.recorder
        content = await recorder.queue.content_to_send(message)
        attempt = RunningAttempt.of(message, content, recorder.new_attempt(message))
        try:
            transfer = await self._transfer(attempt)
        except Refused as refusal:
            await self._end_refused(attempt, Outcome(host="", failure=failure_of(refusal)))
            return
        route = attempt.route
        assert route is not None
        attempt.hold = self.accounts.hold_of(route.account, route.identity)
        if (hold := self.hold_over(route, transfer.secret)) is not None:
            await recorder.hold(message, hold)
            return
        permit = await self._permit(attempt, route, permit, len(transfer.recipients))
        try:
            await recorder.queue.begin_attempt(message.id, message.fence, attempt.attempt)
            progress = Progress(before_final_dot=lambda: recorder.record_final_dot(attempt))
            outcome = await self.run(attempt, transfer, progress, permit)
        except Held as held:  # another attempt met it meanwhile
            await recorder.hold(message, held.hold, attempt.attempt)
            return
        finally:
            if permit is not None:
                permit.end()
        await self._record(attempt, outcome)

    async def _transfer(self, attempt: RunningAttempt) -> Transfer:
        """Resolve and prepare a stored message, as server, account, identity and secret are now. Raises Refused."""
        message = attempt.message
        recipients = tuple(one.recipient for one in sending(message))
        submitted = Submitted(message.client, message.arrival, message.envelope.to(recipients), attempt.content)
        header = header_of(attempt.content)
        route = attempt.route = self._pinned(message, submitted.envelope.sender or from_address(header))
        account = route.account
        attempt.attempt = replace(attempt.attempt, server=account.server, username=account.username)
        prepared = self.prepare(submitted, header, route)
        attempt.attempt = replace(attempt.attempt, changes=prepared.outgoing.kept)
        if log.is_detailed():
            self.events.routed(message.id, prepared.outgoing.message_id, route, prepared.sender)
        try:
            secret = await self.secret_of(route)
        except Refused:
            attempt.secret_version = await self.secret_version(route) or ""
            raise
        attempt.secret_version = secret.version if secret else ""
        return prepared.transfer(submitted.envelope, secret, since=message.created if message.attempts else None)

    def _pinned(self, message: StoredMessage, sender: Address | None) -> Route:
        """Return the route of the profile that the message is pinned to. Raises Refused where that is gone."""
        route = pinned_route(self.routing(), message.profile, sender)
        if route is None:
            gone = f"the profile '{message.profile}' is gone" if message.profile else "there is no default server"
            raise Refused(Reply(451, "4.3.5", gone), gone, meaning=Meaning.LOGIN_REFUSED)
        return self.backups.way(route) if route.server.backup else route

    async def _end_refused(self, attempt: RunningAttempt, outcome: Outcome) -> None:
        """Record an attempt that we ended ourselves: no server was asked."""
        self.events.attempted(attempt, outcome, self.recorder.clock)
        if attempt.route is not None:
            await self._let_account_feel(attempt, attempt.route, outcome)
        await self._record(attempt, outcome)

    async def _record(self, attempt: RunningAttempt, outcome: Outcome) -> None:
        """Record what came of a stored message; where another took it over meanwhile, that one's record counts."""
        try:
            await self.recorder.write_down(attempt, outcome)
        except Fenced:
            self.events.overtaken(attempt.message.id, is_sent=may_have(outcome))

    async def _put_off(self, message: StoredMessage, why: str) -> None:
        recorder = self.recorder
        content = await recorder.queue.content_to_send(message)
        route = pinned_route(self.routing(), message.profile, message.envelope.sender)
        await recorder.put_off(RunningAttempt.of(message, content, recorder.new_attempt(message), route), why)

    async def _settled(self, message: StoredMessage, job: Coroutine[Any, Any, None]) -> None:
        """Do something that settles a claimed message, and settle it where that ends otherwise."""
        recorder = self.recorder
        try:
            await job
        except _OverLimit:
            await recorder.give_back(message, pause=0.0)
        except Fenced:  # before it was sent, or the outcome is told where it is recorded
            self.events.overtaken(message.id, is_sent=False)
        except Damaged as damage:
            await recorder.hold_damaged(begun(message), str(damage))
        except (StoreError, NoContent) as error:
            # Before the final dot: nobody has the message, and it waits on as soon as the store can be told.
            log.broken(str(error) or "the store has no content of this message", id=message.id)
            await recorder.give_back(message)
        except Exception:
            # Whatever it was, a claimed message must not stay claimed.
            log.broken("an attempt ended by a fault of ours", id=message.id, exc_info=True)
            await recorder.recover(message)

    async def _beside(self, what: str, attempt: RunningAttempt, job: Coroutine[Any, Any, None]) -> None:
        """Do something beside a message that the store has to take: no fault comes out, and a hanging store is left.

        The store takes its jobs in the order of the calls, also those that nobody waits for any more.
        """
        task = self.keep(asyncio.create_task(_told(what, attempt, job)))
        await asyncio.wait({task}, timeout=_BESIDE_SECONDS)


async def _told(what: str, attempt: RunningAttempt, job: Coroutine[Any, Any, None]) -> None:
    with beside(what):
        try:
            await job
        except StoreError as error:
            log.broken(str(error), id=attempt.message.id)


def _without_token(outcome: Outcome, error: SecretUnavailable) -> Outcome:
    """Return the outcome of a refused login whose token could not be renewed, with the provider's words.

    A provider that is only away is no reason to hold the account: the next attempt asks it again.
    """
    assert outcome.failure is not None
    meaning = Meaning.TEMPORARY if isinstance(error, SecretDelayed) else Meaning.LOGIN_REFUSED
    return replace(outcome, failure=replace(outcome.failure, meaning=meaning, detail=str(error)))


def _no_login(detail: str) -> Refused:
    return Refused(replies.of_meaning(Meaning.LOGIN_REFUSED), detail, Meaning.LOGIN_REFUSED)
