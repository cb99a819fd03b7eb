"""Loading modules, and making applications of them: Python's garbage collector rests meanwhile.

What is loaded stays, so that every look of the collector is for nothing; a start of the service has a hundred of them,
some through all there is, and they are a tenth of it.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Let the collector rest within, and afterwards never look at what is there by then."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
