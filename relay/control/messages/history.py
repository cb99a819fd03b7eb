"""The operations on the history: what became of every message, as a whole, page by page, and counted over time.

A page is {items, next}: `next` is given back as `after` to see what follows, and is null at the end. It may have fewer
items than asked for and still a `next`: looking further would have taken too long.
"""

from asyncio import to_thread
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Literal

from relay.control.context import ControlContext, find_entry
from relay.control.messages.find import (
    MessageLimit,
    Party,
    find_message,
    known_state,
    page_of,
    read_party,
    read_place,
    read_time,
    records_of,
    searched,
)
from relay.control.messages.records import history_item, history_record, journey_record, queue_item, rfc3339
from relay.control.messages.results import CountRecord, HistoryItem, HistoryRecord, JourneyRecord, Page, QueueItem
from relay.control.operation import Access, Operation
from relay.control.refused import NotFound, Refused
from relay.delivery.outcome import State
from relay.directory.kinds import AGENT
from relay.mail.address import Address
from relay.store.queue.history import StateCount
from relay.store.queue.messages import StoredMessage
from relay.store.queue.search import SearchCriteria

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED = (State.DELIVERED, State.FAILED, State.QUEUED, State.HELD)
# As many points as a wide chart has, and a week of five minutes.
_MOST_STEPS = 2500


class HistoryOperations:
    """What can be asked about messages, those that wait included."""

    def __init__(self, parts: ControlContext) -> None:
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
        return pages_of(self._parts, wanted_of(sender, to, since, state, message_id))

    async def show(self, *, id: str) -> JourneyRecord:  # noqa: A002 - the parameter's name on the wire
        """Return the journey of one message."""
        message = await find_message(self._parts, id)
        return await journey_record(self._parts, message)


def wanted_of(
    sender: str | None, to: str | None, since: str | None, state: str | None, message_id: str | None
) -> SearchCriteria:
    """Return what a search by whole words means. Addresses may have angle brackets. Raises Refused, AddressError."""
    return SearchCriteria(
        sender=_bare_address(sender),
        to=_bare_address(to),
        since=read_time(since, "since"),
        state=known_state(state),
        message_id=message_id,
    )


def pages_of(parts: ControlContext, wanted: SearchCriteria) -> AsyncIterator[list[HistoryRecord]]:
    """Yield the messages that `wanted_of` means, the newest first, a page at a time."""

    async def read(after: StoredMessage | None, limit: int) -> list[StoredMessage]:
        return await parts.queue.search(
            sender=wanted.sender or None,
            to=wanted.to,
            since=wanted.since,
            state=wanted.state,
            message_id=wanted.message_id,
            limit=limit,
            after=after,
        )

    return records_of(read, lambda message: history_record(parts, message))


def _bare_address(text: str | None) -> Address | None:
    return None if text is None else Address.parse(text.strip().removeprefix("<").removesuffix(">"))


class MessagePages:
    """`messages.page`, `queue.page`, and an agent's own: `agent.messages` and `agent.message`."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "messages.page": Operation(self.messages),
            "queue.page": Operation(self.waiting),
            "agent.messages": Operation(self.of_agent, access=Access.OWN_READ),
            "agent.message": Operation(self.one_of_agent, access=Access.OWN_READ),
        }

    async def messages(  # noqa: PLR0913 - what a history can be asked
        self,
        *,
        sender: str | None = None,
        to: str | None = None,
        subject: str = "",
        state: str | None = None,
        profile: str | None = None,
        message_id: str | None = None,
        since: str | None = None,
        until: str | None = None,
        contains: str = "",
        limit: MessageLimit = 50,
        after: str | None = None,
    ) -> Page[HistoryItem]:
        """Return messages of which all of this is true, the newest first.

        `sender` and `to` are whole addresses, which is quick, or parts of them. `contains` is looked for in sender,
        recipients, subject and Message-ID. `profile` "" is nobody's mail. `until` itself does not count in.
        """
        by, for_ = read_party(sender), read_party(to)
        wanted = SearchCriteria(
            sender=_sender(by),
            to=for_.whole,
            since=read_time(since, "since"),
            until=read_time(until, "until"),
            state=known_state(state),
            message_id=searched(message_id) or None,
            profile=None if profile is None else searched(profile),
            sender_part=by.part,
            to_part=for_.part,
            subject=searched(subject),
            contains=searched(contains),
        )
        return await self._history(wanted, limit, after)

    async def of_agent(self, *, name: str, limit: MessageLimit = 50, after: str | None = None) -> Page[HistoryItem]:
        """Return an agent's own messages, the newest first."""
        return await self._history(SearchCriteria(profile=self._agent(name)), limit, after)

    async def one_of_agent(self, *, name: str, id: str) -> JourneyRecord:  # noqa: A002 - the word of all operations
        """Return all that is known of one of an agent's own messages."""
        agent = self._agent(name)
        message = await find_message(self._parts, id)
        if message.profile != agent:
            # SECURITY: the same words as for a message that there is not.
            raise NotFound(f"there is no message '{id}'")
        return await journey_record(self._parts, message)

    async def waiting(
        self,
        *,
        profile: str | None = None,
        state: str | None = None,
        contains: str = "",
        account: str | None = None,
        limit: MessageLimit = 50,
        after: str | None = None,
    ) -> Page[QueueItem]:
        """Return messages that wait, the oldest first; `account` ("SERVER/USERNAME"): those that leave through it."""
        profiles = None if account is None else await self._profiles_of(account)
        wanted = SearchCriteria(
            profile=None if profile is None else searched(profile),
            state=known_state(state, only_open=True),
            contains=searched(contains),
            profiles=profiles,
            held_by=searched(account),
        )
        found = await self._parts.queue.find(wanted, limit=limit, after=read_place(after), is_waiting=True)
        return page_of([queue_item(self._parts, message) for message in found.messages], found.next)

    async def _history(self, wanted: SearchCriteria, limit: int, after: str | None) -> Page[HistoryItem]:
        found = await self._parts.queue.find(wanted, limit=limit, after=read_place(after))
        return page_of([history_item(self._parts, message) for message in found.messages], found.next)

    def _agent(self, name: str) -> str:
        return find_entry(self._parts, AGENT, name).name

    async def _profiles_of(self, account: str) -> list[str]:
        """Return whose mail leaves through an account, as far as any waits; "" is nobody's. Raises Refused."""
        if "/" not in account:
            raise Refused(f"'{account}' is not an account; write it as SERVER/USERNAME", key="account")
        waiting = await self._parts.queue.waiting_profiles()
        return await to_thread(self._among, waiting, account)

    def _among(self, names: frozenset[str], account: str) -> list[str]:
        routing = self._parts.directory.routing()
        mine = []
        for name in names:
            profile = routing.directory.profile(name)
            route = routing.default_route() if not name else None
            its = routing.directory.account_of(profile) if profile else route.account if route else None
            if its is not None and str(its) == account:
                mine.append(name)
        return mine


def _sender(party: Party) -> Address | Literal[""] | None:
    return "" if party.is_null else party.whole


class MessageCounts:
    """`messages.counts`: the messages that came in each step of a time, by the state in which they are now."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"messages.counts": Operation(self.counts)}

    async def counts(
        self, *, since: str | None = None, until: str | None = None, step: Literal[300, 3600, 86400] = 3600
    ) -> list[CountRecord]:
        """Return how many messages came in every step, the first one first, without a gap.

        Steps are whole: the first is the one that `since` is in (24 hours ago where it is left out), the last the one
        before `until` (now). Days are those of UTC. `other` is what is under way, unknown or removed.
        """
        width = timedelta(seconds=step)
        try:
            end = read_time(until, "until") or datetime.now(UTC)
            moments = _moments(read_time(since, "since") or end - _DAY, end, width)
            behind = moments[-1] + width
        except OverflowError:
            raise Refused("this is at an end of the calendar; choose a time between", key="since") from None
        states = [str(state) for state in State]
        found = await self._parts.queue.counts_over_time(states, moments[0], behind, width)
        return await to_thread(_filled, found, moments)


def _moments(begin: datetime, end: datetime, width: timedelta) -> list[datetime]:
    """Return where each step begins. Raises Refused where there is none or very many, and OverflowError."""
    first = _EPOCH + (begin - _EPOCH) // width * width
    number = -((first - end) // width)
    if number < 1:
        raise Refused("since is not before until", key="since")
    if number > _MOST_STEPS:
        raise Refused(
            f"{number:,} steps are more than {_MOST_STEPS:,}; choose a larger step or a later since", key="step"
        )
    return [first + index * width for index in range(number)]


def _filled(found: list[StateCount], moments: list[datetime]) -> list[CountRecord]:
    """Return every moment, with 0 where nothing was counted."""
    named = {str(state) for state in _NAMED}
    numbers: dict[tuple[datetime, str], int] = defaultdict(int)
    for one in found:
        numbers[one.at, one.state if one.state in named else "other"] += one.number
    return [
        CountRecord(
            at=rfc3339(at),
            delivered=numbers[at, State.DELIVERED],
            failed=numbers[at, State.FAILED],
            queued=numbers[at, State.QUEUED],
            held=numbers[at, State.HELD],
            other=numbers[at, "other"],
        )
        for at in moments
    ]
