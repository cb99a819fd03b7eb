"""What goes on in threads beside a test, for as long as a block lasts."""

import threading
from typing import Self

_PATIENCE = 90.0  # with what each of them is in the middle of


class InThreads:
    """Base of what does so: it makes its `_threads`, and each of them ends soon after `_is_over` is set."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(_PATIENCE)
