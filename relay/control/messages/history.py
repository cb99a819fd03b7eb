"""The operations on the history: what became of every message."""

from collections.abc import AsyncIterator
from typing import Any

from relay.control.context import Parts
from relay.control.messages.find import find_message, known_state, records_of
from relay.control.messages.page_position import read_time
from relay.control.messages.records import history_record, journey_record
from relay.control.operation import Operation
from relay.mail.address import Address
from relay.store.queue.messages import StoredMessage


class History:
    """What can be asked about messages, those that wait included."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"messages.list": Operation(self.list_, is_stream=True), "messages.show": Operation(self.show)}

    def list_(
        self,
        *,
        sender: str | None = None,
        to: str | None = None,
        since: str | None = None,
        state: str | None = None,
        message_id: str | None = None,
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the messages that all of this is true of, the newest first. `since` is a time of RFC 3339."""
        queue = self._parts.queue
        chosen: dict[str, Any] = {
            "sender": read_address(sender),
            "to": read_address(to),
            "since": read_time(since, "since"),
            "state": known_state(state),
            "message_id": message_id,
        }

        async def read(after: StoredMessage | None, limit: int) -> list[StoredMessage]:
            return await queue.search(**chosen, limit=limit, after=after)

        return records_of(read, lambda message: history_record(self._parts, message))

    async def show(self, *, id: str) -> dict[str, Any]:  # noqa: A002 - the parameter's name on the wire
        """Return the journey of one message."""
        message = await find_message(self._parts, id)
        return await journey_record(self._parts, message)


def read_address(text: str | None) -> Address | None:
    """Return an address, with or without its angle brackets. Raises AddressError."""
    return None if text is None else Address.parse(text.strip().removeprefix("<").removesuffix(">"))
