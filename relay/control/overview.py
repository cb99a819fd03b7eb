"""The operation that shows at a glance how a relay is, and what to do about what is not well."""

from asyncio import to_thread
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from relay.config.endpoint import TcpAddress, parse_endpoint
from relay.control.context import Parts
from relay.control.messages.queue import counts
from relay.control.messages.records import rfc3339
from relay.control.operation import Operation
from relay.control.remedies import advice, holder_of, reach_advice
from relay.delivery.lifecycle import State
from relay.directory.model import Account

_DAY = timedelta(days=1)
# Where ten thousand accounts are held at once, these are enough to see why.
_MOST_ACCOUNTS = 50


class Overview:
    """`overview`: what a person who looks after the relay wants to see first."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"overview": Operation(self.overview)}

    async def overview(self) -> dict[str, Any]:
        """Return what came in 24 hours, what waits, who is in trouble and what to do, and how far the first steps are.

        `totals` are of the messages that came since `since`, but for `waiting` and `held`, which are those of now.
        """
        parts, now = self._parts, datetime.now(UTC)
        status, queue = parts.status(), await counts(parts.queue)
        held = queue[State.HELD]
        troubled = await to_thread(parts.desk.troubled)
        return {
            "since": rfc3339(now - _DAY),
            "totals": {
                **await self._totals(now - _DAY, now),
                "waiting": sum(queue.values()) - held,
                "held": held,
            },
            "queue": queue,
            "oldest": rfc3339(await parts.queue.oldest()),
            "troubled": len(troubled),
            "accounts": await self._accounts(troubled),
            "unreached": [{**one, "advice": reach_advice(one)} for one in parts.desk.unreached()],
            "directory": status["directory"],
            "mailboxes": [mailbox for mailbox in status["mailboxes"] if mailbox["state"] == "failing"],
            "steps": await self._steps(),
            "listeners": status["listeners"],
            "entrances": self._entrances(),
            "first_sender": self._first_sender(),
            "version": status["version"],
            "running_since": status["since"],
        }

    async def _totals(self, since: datetime, until: datetime) -> dict[str, int]:
        """Return how many messages of a time are over, by what became of them."""
        states = [str(state) for state in State]
        numbers = dict.fromkeys(states, 0)
        for one in await self._parts.queue.counts_over_time(states, since, until + timedelta(seconds=1), _DAY):
            numbers[one.state] += one.number
        return {
            "came": sum(numbers.values()),
            "sent": numbers[State.DELIVERED],
            "failed": numbers[State.FAILED],
            "removed": numbers[State.REMOVED],
        }

    async def _accounts(self, troubled: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the accounts in trouble, the held ones first, then by how much waits for them."""
        waiting = await self._parts.queue.held_counts() if troubled else {}
        for record in troubled:
            record["waiting"] = waiting.get(record["account"], 0) if record["state"] == "held" else None
        worst = sorted(troubled, key=lambda one: (one["state"] != "held", -(one["waiting"] or 0), one["account"]))
        return [self._advised(record) for record in worst[:_MOST_ACCOUNTS]]

    def _advised(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return an account in trouble with whose secret it is and what to do."""
        directory = self._parts.directory.routing().directory
        profiles = record["profiles"]
        holder = holder_of(directory, Account(record["server"], record["username"]), profiles)
        return {
            **{key: value for key, value in record.items() if key != "profiles"},
            "used_by": len(profiles),
            "holder": {"kind": holder.kind, "name": holder.name} if holder else None,
            "advice": advice(record, holder),
        }

    def _entrances(self) -> list[dict[str, Any]]:
        """Return what a mail client is told of each listener that it reaches by the network."""
        found = []
        for listener in self._parts.settings.listeners:
            endpoint = parse_endpoint(listener.address)
            if isinstance(endpoint, TcpAddress):
                found.append(
                    {
                        "name": listener.name,
                        "host": self._reached_by(endpoint.host),
                        "port": endpoint.port,
                        "security": listener.security,
                        "auth": listener.auth,
                        "trusted_networks": [str(network) for network in listener.trusted_networks],
                    }
                )
        return found

    def _reached_by(self, host: str) -> str:
        """Return by which name a mail client reaches a listener: one that is open on every address has none itself."""
        try:
            is_everywhere = ip_address(host).is_unspecified
        except ValueError:
            is_everywhere = False
        return self._parts.settings.effective_hostname if is_everywhere else host

    def _first_sender(self) -> str | None:
        """Return the address of one who may send, for an example; None while there is nobody."""
        return next((profile.address for profile in self._parts.directory.routing().directory.profiles()), None)

    async def _steps(self) -> dict[str, bool]:
        """Return how far somebody is who begins with nothing."""
        directory = self._parts.directory.routing().directory
        return {
            "server": bool(directory.servers),
            "profile": bool(directory.channels or directory.agents),
            "delivered": await self._parts.queue.has_any(State.DELIVERED),
        }
