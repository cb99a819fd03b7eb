"""A fault in anything beside the mail changes no reply: the client has its 250, and the server one copy."""

import asyncio
from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

import pytest

from relay import log
from relay.delivery import attempt as attempt_module
from relay.delivery import history as history_module
from relay.delivery.history import History
from relay.delivery.holds import ServerHealth
from relay.delivery.recorder import Recorder
from relay.directory.model import Account, Meaning, Mode
from relay.limits.limiter import Permit
from relay.mail.address import Address
from relay.mail.reply import Reply
from relay.metrics import Metrics
from relay.store.queue.queue import Queue
from relay.system import fault_barrier
from relay.upstream.outcome import Failure, Outcome, Phase
from tests.unit.delivery.bench_kit import (
    CLIENT,
    MESSAGE,
    DeliveryKit,
    FakeUpstream,
    Maker,
    arrival_now,
    complete,
    envelope_of,
)
from tests.unit.delivery.delivery_kit import submit, upstream_of


class _Raising:
    """A log that takes no line."""

    dropped = 0

    def write(self, _: str) -> NoReturn:
        raise RuntimeError("injected")

    def lose(self) -> None:
        self.dropped += 1


def _raise(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("injected")


def _break_metrics(patch: pytest.MonkeyPatch) -> None:
    for name, value in vars(Metrics).items():
        if isinstance(value, FunctionType) and not name.startswith("_"):
            patch.setattr(Metrics, name, _raise)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a line of the log": lambda patch: patch.setattr(log._Output, "writer", _Raising()),
    "the metrics": _break_metrics,
    "the history": lambda patch: patch.setattr(History, "record", _raise),
    "what is known of servers": lambda patch: patch.setattr(ServerHealth, "note", _raise),
    "what a limit gets back": lambda patch: patch.setattr(Permit, "end", _raise),
}


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_fault_beside_the_mail_changes_no_reply(
    fault: Callable[[pytest.MonkeyPatch], None], mode: Mode, make_bench: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(mode=mode)
    fault(monkeypatch)
    submission = bench.acceptance.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    assert (await complete(submission, MESSAGE)).code == 250
    await bench.acceptance.attempts.stop()
    assert len(bench.upstream.transfers) == 1
    if mode is Mode.QUEUED:  # it is over, and nobody tries it again
        stored = await bench.acceptance.attempts.recorder.queue.message(submission._arrival.id)
        assert stored is not None
        assert stored.state == "delivered"


async def test_a_fault_in_the_answer_keeps_no_stored_message_from_its_server(make_bench: Maker) -> None:
    bench = make_bench(mode=Mode.QUEUED)
    submission = bench.acceptance.open(CLIENT, envelope_of("support@acmejets.example"), arrival_now())
    submission.begin(MESSAGE, _raise)
    await submission._task
    (transfer,) = bench.upstream.transfers
    assert transfer.content.body == MESSAGE.body
    stored = await bench.acceptance.attempts.recorder.queue.message(submission._arrival.id)
    assert stored is not None
    assert stored.state == "delivered"


async def test_a_fault_after_a_part_was_taken_takes_no_250_back(
    make_bench: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored by then: a client that heard anything else would send it again."""
    refusal = Failure(
        phase=Phase.RCPT, reply=Reply(550, "5.1.1", "no such user"), meaning=Meaning.REFUSED, from_server=True
    )
    taken = Outcome(host="127.0.0.1", accepted=Reply(250, "2.0.0", "Ok"), refused={1: refusal})
    bench = make_bench(FakeUpstream(taken), mode=Mode.AUTO)
    monkeypatch.setattr(Recorder, "write_down", _raise)
    submission = bench.acceptance.open(
        CLIENT, envelope_of("support@acmejets.example", "a@b.example,c@d.example"), arrival_now()
    )
    assert (await complete(submission, MESSAGE)).code == 250
    await bench.acceptance.attempts.stop()
    assert len(bench.upstream.transfers) == 1
    stored = await bench.acceptance.attempts.recorder.queue.message(submission._arrival.id)
    assert stored is not None
    states = [one.state for one in stored.recipients]
    assert states == ["unknown", "unknown"]


async def test_a_confirmation_that_cannot_be_made_costs_itself_alone(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def confirm(*_: Any) -> None:
        _raise()

    monkeypatch.setattr(Recorder, "confirm", confirm)
    assert (await submit(delivery, "SUCCESS")).code == 250
    assert len(upstream_of(delivery).transfers) == 1


def _hanging(patch: pytest.MonkeyPatch, method: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Let a method of the queue hang until the second event is set; the first one says that it does."""
    began, goes_on = asyncio.Event(), asyncio.Event()
    real = getattr(Queue, method)

    async def hang(*arguments: Any, **more: Any) -> Any:
        began.set()
        await goes_on.wait()
        return await real(*arguments, **more)

    patch.setattr(attempt_module, "_BESIDE_SECONDS", 0.0)
    patch.setattr(Queue, method, hang)
    return began, goes_on


async def test_a_store_that_hangs_at_a_confirmation_gets_it_later(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has the message: a client without its answer would send it again."""
    began, goes_on = _hanging(monkeypatch, "add")
    assert (await submit(delivery, "SUCCESS")).code == 250
    await began.wait()
    assert await delivery.queue.list_queue(limit=10) == []
    goes_on.set()
    await delivery.attempts.stop()
    (report,) = await delivery.queue.list_queue(limit=10)
    assert report.is_report
    assert len(upstream_of(delivery).transfers) == 1


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.DIRECT])
async def test_a_store_that_hangs_at_the_end_of_a_hold_keeps_no_reply_back(
    mode: Mode, make_bench: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new password was entered, and the first message gets through with it."""
    bench = make_bench(mode=mode)
    attempts, refusal = bench.acceptance.attempts, Reply(535, "5.7.8", "wrong")
    account, identity = Account("acmejets", "support@acmejets.example"), Address("support", "acmejets.example")
    failure = Failure(phase=Phase.LOGIN, reply=refusal, meaning=Meaning.LOGIN_REFUSED, from_server=True)
    recorder, accounts = attempts.recorder, attempts.accounts
    await recorder.queue.put_hold(accounts.hold(account, identity, failure, "an older secret", recorder.clock()))
    began, goes_on = _hanging(monkeypatch, "drop_hold")
    assert (await bench.send("support@acmejets.example")).code == 250
    await began.wait()
    assert accounts.hold_of(account) is None, "in memory it is over at once"
    assert len(await recorder.queue.holds()) == 1
    goes_on.set()
    await attempts.stop()
    assert len(await recorder.queue.holds()) == 0
    assert len(bench.upstream.transfers) == 1


async def test_a_store_that_hangs_at_a_hold_keeps_no_reply_back(
    make_bench: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = Failure(
        phase=Phase.FINAL, reply=Reply(554, "5.7.1", "not today"), meaning=Meaning.QUOTA, from_server=True
    )
    bench = make_bench(FakeUpstream(Outcome(host="127.0.0.1", failure=refusal), stops_after_dot=True))
    began, goes_on = _hanging(monkeypatch, "put_hold")
    assert (await bench.send("support@acmejets.example")).code == 451
    await began.wait()
    goes_on.set()
    await bench.acceptance.attempts.stop()
    assert [row.meaning for row in await bench.acceptance.attempts.recorder.queue.holds()] == ["quota"]


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.DIRECT])
async def test_a_store_that_hangs_at_the_history_keeps_no_reply_back(
    mode: Mode, make_bench: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(mode=mode)
    monkeypatch.setattr(history_module, "_PAUSE_SECONDS", 0.0)
    began, goes_on = _hanging(monkeypatch, "record")
    writing = asyncio.create_task(bench.acceptance.history.run())
    for _ in range(3):
        assert (await bench.send("support@acmejets.example")).code == 250
        await began.wait()
    goes_on.set()
    writing.cancel()
    await asyncio.wait({writing})
    assert len(bench.upstream.transfers) == 3


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_fault_in_who_is_told_of_the_message_changes_no_reply(
    mode: Mode, make_bench: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(fault_barrier, "_told", {})
    monkeypatch.setattr(log, "broken", lambda what, **_: told.append(what))
    bench = make_bench(mode=mode)
    monkeypatch.setattr(bench.acceptance, "tell", _raise)
    for _ in range(2):
        assert (await bench.send("support@acmejets.example")).code == 250
    await bench.acceptance.attempts.stop()
    assert len(bench.upstream.transfers) == 2
    assert told == ["a fault beside the mail; no message is concerned"], "once a minute"
