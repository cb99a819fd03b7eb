"""What is wrong with a file that a person wrote: one value per fault, all of them reported at once.

A fault is one sentence that names the file, the key and what to do. Settings and directory share it, so that
`relay check`, the log and the web say the same words.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: its file, its dotted key ("channels.support.server"; "" for the whole file), and a sentence."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.message) if part)


class Faults(Exception):
    """A file cannot be used. Carries every fault that was found in it, in the order of their keys."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'gmail'?" for a mistyped word, or "" where nothing known comes close."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
