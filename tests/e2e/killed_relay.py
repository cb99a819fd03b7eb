"""A relay that kills itself at a named point: `install` in its process, before the program begins.

The whole program runs as it is. One function of it is wrapped, and at its COUNT-th call the process gets SIGKILL: no
handler runs, nothing is flushed or closed. So the product has no hook for this.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

AnyFunction = Callable[..., Any]


def _always(arguments: tuple[Any, ...], result: Any) -> bool:
    return True


def _has_result(arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result)


def _has_report(arguments: tuple[Any, ...], result: Any) -> bool:
    return any(new.message.is_report for new in arguments[1])


def _is_answer_to_dot(arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(arguments[1].startswith(b"250 2.0.0 Ok: recorded"))


def _is_recipient(arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(arguments[-1].recipient >= 0)


@dataclass(frozen=True, slots=True)
class Point:
    """A function ("module:name" or "module:Class.name"), and the call of it that counts: before it, or after it.

    Of a generator every item counts, before it is given.
    """

    where: str
    is_after: bool
    counts: Callable[[tuple[Any, ...], Any], bool] = field(default=_always)


def _before(where: str, counts: Callable[[tuple[Any, ...], Any], bool] = _always) -> Point:
    return Point(where, is_after=False, counts=counts)


def _after(where: str, counts: Callable[[tuple[Any, ...], Any], bool] = _always) -> Point:
    return Point(where, is_after=True, counts=counts)


# A function of relay.store.* but Queue and Database runs inside a transaction: after it means before the commit.
POINTS: Mapping[str, Point] = {
    "stored, not committed": _after("relay.store.queue.writes:insert_messages"),
    "committed, not answered": _after("relay.store.queue.queue:Queue.add"),
    "claimed, not committed": _after("relay.store.queue.claims:take", _has_result),
    "claimed": _after("relay.store.queue.queue:Queue.claim", _has_result),
    "attempt not committed": _after("relay.store.queue.writes:begin_attempts"),
    "attempt recorded": _after("relay.store.queue.queue:Queue.begin_attempt"),
    "before connecting": _before("relay.upstream.pool:Connection.open"),
    "logged in": _after("relay.upstream.pool:Connection.open"),
    "sender named": _after("relay.upstream.dialog:_Envelope.open"),
    "recipient named": _after("relay.upstream.dialog:_Envelope.ask", _is_recipient),
    "announced": _after("relay.upstream.dialog:_Envelope.announce"),
    "in the content": _before("relay.upstream.dialog:pieces"),
    "before the dot is recorded": _before("relay.delivery.recorder:Recorder.record_final_dot"),
    "dot not committed": _after("relay.store.queue.writes:mark_final_dots"),
    "dot recorded": _after("relay.delivery.recorder:Recorder.record_final_dot"),
    "before the dot": _before("relay.upstream.transaction:Progress.note_final_dot"),
    "dot answered": _before("relay.upstream.protocol:Link.data_received", _is_answer_to_dot),
    "answer read": _after("relay.upstream.dialog:_send"),
    "answered by an API": _before("relay.upstream.http.client:_read"),
    "sent by an API": _after("relay.upstream.http.graph:Graph.send"),
    "before the outcome": _before("relay.delivery.recorder:Recorder.write_down"),
    "in the settlement": _after("relay.store.queue.writes:delete_content"),
    "report not committed": _after("relay.store.queue.writes:insert_messages", _has_report),
    "settled, not committed": _after("relay.store.queue.writes:settle"),
    "settled": _after("relay.store.queue.queue:Queue.settle"),
    "patience ended": _before("relay.delivery.submission:Submission._go_on_alone"),
    "going on alone": _after("relay.delivery.attempt:Attempts.keep"),
    "hold not committed": _after("relay.store.queue.holds:put_hold"),
    "hold kept": _after("relay.store.queue.queue:Queue.put_hold"),
    "mail not yet held": _after("relay.store.queue.holds:hold_some", _has_result),
    "mail held": _after("relay.store.queue.queue:Queue.hold_waiting", _has_result),
    "hold dropped": _after("relay.store.queue.queue:Queue.drop_hold", _has_result),
    "mail not yet freed": _after("relay.store.queue.holds:free_some", _has_result),
    "mail freed": _after("relay.store.queue.queue:Queue.free", _has_result),
    "change not committed": _after("relay.store.queue.writes:edit", _has_result),
    "change committed": _after("relay.store.queue.queue:Queue.edit", _has_result),
    "not yet taken back": _after("relay.store.queue.claims:take_over", _has_result),
    "taken back, one settled": _after("relay.store.queue.queue:Queue.settle"),
    "taken back": _after("relay.delivery.recorder:Recorder.take_back"),
    "purge not committed": _after("relay.store.queue.writes:purge_some", _has_result),
    "purged": _after("relay.store.queue.queue:Queue.purge", _has_result),
    "shrunk": _after("relay.store.db.database:Database.shrink", _has_result),
}


def install(point: str, count: str, armed: str = "") -> None:
    """Wrap the function of a point, so that its `count`-th call that counts is the last thing that happens.

    `armed` is a file: only calls while it is there count.
    """
    its = POINTS[point]
    module, _, path = its.where.partition(":")
    owner: Any = import_module(module)
    *owners, name = path.split(".")
    for each in owners:
        owner = getattr(owner, each)
    real = getattr(owner, name)
    wrapped = _wrapped(real, _Countdown(its, int(count), Path(armed) if armed else None))
    setattr(owner, name, wrapped)
    if owners or real.__module__ != module:  # where one module calls it is meant
        return
    # Who imports it by name has it by now.
    for other in [module for name, module in sys.modules.items() if name.startswith("relay.")]:
        for alias in [alias for alias, value in vars(other).items() if value is real]:
            setattr(other, alias, wrapped)


class _Countdown:
    """Counts calls, and kills the process at the last one."""

    def __init__(self, point: Point, count: int, armed: Path | None) -> None:
        self._point = point
        self._left = count
        self._armed = armed

    def tell(self, *, is_after: bool, arguments: tuple[Any, ...], result: Any = None) -> None:
        if is_after is not self._point.is_after or not self._point.counts(arguments, result):
            return
        if self._armed and not self._armed.exists():
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _wrapped(real: AnyFunction, countdown: _Countdown) -> AnyFunction:
    @wraps(real)
    async def awaited(*arguments: Any, **named: Any) -> Any:
        countdown.tell(is_after=False, arguments=arguments)
        result = await real(*arguments, **named)
        countdown.tell(is_after=True, arguments=arguments, result=result)
        return result

    @wraps(real)
    def called(*arguments: Any, **named: Any) -> Any:
        countdown.tell(is_after=False, arguments=arguments)
        result = real(*arguments, **named)
        countdown.tell(is_after=True, arguments=arguments, result=result)
        return result

    @wraps(real)
    def iterated(*arguments: Any, **named: Any) -> Iterator[Any]:
        for item in real(*arguments, **named):
            countdown.tell(is_after=False, arguments=arguments)
            yield item

    if inspect.iscoroutinefunction(real):
        return awaited
    return iterated if inspect.isgeneratorfunction(real) else called
