"""What becomes of a message under way: its attempt begins, reaches the final dot, and is settled."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Update, bindparam, case, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.store.claims import Lease
from relay.store.contents import delete_content
from relay.store.entries import insert_messages
from relay.store.history import message as read_message
from relay.store.messages import Attempt, Change, Fenced, Leased, Settlement
from relay.store.rows import attempt_values
from relay.store.tables import attempts, messages, recipients


async def begin_attempt(connection: AsyncConnection, id_: str, fence: int, attempt: Attempt, lease: Lease) -> None:
    """Record an attempt that begins. Raises Fenced."""
    await _update_mine(connection, id_, fence, lease, {**_account(attempt), "lease_until": lease.until})
    await connection.execute(insert(attempts), attempt_values(id_, attempt))


async def mark_final_dot(connection: AsyncConnection, id_: str, fence: int, number: int, lease: Lease) -> None:
    """Record that an attempt is about to send its final dot. Raises Fenced, LookupError for an unknown attempt."""
    await _update_mine(connection, id_, fence, lease, {"lease_until": lease.until})
    marked = update(attempts).where(attempts.c.message == id_, attempts.c.number == number)
    if not (await connection.execute(marked.values(final_dot=True))).rowcount:
        raise LookupError(f"message {id_} has no attempt {number}")


async def release_lease(connection: AsyncConnection, id_: str, fence: int, state: str, lease: Lease) -> None:
    """Let a message wait as it did before it was taken. Raises Fenced."""
    await _update_mine(connection, id_, fence, lease, {"state": state, "lease_owner": None, "lease_until": None})


async def settle(connection: AsyncConnection, settlement: Settlement, lease: Lease, now: datetime) -> None:
    """Write what became of a message, with its reports, and end the lease. Raises Fenced."""
    facts = {**_facts(settlement, now), "lease_owner": None, "lease_until": None}
    await _update_mine(connection, settlement.id, settlement.fence, lease, facts)
    await _write_rest(connection, settlement, lease, now)


async def edit(connection: AsyncConnection, id_: str, change: Change, lease: Lease, now: datetime) -> bool:
    """Read a message and write what `change` makes of it; False where it is missing, or nothing changes.

    Raises Leased where the message is under way.
    """
    # The row is locked before it is read, where the database has more than one writer.
    untouched = update(messages).where(messages.c.id == id_).values(fence=messages.c.fence + 1)
    owner = (await connection.execute(untouched.returning(messages.c.lease_owner))).first()
    if owner is None:
        return False
    if owner.lease_owner is not None:
        raise Leased(id_)
    message = await read_message(connection, id_)
    settlement = change(message) if message is not None else None
    if settlement is None:
        return False
    await connection.execute(update(messages).where(messages.c.id == id_).values(_facts(settlement, now)))
    await _write_rest(connection, replace(settlement, id=id_), lease, now)
    return True


async def _update_mine(connection: AsyncConnection, id_: str, fence: int, lease: Lease, facts: dict[str, Any]) -> None:
    mine = (messages.c.id == id_, messages.c.fence == fence, messages.c.lease_owner == lease.owner)
    if not (await connection.execute(update(messages).where(*mine).values(facts))).rowcount:
        raise Fenced(id_)


async def _write_rest(connection: AsyncConnection, settlement: Settlement, lease: Lease, now: datetime) -> None:
    """Write what a settlement changes outside the message's own row."""
    if settlement.recipients:
        await connection.execute(_UPDATE_RECIPIENT, _recipients(settlement))
    if settlement.attempt is not None:
        row = attempt_values(settlement.id, settlement.attempt)
        known = update(attempts).where(attempts.c.message == row["message"], attempts.c.number == row["number"])
        if not (await connection.execute(known.values(row))).rowcount:
            await connection.execute(insert(attempts), row)
    if settlement.is_finished:
        await delete_content(connection, settlement.id)
    await insert_messages(connection, settlement.reports, lease, now)


_UPDATE_RECIPIENT: Update = (
    update(recipients)
    .where(recipients.c.message == bindparam("of_message"), recipients.c.number == bindparam("of_number"))
    .values({name: bindparam(name) for name in ("state", "reply", "meaning", "changed")})
)


def _recipients(settlement: Settlement) -> list[dict[str, Any]]:
    return [
        {
            "of_message": settlement.id,
            "of_number": each.number,
            "state": each.state,
            "reply": each.reply,
            "meaning": each.meaning,
            "changed": each.changed,
        }
        for each in settlement.recipients
    ]


def _facts(settlement: Settlement, now: datetime) -> dict[str, Any]:
    return {
        "state": settlement.state,
        "next_attempt": settlement.next_attempt,
        "reason": settlement.reason,
        "unknowns": settlement.unknowns,
        "warned": settlement.warned,
        "held_since": settlement.held_since,
        "held_seconds": settlement.held_seconds,
        "held_by": settlement.held_by or None,
        "delivered": settlement.delivered,
        "reply": settlement.reply,
        "finished": now if settlement.is_finished else None,
        **(_account(settlement.attempt) if settlement.attempt else {}),
    }


def _account(attempt: Attempt) -> dict[str, Any]:
    """Return what a message shows of its last attempt."""
    later = case((messages.c.attempts > attempt.number, messages.c.attempts), else_=attempt.number)
    return {"attempts": later, "server": attempt.server, "username": attempt.username}
