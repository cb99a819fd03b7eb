"""Who is told of what, and when: one message for one trouble, again after a day, and one when it is over. Pure.

Never a storm: all that is new goes into one message, at most one leaves in five minutes, and where each brings
something new the pauses grow to an hour. A thousand accounts that are held at once are one message with one line, and
what comes in the minutes after that a second one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from relay.store.queue.troubles import ToldTrouble

# How long a trouble is there before anybody is told, and away before it is over: most of what belongs together is there
# by then, and what comes and goes is no trouble.
GATHERED_SECONDS = 30.0
OVER_SECONDS = 120.0
AGAIN = timedelta(days=1)
# What is to be told again soon goes along.
_ALONG = timedelta(hours=4)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
# What is looked at once a day: only what changed is told of it, and nothing again.
ONCE = frozenset({"self-check"})
_PAUSE_SECONDS = (300.0, 600.0, 1200.0, 2400.0, 3600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that needs a person. `key` is what makes it the same one, `group` what many have in common.

    `stage`: how far it has come; another one is told anew.
    """

    kind: str
    key: str
    title: str
    group: str = ""
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What one message tells: what is new, what is still there, and what is over."""

    new: Sequence[Trouble] = ()
    still: Sequence[Trouble] = ()
    over: Sequence[ToldTrouble] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.new or self.still or self.over)


@dataclass(slots=True)
class Memory:
    """What is known of one recipient beside what the store keeps. A start forgets it, which makes nobody told twice."""

    seen: dict[str, datetime] = field(default_factory=dict)  # since when each trouble is there that was not told
    gone: dict[str, datetime] = field(default_factory=dict)  # since when what was told is away
    last: datetime | None = None
    streak: int = 0

    def look(self, troubles: Collection[Trouble], told: Mapping[str, ToldTrouble], now: datetime) -> Digest:
        """Return what to tell now; nothing may be the time for it yet."""
        current = {one.key: one for one in troubles}
        fresh = [one for key, one in current.items() if key not in told or told[key].stage != one.stage]
        self.seen = {one.key: self.seen.get(one.key, now) for one in fresh}
        self.gone = {key: self.gone.get(key, now) for key in told if key not in current}
        is_new = any((now - since).total_seconds() >= GATHERED_SECONDS for since in self.seen.values())
        over = [told[key] for key, since in self.gone.items() if (now - since).total_seconds() >= OVER_SECONDS]
        ages = {
            key: now - told[key].told
            for key, one in current.items()
            if key in told and key not in self.seen and one.kind not in ONCE
        }
        is_due = any(age >= AGAIN for age in ages.values())
        if not (is_new or over or is_due) or now < self._next(told):
            return Digest()
        still = [current[key] for key, age in ages.items() if is_due and age >= AGAIN - _ALONG]
        return Digest(new=fresh, still=still, over=over)

    def note(self, now: datetime) -> None:
        """A message has left."""
        is_calm = self.last is None or (now - self.last).total_seconds() >= 2 * _PAUSE_SECONDS[-1]
        self.streak = 0 if is_calm else self.streak + 1
        self.last = now

    def _next(self, told: Mapping[str, ToldTrouble]) -> datetime:
        last = self.last or max((one.told for one in told.values()), default=None)
        pause = _PAUSE_SECONDS[min(self.streak, len(_PAUSE_SECONDS) - 1)]
        return last + timedelta(seconds=pause) if last is not None else _EVER


def rows_of(recipient: str, digest: Digest, told: Mapping[str, ToldTrouble], now: datetime) -> list[ToldTrouble]:
    """Return what the store is to keep of a message that has left."""
    return [
        ToldTrouble(
            recipient=recipient,
            key=one.key,
            kind=one.kind,
            title=one.title,
            stage=one.stage,
            since=told[one.key].since if one.key in told else now,
            told=now,
        )
        for one in (*digest.new, *digest.still)
    ]
