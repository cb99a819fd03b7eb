"""What the attempts of a message changed in its header, told once where several changed the same. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ChangedHeader:
    """What these attempts changed, by their numbers: {field, before, after} each, and how many more are not kept."""

    attempts: Sequence[int]
    changes: Sequence[Mapping[str, str]]
    left_out: int

    @property
    def whose(self) -> str:
        """Return whose changes these are: "attempt 2", "attempts 1 to 3", "attempts 1, 3"."""
        first, last = self.attempts[0], self.attempts[-1]
        if first == last:
            return f"attempt {first}"
        is_row = last - first + 1 == len(self.attempts)
        return f"attempts {first} to {last}" if is_row else f"attempts {', '.join(map(str, self.attempts))}"


def changed_headers(attempts: Sequence[Mapping[str, Any]]) -> list[ChangedHeader]:
    """Return what attempts (as `messages.show` has them) changed, in the order of the first of each.

    Those of which it is not known, or whose message never left, are left out.
    """
    found: list[ChangedHeader] = []
    for attempt in attempts:
        changes, left_out = attempt["changes"], attempt["changes_left_out"]
        if changes is None:
            continue
        same = next((at for at, one in enumerate(found) if (one.changes, one.left_out) == (changes, left_out)), None)
        if same is None:
            found.append(ChangedHeader((attempt["number"],), changes, left_out))
        else:
            found[same] = ChangedHeader((*found[same].attempts, attempt["number"]), changes, left_out)
    return found
