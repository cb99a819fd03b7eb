"""What an account's hold does to mail that pauses because a server may already have it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from relay.delivery.dispatcher import Dispatcher
from relay.delivery.lifecycle import State
from relay.delivery.lifting import lift
from relay.delivery.postman import Postman, utc_now
from relay.directory.model import Account, Meaning
from relay.mail.reply import Reply
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.phase import Phase
from tests.delivery.delivery_kit import message_of, state_of, stored, upstream_of

ACCOUNT = Account("acmejets", "support@acmejets.example")
LOST = Failure(phase=Phase.FINAL, reply=Reply(451, "4.4.2", "lost"), meaning=Meaning.UNKNOWN, from_server=False)
NO_LOGIN = Failure(phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True)


@asynccontextmanager
async def dispatching(postman: Postman) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(postman)
    task = asyncio.create_task(dispatcher.run())
    yield dispatcher
    await dispatcher.stop()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def reached(postman: Postman, id_: str, state: State) -> None:
    """Wait until a message is in a state."""
    async with asyncio.timeout(10):
        while await state_of(postman, id_) != state:  # noqa: ASYNC110  the store knows no event
            await asyncio.sleep(0.01)


async def test_a_lifted_hold_leaves_a_lost_answer_its_pause(postman: Postman) -> None:
    """The server may have the message: a hold that comes and goes meanwhile is no reason to send it earlier."""
    upstream, accepted = upstream_of(postman), upstream_of(postman).outcome
    async with dispatching(postman) as dispatcher:
        upstream.outcome = Outcome(host="127.0.0.1", failure=LOST)
        pausing = await stored(postman)
        dispatcher.wake()
        await reached(postman, pausing, State.UNKNOWN)
        before = await message_of(postman, pausing)

        upstream.outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
        for _ in range(2):  # one meets the refusal, the other the hold
            held = await stored(postman)
            dispatcher.wake()
            await reached(postman, held, State.HELD)

        upstream.outcome = accepted
        await lift(postman.queue, postman.accounts, ACCOUNT, postman.clock())
        dispatcher.wake()
        await reached(postman, held, State.DELIVERED)
        assert await message_of(postman, pausing) == before

        postman.clock = lambda: utc_now() + timedelta(minutes=31)
        dispatcher.wake()
        await reached(postman, pausing, State.DELIVERED)


async def test_a_pause_that_ends_under_a_hold_waits_for_the_hold(postman: Postman) -> None:
    upstream, accepted = upstream_of(postman), upstream_of(postman).outcome
    async with dispatching(postman) as dispatcher:
        upstream.outcome = Outcome(host="127.0.0.1", failure=LOST)
        pausing = await stored(postman)
        dispatcher.wake()
        await reached(postman, pausing, State.UNKNOWN)
        upstream.outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
        held = await stored(postman)
        dispatcher.wake()
        await reached(postman, held, State.HELD)

        postman.clock = lambda: utc_now() + timedelta(minutes=31)
        dispatcher.wake()
        await reached(postman, pausing, State.HELD)

        upstream.outcome = accepted
        await lift(postman.queue, postman.accounts, ACCOUNT, postman.clock())
        dispatcher.wake()
        await reached(postman, pausing, State.DELIVERED)


async def test_a_login_that_never_works_for_now_holds_the_account_in_the_end(postman: Postman) -> None:
    busy = Failure(
        phase=Phase.LOGIN, reply=Reply(454, "4.7.0", "try later"), meaning=Meaning.TEMPORARY, from_server=True
    )
    upstream, accepted = upstream_of(postman), upstream_of(postman).outcome
    upstream.outcome = Outcome(host="127.0.0.1", failure=busy)
    async with dispatching(postman) as dispatcher:
        waiting = [await stored(postman) for _ in range(5)]
        dispatcher.wake()
        async with asyncio.timeout(10):
            while postman.accounts.hold_of(ACCOUNT) is None:  # noqa: ASYNC110  accounts know no event
                await asyncio.sleep(0.01)
        hold = postman.accounts.hold_of(ACCOUNT)
        assert hold is not None
        assert (hold.meaning, hold.reason) == (
            "login-refused",
            "454 4.7.0 try later (5 logins in a row did not work)",
        )
        upstream.outcome = accepted
        await lift(postman.queue, postman.accounts, ACCOUNT, postman.clock())
        postman.clock = lambda: utc_now() + timedelta(minutes=5)
        dispatcher.wake()
        for id_ in waiting:
            await reached(postman, id_, State.DELIVERED)
