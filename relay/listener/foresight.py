"""What the desk is told of a large message before it is whole, so that it can go on its way."""

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from relay.listener.intake import Intake
from relay.listener.ports import Submission

# Octets a second. Who is slower would keep a connection to the server from others for long, and gains little.
_FAST: Final = 1024 * 1024


class Foresight:
    """One message that comes. A context manager: what was foreseen and is not taken by then is abandoned.

    `open_` begins its submission; `clock` tells the time in seconds.
    """

    def __init__(self, intake: Intake, open_: Callable[[], Submission], clock: Callable[[], float]) -> None:
        self._intake = intake
        self._open = open_
        self._clock = clock
        self._began = clock()
        self._submission: Submission | None = None
        self._is_over = False
        intake.on_growth = self._grown

    def take(self) -> Submission:
        """Return the submission of the whole message, which is the one that was foreseen where there is one."""
        self._is_over = True
        return self._submission or self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_over and self._submission is not None:
            self._submission.abandon()
        self._is_over = True
        self._intake.on_growth = None  # no circle: it would keep the message, and its file

    def _grown(self) -> None:
        if self._submission is not None:
            self._submission.more()
        elif not self._is_over and (found := self._intake.so_far()) is not None:
            self._is_over = self._intake.size < _FAST * (self._clock() - self._began)
            if not self._is_over:
                self._submission = self._open()
                self._submission.foresee(*found)
