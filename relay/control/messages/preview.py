"""What would become of a waiting message's header, were it tried now. Nothing is sent, and nothing is changed."""

from relay.control.context import Parts
from relay.control.messages.find import find_message
from relay.control.messages.records import is_open, kept_changes
from relay.control.messages.results import PreviewRecord
from relay.control.operation import Operation
from relay.control.refused import Refused
from relay.delivery.preparation import Prepared, Submitted, header_of, pinned_route, prepare
from relay.delivery.preparation import Refused as NotNow
from relay.directory.routing import Route
from relay.mail.content import Content
from relay.mail.identity import Mismatch, from_address
from relay.store.queue.messages import StoredMessage

_END = b"\r\n\r\n"


class Preview:
    """`queue.preview`."""

    def __init__(self, parts: Parts) -> None:
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
    changes, left_out = kept_changes(prepared.changes)
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
