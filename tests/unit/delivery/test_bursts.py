"""Many clients at once on an account whose login is refused: one of them meets it, whenever the others come."""

import asyncio

import pytest

from relay.directory.model import Meaning, Mode
from relay.mail.reply import Reply
from tests.unit.delivery.bench_kit import Maker, failed

REFUSED = Reply(535, "5.7.8", "bad password")


@pytest.mark.parametrize("mode", [Mode.DIRECT, Mode.AUTO])
async def test_a_refused_login_is_met_once_by_clients_that_come_at_every_moment(make_bench: Maker, mode: Mode) -> None:
    """Each message comes one step of the event loop later than the one before."""
    bench = make_bench(failed(Meaning.LOGIN_REFUSED, REFUSED), mode=mode)

    async def send(steps: int) -> str:
        for _ in range(steps):
            await asyncio.sleep(0)
        return str(await bench.send("support@acmejets.example"))

    replies = await asyncio.gather(*(send(steps) for steps in range(40)))
    assert len(bench.upstream.transfers) == 1
    assert {reply[:9] for reply in replies} == {"451 4.7.8" if mode is Mode.DIRECT else "250 2.0.0"}
