"""Relays whose windows of time are short, a minute of six seconds, a lease of five: no test waits for real ones.

The whole program runs as it is; only the figures differ that it reads from its modules. A relay that is forked sets
them before it begins (`Relay.windows`). Every process that it starts, its workers above all, is a Python that reads
`sitecustomize` when it begins (https://docs.python.org/3/library/site.html), and finds the one in our own folder; so
does a relay that is started by `argv`.

What does not grow with the window stays as it is: a margin for how late a message may be read is that of a real minute.
A few tests go by the real figures: they are marked `long`.
"""

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.shortened.sitecustomize import shorten

_FOLDER = Path(__file__).with_name("shortened")
_LEAD = "relay.cluster.leader_election"
_POSTGRES, _SERVICE = "relay.store.db.postgresql", "relay.app.service"
# What must hold of any figures, as it does of the real ones: each is less than the one behind it.
_ASCENDING = (
    ("relay.limits.constants.KEPT_BACK_SECONDS", "relay.limits.constants.AWAY_SECONDS"),
    ("relay.limits.constants.TELL_SECONDS", "relay.limits.constants.KEPT_BACK_SECONDS"),
    ("relay.limits.constants.AHEAD_SECONDS", "relay.limits.constants.MINUTE"),
    ("relay.limits.constants.RATE_GUARD_SECONDS", "relay.limits.constants.MINUTE"),
    ("relay.limits.constants.PIECE", "relay.limits.constants.DAY"),
    ("relay.store.db.clocks._STEP_SECONDS", f"{_POSTGRES}._SILENCE_SECONDS"),
    (f"{_LEAD}._TRY_SECONDS", f"{_LEAD}.RENEWED_EVERY"),
    (f"{_LEAD}._LOOK_SECONDS", f"{_LEAD}.RENEWED_EVERY", f"{_LEAD}.TRUSTED_SECONDS", f"{_LEAD}.LASTS_SECONDS"),
    (f"{_LEAD}._PATIENCE_SECONDS", f"{_LEAD}.TRUSTED_SECONDS"),
    (f"{_SERVICE}._GOODBYE_SECONDS", f"{_SERVICE}._LAST_SECONDS", f"{_SERVICE}._STOP_SECONDS"),
    (f"{_SERVICE}._STOP_SECONDS", "relay.cluster.supervisor._STOP_SECONDS"),
    ("relay.listener.session_registry._CALM_SECONDS", f"{_SERVICE}._STOP_SECONDS"),
)


@dataclass(frozen=True, slots=True)
class Windows:
    """Figures of modules, by "module.NAME". AssertionError for some that are in no proportion."""

    figures: Mapping[str, Any]

    def __post_init__(self) -> None:
        for row in _ASCENDING:
            values = [self.figures.get(path, real(path)) for path in row]
            assert values == sorted(set(values)), f"{' < '.join(row)}: not with {values}"

    @property
    def before(self) -> tuple[str, ...]:
        """What a forked relay calls before it begins (`Relay.fork`)."""
        return ("tests.peers.short_windows:install", json.dumps(self.figures)) if self.figures else ()

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line of what runs a relay with them, and becomes it (`Relay.launch`)."""
        if not self.figures:
            return ()
        return ("env", f"PYTHONPATH={_FOLDER}", f"SHORT_WINDOWS={json.dumps(self.figures)}")


def real(path: str) -> Any:
    """Return what the program has."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def install(figures: str) -> None:
    """Set the figures in this process, and in all that it starts."""
    os.environ.update(PYTHONPATH=str(_FOLDER), SHORT_WINDOWS=figures)
    shorten(json.loads(figures))


def short_windows(
    *,
    minute: float = 0,
    lease: float = 0,
    shares: float = 0,
    lead: float = 0,
    silence: float = 0,
    stop: float = 0,
    slow: float = 0,
    day: int = 0,
) -> Windows:
    """Return figures for what is named, in seconds; what is not named is real.

    `minute`: that of messages_per_minute. `lease`, `shares`: of messages and of connections, where machines share a
    store, and then a node counts as silent after four seconds. `lead`: the lease of who leads. `silence`: how long a
    database may say nothing. `stop`: in what time a relay ends. `slow`: the first pause of an account whose server asks
    for a slower pace. `day`: that of recipients_per_day, in fifteen pieces: each is long beside what makes a recipient
    late, as the real ones are.
    """
    figures: dict[str, Any] = {}
    if minute:
        figures |= _scaled(minute / 60, "relay.limits.constants.MINUTE")
        figures["relay.limits.constants.AHEAD_SECONDS"] = max(1, round(minute / 6))
        outage = ("KEPT_BACK_SECONDS", "AWAY_SECONDS", "TELL_SECONDS")
        figures |= _scaled(max(minute, 12) / 60, *(f"relay.limits.constants.{name}" for name in outage))
    if lease:
        figures["relay.store.cluster.leases.TOGETHER"] = {
            "messages": float(lease),
            "shares": float(shares),
            "nodes": 4.0,
        }
    if lead:
        leases = ("LASTS_SECONDS", "TRUSTED_SECONDS", "RENEWED_EVERY", "_LOOK_SECONDS", "_TRY_SECONDS")
        figures |= _scaled(lead / 15, *(f"{_LEAD}.{name}" for name in (*leases, "_PATIENCE_SECONDS")))
    if silence:
        figures[f"{_POSTGRES}._SILENCE_SECONDS"] = silence
        figures[f"{_POSTGRES}._DEFAULTS"] = {"tcp_user_timeout": str(int(silence * 1000)), "connect_timeout": "3"}
    if stop:
        stops = ("_STOP_SECONDS", "_LAST_SECONDS", "_GOODBYE_SECONDS")
        figures |= _scaled(
            stop / 30, *(f"{_SERVICE}.{name}" for name in stops), "relay.listener.session_registry._CALM_SECONDS"
        )
    if slow:
        figures["relay.delivery.holds._SLOW_STEPS"] = [
            slow / 30 * step for step in real("relay.delivery.holds._SLOW_STEPS")
        ]
    if day:
        piece = max(1, day // 15)
        names = ("DAY", "PIECE", "DAY_AHEAD_SECONDS")
        figures |= {
            f"relay.limits.constants.{name}": value for name, value in zip(names, (day, piece, piece), strict=True)
        }
    return Windows(figures)


def _scaled(part: float, *paths: str) -> dict[str, float]:
    return {path: part * real(path) for path in paths}
