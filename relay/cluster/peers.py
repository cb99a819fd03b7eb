"""The other workers of this relay, as one of them sees them.

They tell each other, at once and through the supervisor, to look at the store now, which they do a second later anyway;
and what may be lost and nobody keeps: how many clients each has, what it has counted, whom servers told to be slower
(`relay.cluster.peer_counts`, `relay.cluster.hints`). docs/processes.md says of each why it may be lost.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, TypeAlias

from relay import log
from relay.cluster.ipc import IpcConnection, Message
from relay.store.cluster.identity import Place

_ANSWER_SECONDS = 2.0
LOOK = "look"
_ASK, _ANSWER, _BEGUN, _GONE = "ask", "answer", "begun", "gone"

Answer: TypeAlias = Callable[[], Any]
"""Returns a JSON value."""
Heard: TypeAlias = Callable[[int, Message], None]
"""Is called with the index of the worker that told something, and with the message."""


class Peers:
    """The lines of one worker to the others. Without a `line` there is no other worker, and nobody hears or answers.

    `place` is this worker's. `store` is the file that the others have open as their store (device and number), where
    that is known.
    """

    def __init__(
        self, line: IpcConnection | None = None, place: Place | None = None, store: tuple[int, int] | None = None
    ) -> None:
        self.place = place or Place()
        self.store = store
        self._line = line
        self._heard: dict[str, list[Heard]] = {_ASK: [self._asked], _ANSWER: [self._answered]}
        self._answers: dict[str, Answer] = {}
        self._waiting: dict[int, tuple[list[Any], asyncio.Event, int]] = {}
        self._numbers = count(1)
        self._is_look_told = False

    def on(self, kind: str, heard: Heard) -> None:
        """Let something be called for each message of a kind."""
        self._heard.setdefault(kind, []).append(heard)

    def on_gone(self, heard: Callable[[int], None]) -> None:
        """Let something be called when a worker has ended, whose place another takes."""
        self.on(_GONE, lambda _, message: heard(int(message["index"])))

    def on_begun(self, heard: Callable[[int], None]) -> None:
        """Let something be called when another worker has begun, and so knows nothing of what was told before."""
        self.on(_BEGUN, lambda who, _: heard(who))

    def tell(self, kind: str, *, to: int | None = None, **facts: Any) -> None:
        """Tell all others something, or one of them."""
        if self._line is not None:
            self._line.tell({"to": "all" if to is None else to, "kind": kind, **facts})

    def begin(self) -> None:
        """Let the others tell what they told before: we hear from now on."""
        self.tell(_BEGUN)

    def look(self) -> None:
        """Let the others look at the store and the directory now: something changed. Once for many calls in a row."""
        if self._line is not None and not self._is_look_told:
            self._is_look_told = True
            asyncio.get_running_loop().call_soon(self._tell_look)

    def answer(self, what: str, with_: Answer) -> None:
        """Answer when another worker asks for it."""
        self._answers[what] = with_

    async def ask(self, what: str) -> list[Any]:
        """Return what the others answer; who is silent for two seconds is left out."""
        wanted = self.place.total - 1
        if self._line is None or not wanted:
            return []
        number, found, done = next(self._numbers), list[Any](), asyncio.Event()
        self._waiting[number] = (found, done, wanted)
        self._line.tell({"to": "all", "kind": _ASK, "what": what, "number": number})
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await done.wait()
        except TimeoutError:
            log.warned(f"{wanted - len(found)} of {self.place.total} workers did not answer in time")
        finally:
            del self._waiting[number]
        return found

    async def listen(self, when_left_alone: Callable[[], Awaitable[None] | None]) -> None:
        """Hear what the others tell, until the supervisor is gone; then `when_left_alone` is called."""
        if self._line is None:
            return
        async for message in self._line.messages():
            for heard in self._heard.get(message["kind"], ()):
                try:
                    heard(int(message.get("from", -1)), message)
                except Exception:  # one word that is not understood ends no worker
                    log.broken("what another worker told met a fault of ours", exc_info=True)
        left_alone = when_left_alone()
        if left_alone is not None:
            await left_alone

    def _tell_look(self) -> None:
        self._is_look_told = False
        self.tell(LOOK)

    def _asked(self, who: int, message: Message) -> None:
        if (answer := self._answers.get(message["what"])) is not None:
            self._tell_answer(who, message, answer())

    def _tell_answer(self, who: int, message: Message, value: Any) -> None:
        if self._line is not None:
            self._line.tell({"to": who, "kind": _ANSWER, "number": message["number"], "value": value})

    def _answered(self, _: int, message: Message) -> None:
        if (waiting := self._waiting.get(message["number"])) is not None:
            found, done, wanted = waiting
            found.append(message["value"])
            if len(found) >= wanted:
                done.set()
