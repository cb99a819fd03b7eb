"""The operations on the history: what became of every message."""

from collections.abc import AsyncIterator

from relay.control.context import Parts
from relay.control.messages.find import find_message, known_state, records_of
from relay.control.messages.page_position import read_time
from relay.control.messages.records import history_record, journey_record
from relay.control.messages.results import HistoryRecord, JourneyRecord
from relay.control.operation import Operation
from relay.mail.address import Address
from relay.store.queue.messages import StoredMessage


class HistoryOperations:
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
    ) -> AsyncIterator[list[HistoryRecord]]:
        """Yield the messages that all of this is true of, the newest first. `since` is a time of RFC 3339."""
        queue = self._parts.queue
        by, for_, begin, in_state = (
            read_address(sender),
            read_address(to),
            read_time(since, "since"),
            known_state(state),
        )

        async def read(after: StoredMessage | None, limit: int) -> list[StoredMessage]:
            return await queue.search(
                sender=by, to=for_, since=begin, state=in_state, message_id=message_id, limit=limit, after=after
            )

        return records_of(read, lambda message: history_record(self._parts, message))

    async def show(self, *, id: str) -> JourneyRecord:  # noqa: A002 - the parameter's name on the wire
        """Return the journey of one message."""
        message = await find_message(self._parts, id)
        return await journey_record(self._parts, message)


def read_address(text: str | None) -> Address | None:
    """Return an address, with or without its angle brackets. Raises AddressError."""
    return None if text is None else Address.parse(text.strip().removeprefix("<").removesuffix(">"))
