"""The operations on messages that wait, and what would become of one's header, were it tried now."""

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable

from relay.config.schema import no_such
from relay.control.audit_log import note
from relay.control.context import ControlContext
from relay.control.messages.find import find_message, known_state, records_of
from relay.control.messages.records import is_open, journey_record, kept_changes, queue_record, rfc3339
from relay.control.messages.results import JourneyRecord, MessageChunk, MessageDone, PreviewRecord, QueueRecord, Retried
from relay.control.operation import Access, Operation
from relay.control.refused import NotFound, Refused
from relay.delivery.outcome import State
from relay.delivery.preparation import Prepared, Submitted, header_of, pinned_route, prepare
from relay.delivery.preparation import Refused as NotNow
from relay.directory.routing import Route
from relay.mail.content import Content
from relay.mail.identity import Mismatch, from_address
from relay.store.queue.messages import Damaged, Leased, StoredMessage
from relay.store.queue.queue import Queue

_END = b"\r\n\r\n"


class QueueOperations:
    """What can be asked about the queue, and done with it."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "queue.list": Operation(self.list_, is_stream=True),
            "queue.show": Operation(self.show),
            "queue.retry": Operation(self.retry, is_change=True, about="id"),
            "queue.hold": Operation(self.hold, is_change=True, about="id"),
            "queue.release": Operation(self.release, is_change=True, about="id"),
            "queue.remove": Operation(self.remove, is_change=True, about="id"),
            "queue.export": Operation(self.export, is_stream=True, access=Access.ADMIN),
        }

    def list_(self, *, profile: str | None = None, state: str | None = None) -> AsyncIterator[list[QueueRecord]]:
        """Yield the messages that wait, the oldest first: those of a profile, or in a state, or all."""
        queue, wanted = self._parts.queue, known_state(state, only_open=True)

        async def read(after: StoredMessage | None, limit: int) -> list[StoredMessage]:
            page = await queue.list_queue(profile=profile, state=wanted, limit=limit, after=after)
            if not page and after is None:
                self._check_profile(profile)
            return page

        return records_of(read, lambda message: queue_record(self._parts, message))

    async def show(self, *, id: str) -> JourneyRecord:  # noqa: A002 - the parameter's name on the wire
        """Return one message that waits, with its attempts."""
        message = await self._open_message(id)
        return await journey_record(self._parts, message)

    async def retry(self, *, ids: list[str] | None = None, profile: str | None = None) -> Retried:
        """Try these messages now, or those of a profile, or with neither all that wait; return how many.

        What a server may have already is tried early only where it is named.
        """
        named = None if ids is None else [await self._open_message(id_) for id_ in ids]
        retried = await self._parts.queue_actions.retry(None if named is None else [one.id for one in named], profile)
        if not retried:
            self._check_profile(profile)
        if named is None:
            note("retried", None, retried)
        elif retried:
            for one in named:
                key = "next_attempt" if len(named) == 1 else f"{one.id}.next_attempt"
                note(key, rfc3339(one.next_attempt), "now")
        return Retried(retried=retried)

    async def hold(self, *, id: str) -> MessageDone:  # noqa: A002
        """Let a message wait until it is released, and return its whole id."""
        return await self._do(
            await self._open_message(id), self._parts.queue_actions.hold, State.HELD, "it is {state} already"
        )

    async def release(self, *, id: str) -> MessageDone:  # noqa: A002
        """Let a held message go on, and return its whole id."""
        message = await self._open_message(id)
        if message.held_by in {one.account for one in self._parts.queue_actions.accounts() if one.state == "held"}:
            raise Refused(
                f"message {message.id} waits for its account, which is held; let that go on with: "
                f"relay account release {message.held_by}"
            )
        return await self._do(message, self._parts.queue_actions.release, State.QUEUED, "it is {state}, not held")

    async def remove(self, *, id: str) -> MessageDone:  # noqa: A002
        """Take a message out of the queue, and return its whole id."""
        return await self._do(
            await self._open_message(id), self._parts.queue_actions.remove, State.REMOVED, "it is {state}"
        )

    async def export(self, *, id: str) -> AsyncIterator[MessageChunk]:  # noqa: A002
        """Yield a message as it came, in chunks of base64."""
        message = await self._open_message(id)
        chunks = await self._parts.queue_actions.export(message.id)
        if chunks is None:
            raise Refused(f"the content of message {message.id} is no longer there")
        try:
            await self._parts.queue.verify(message)
        except Damaged as damage:
            reason = str(damage)
        else:
            reason = ""
        async for chunk in chunks:
            yield MessageChunk(b64encode(chunk).decode("ascii"))
        if reason:
            raise Refused(f"what was written is not message {message.id} as it came: {reason}")

    async def _do(
        self, message: StoredMessage, change: Callable[[str], Awaitable[bool]], becomes: State, otherwise: str
    ) -> MessageDone:
        try:
            is_done = await change(message.id)
        except Leased:
            raise Refused(f"message {message.id} is being sent just now; try again when that is over") from None
        if not is_done:
            raise Refused(f"nothing was done with message {message.id}: {otherwise.format(state=message.state)}")
        note("state", message.state, str(becomes))
        return MessageDone(id=message.id)

    async def _open_message(self, id_: str) -> StoredMessage:
        message = await find_message(self._parts, id_)
        if not is_open(message):
            raise Refused(f"message {message.id} is {message.state} and no longer waiting; see relay messages show")
        return message

    def _check_profile(self, name: str | None) -> None:
        """Raise Refused for a profile that nothing waits for because it is mistyped. One that is gone may have mail."""
        directory = self._parts.directory.routing().directory
        if name is not None and directory.profile(name) is None:
            raise NotFound(no_such("channel or agent", name, [profile.name for profile in directory.profiles()]))


async def counts(queue: Queue) -> dict[str, int]:
    """Return how many messages wait in which state; every state that there is, for those who draw a line of it."""
    found = await queue.counts()
    return {str(state): found.get(state, 0) for state in State if not state.is_final}


class Preview:
    """`queue.preview`."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"queue.preview": Operation(self.preview)}

    async def preview(self, *, id: str) -> PreviewRecord:  # noqa: A002 - the parameter's name on the wire
        """Return the route of a message that waits, and each header field that its next attempt would change.

        Raises Refused where it would go no further, with the reason.
        """
        message = await find_message(self._parts, id)
        if not is_open(message):
            raise Refused(f"message {message.id} is {message.state}: its content is no longer there")
        try:
            prepared = self._prepared(message, await self._header(message))
        except NotNow as error:
            raise Refused(error.detail or str(error)) from None
        return _record(prepared)

    def _prepared(self, message: StoredMessage, content: Content) -> Prepared:
        routing, mismatch = self._parts.directory.routing(), Mismatch(self._parts.settings.policy.from_mismatch)
        header = header_of(content)
        submitted = Submitted(message.client, message.arrival, message.envelope, content)
        route = pinned_route(routing, message.profile, submitted.envelope.sender or from_address(header))
        if route is None:
            raise Refused(
                "no server sends for it now: its channel or agent is gone, or there is no default server; "
                "put that back, and it goes on by itself"
            )
        return prepare(submitted, header, route, routing, mismatch)

    async def _header(self, message: StoredMessage) -> Content:
        """Return a message's header block; its body, which may be large, is not read."""
        read = b""
        async for chunk in self._parts.queue.chunks(message.id):
            read += chunk
            if read.startswith(b"\r\n") or _END in read:
                break
        block, _, _ = read.partition(_END)
        return Content(b"" if read.startswith(b"\r\n") or not read else block + b"\r\n")


def _record(prepared: Prepared) -> PreviewRecord:
    route: Route = prepared.route
    changes, left_out = kept_changes(prepared.outgoing.kept)
    return PreviewRecord(
        profile=route.profile.name if route.profile else None,
        server=route.server.name,
        account=str(route.account),
        identity=str(route.identity),
        override=route.override,
        sender=str(prepared.sender or ""),
        script=route.script.name if route.script else None,
        reason=route.reason,
        changes=changes,
        changes_left_out=left_out,
    )
