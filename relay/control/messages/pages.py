"""The operations that give messages page by page: the history and the queue, searched by parts of what they say.

Each returns {items, next}: `next` is given back as `after` to see what follows, and is null at the end. A page may have
fewer items than asked for and still a `next`: looking further would have taken too long.
"""

from asyncio import to_thread
from typing import Literal

from relay.control.context import Parts
from relay.control.lookup import find_profile
from relay.control.messages.find import find_message, known_state
from relay.control.messages.page_position import (
    MessageLimit,
    Party,
    page_of,
    read_party,
    read_place,
    read_time,
    searched,
)
from relay.control.messages.records import history_item, journey_record, queue_item
from relay.control.messages.results import HistoryItem, JourneyRecord, Page, QueueItem
from relay.control.operation import Access, Operation
from relay.control.refused import NotFound, Refused
from relay.directory.model import ProfileKind
from relay.mail.address import Address
from relay.store.queue.history import Wanted


class MessagePages:
    """`messages.page`, `queue.page`, and an agent's own: `agent.messages` and `agent.message`."""

    def __init__(self, parts: Parts) -> None:
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
        wanted = Wanted(
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
        return await self._history(Wanted(profile=self._agent(name)), limit, after)

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
        wanted = Wanted(
            profile=None if profile is None else searched(profile),
            state=known_state(state, only_open=True),
            contains=searched(contains),
            profiles=profiles,
            held_by=searched(account),
        )
        found = await self._parts.queue.find(wanted, limit=limit, after=read_place(after), is_waiting=True)
        return page_of([queue_item(self._parts, message) for message in found.messages], found.next)

    async def _history(self, wanted: Wanted, limit: int, after: str | None) -> Page[HistoryItem]:
        found = await self._parts.queue.find(wanted, limit=limit, after=read_place(after))
        return page_of([history_item(self._parts, message) for message in found.messages], found.next)

    def _agent(self, name: str) -> str:
        return find_profile(self._parts, ProfileKind.AGENT, name).name

    async def _profiles_of(self, account: str) -> list[str]:
        """Return whose mail leaves through an account, as far as any waits; "" is nobody's. Raises Refused."""
        if "/" not in account:
            raise Refused(f"'{account}' is no account; write it as SERVER/USERNAME", key="account")
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
