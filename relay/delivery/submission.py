"""One submission in mode `direct`: the message goes upstream while its client waits, and the answer is its outcome.

Nothing is stored: what the upstream did not take, the client keeps. All recipients get the message or none
(DESIGN section 5). The client may leave at any moment: before our final dot that ends the attempt, after it the
outcome is awaited and recorded.
"""

import asyncio
import time
from dataclasses import dataclass, field

from relay.delivery import replies
from relay.delivery.journey import Journey, State
from relay.delivery.office import Office, Refused
from relay.directory.client import Client, standing
from relay.directory.model import Meaning
from relay.directory.routing import Route
from relay.mail.address import Address
from relay.mail.content import Content, ContentRefused
from relay.mail.envelope import Envelope
from relay.mail.header import Header
from relay.mail.identity import Alignment, from_address
from relay.mail.outgoing import Outgoing, compose
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.transfer import Progress, Transfer


@dataclass(slots=True)
class _Findings:
    """What is known of a message so far, for its journey."""

    route: Route | None = None
    outgoing: Outgoing | None = None
    sender: Address | None = None
    message_id: str = ""
    outcome: Outcome | None = None


@dataclass(slots=True)
class Submission:
    """One message being handed to us. `complete` is called once; `client_left` at any time."""

    office: Office
    client: Client
    envelope: Envelope
    arrival: Arrival
    _began: float = field(default_factory=time.monotonic)
    _findings: _Findings = field(default_factory=_Findings)
    _progress: Progress = field(default_factory=Progress)
    _handover: asyncio.Task[Outcome] | None = None
    _left: bool = False

    async def complete(self, content: Content) -> Reply:
        """Hand the message over and return what its client is told. Every end of it is told as a journey."""
        try:
            transfer = await self._prepare(content)
            outcome = self._findings.outcome = await self._hand_over(transfer)
        except Refused as refusal:
            state = State.REFUSED if refusal.reply.is_permanent else State.DEFERRED
            return self._end(state, refusal.reply, content, refusal.detail)
        return self._conclude(outcome, content)

    def client_left(self) -> None:
        """The client has gone: nobody waits for an answer any more."""
        self._left = True
        if self._handover and not self._progress.final_dot_sent:
            self._handover.cancel()

    async def _prepare(self, content: Content) -> Transfer:
        """Find the route, make the message that leaves, and get the secret. Raises Refused."""
        found = self._findings
        try:
            header = Header.parse(content.header)
            found.route = route = self.office.find_route(self.client, self._routed_sender(header))
            found.outgoing = self._compose(content, header, route)
            found.message_id = _message_id(header, found.outgoing)
        except ContentRefused as refusal:
            raise Refused(refusal.reply) from None
        is_null = self.envelope.sender is None and route.server.null_sender
        found.sender = None if is_null else route.identity
        return Transfer(
            server=route.server,
            account=route.account,
            secret=await self.office.find_secret(route),
            sender=found.sender,
            recipients=self.envelope.recipients,
            content=found.outgoing.content,
            smtputf8=self.envelope.smtputf8,
            all_or_none=True,
        )

    def _routed_sender(self, header: Header) -> Address:
        """Return the address that picks the profile: the envelope sender, or From where that is null."""
        sender = self.envelope.sender or from_address(header)
        if sender is None:
            raise Refused(replies.NULL_SENDER_WITHOUT_FROM)
        return sender

    def _compose(self, content: Content, header: Header, route: Route) -> Outgoing:
        script = route.script
        return compose(
            content,
            header,
            arrival=self.arrival,
            recipients=self.envelope.recipients,
            alignment=Alignment(
                identity=route.identity,
                reply_to=route.reply_to,
                sender=self.envelope.sender,
                mismatch=self.office.mismatch,
                standing=standing(self.office.routing(), self.client, route.profile),
            ),
            script=(script.set_headers, script.remove_headers) if script else None,
        )

    async def _hand_over(self, transfer: Transfer) -> Outcome:
        """Let the upstream have it: cancelled by our patience or the client's leaving, but never after the final dot.

        The hand-over is a task of its own, so that a service that stops does not take the outcome with it.
        """
        if self._left:
            raise Refused(replies.CLIENT_LEFT)
        self._handover = asyncio.create_task(self.office.upstream.deliver(transfer, self._progress))
        timer = asyncio.get_running_loop().call_later(self.office.patience, self._lose_patience)
        try:
            return await asyncio.shield(self._handover)
        except asyncio.CancelledError:
            if not self._handover.cancelled():
                raise  # it is we who are cancelled
            raise Refused(replies.CLIENT_LEFT if self._left else replies.TOOK_TOO_LONG) from None
        finally:
            timer.cancel()

    def _lose_patience(self) -> None:
        if self._handover and not self._progress.final_dot_sent:
            self._handover.cancel()

    def _conclude(self, outcome: Outcome, content: Content) -> Reply:
        route = self._findings.route
        assert route is not None
        failure = next((f for index in range(len(self.envelope.recipients)) if (f := outcome.failure_at(index))), None)
        if failure is None:
            assert outcome.accepted is not None
            return self._end(State.DELIVERED, replies.delivered(route.server.name, outcome.accepted), content)
        if failure.meaning is Meaning.LOGIN_REFUSED:
            self.office.forget_secret(route)
        reply = replies.of_failure(failure)
        state = State.FAILED if reply.is_permanent else State.DEFERRED
        return self._end(state, reply, content, failure.detail, failure)

    def _end(
        self, state: State, reply: Reply, content: Content, detail: str = "", failure: Failure | None = None
    ) -> Reply:
        found = self._findings
        upstream = failure.reply if failure else found.outcome.accepted if found.outcome else None
        tls = found.outcome.tls if found.outcome else None
        self.office.tell(
            Journey(
                state=state,
                arrival=self.arrival,
                client=self.client,
                envelope=self.envelope,
                size=content.size,
                reply=reply,
                seconds=time.monotonic() - self._began,
                message_id=found.message_id,
                route=found.route,
                sender=found.sender,
                changes=found.outgoing.changes if found.outgoing else (),
                upstream=upstream,
                phase=str(failure.phase) if failure else "",
                tls=tls.version if tls else "",
                detail=detail,
            )
        )
        return reply


def _message_id(header: Header, outgoing: Outgoing) -> str:
    """Return the Message-ID that leaves: the one we made, or the one that came."""
    made = (change.after for change in outgoing.changes if change.field == "Message-ID")
    came = (item.text for item in header.get_all("message-id"))
    return next(made, "") or next(came, "")
