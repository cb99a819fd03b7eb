"""Charts, drawn as SVG by the server. Pure: values in, markup out.

A picture has a title, a description and a tooltip for each bar; what it says stands in a table beside it too. Bars
stretch with the window while words keep their size: the numbers and times at the axes are HTML, in `charts.html`.
Colours are classes (`relay.css`), because the pages allow no style in markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Any

HEIGHT = 100
_STEP = 10  # the width of a bar and the gap behind it
_BAR = 8
_LINES = 4
_NICE = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Series:
    """One kind of value: its key in the records, its name, and the class that colours it (s1 to s4)."""

    key: str
    label: str
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What one bar stands for: its time in words, and a value for each series."""

    label: str
    values: Sequence[int]

    @property
    def total(self) -> int:
        """How high it is."""
        return sum(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Stacked bars over time. `id` is unique on its page."""

    id: str
    title: str
    series: Sequence[Series]
    bars: Sequence[Bar]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(bar.total for bar in self.bars)

    @property
    def top(self) -> int:
        """The value at the upper edge: a number that is read easily, at least as much as the highest bar."""
        return nice_top(max((bar.total for bar in self.bars), default=0))

    @property
    def ticks(self) -> Sequence[int]:
        """The numbers at the lines, from the upper edge down to 0."""
        return [self.top * line // _LINES for line in range(_LINES, -1, -1)]

    @property
    def times(self) -> Sequence[str]:
        """The times below the bars: as many as a narrow window has room for, each where its part begins."""
        parts = next((number for number in (4, 5, 3, 6, 7) if len(self.bars) % number == 0), 1)
        return [bar.label for bar in self.bars[:: max(len(self.bars) // parts, 1)]]

    @property
    def summary(self) -> str:
        """What it says, in a sentence."""
        totals = [sum(bar.values[index] for bar in self.bars) for index in range(len(self.series))]
        told = ", ".join(f"{total:,} {series.label.lower()}" for series, total in zip(self.series, totals, strict=True))
        span = f"from {self.bars[0].label} to {self.bars[-1].label}" if self.bars else "at no time"
        return f"{told}, {span}."

    @property
    def svg(self) -> str:
        """The picture."""
        width = max(len(self.bars) * _STEP, 1)
        named = f'aria-labelledby="{escape(self.id)}-title" aria-describedby="{escape(self.id)}-words"'
        box = f'viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none"'
        parts = [
            f'<svg class="chart" {box} role="img" {named}>',
            f'<title id="{escape(self.id)}-title">{escape(self.title)}</title>',
            f'<desc id="{escape(self.id)}-words">{escape(self.summary)}</desc>',
            *(_line(line, width) for line in range(_LINES + 1)),
            *(part for number, bar in enumerate(self.bars) for part in self._bar(number, bar)),
            "</svg>",
        ]
        return "".join(parts)

    def _bar(self, number: int, bar: Bar) -> Sequence[str]:
        told = ", ".join(
            f"{value:,} {series.label.lower()}" for series, value in zip(self.series, bar.values, strict=True) if value
        )
        rects, bottom = [], float(HEIGHT)
        for series, value in zip(self.series, bar.values, strict=True):
            if value:
                # What is there is seen, be it one among a thousand.
                height = max(value * HEIGHT / self.top, 1.0)
                bottom = max(bottom - height, 0.0)
                rects.append(
                    f'<rect class="{series.look}" x="{number * _STEP + (_STEP - _BAR) // 2}" y="{bottom:.2f}" '
                    f'width="{_BAR}" height="{height:.2f}"/>'
                )
        tooltip = f"<title>{escape(bar.label)}: {escape(told or 'nothing')}</title>"
        # The whole column has the tooltip, not the bar alone.
        whole = f'<rect class="column" x="{number * _STEP}" y="0" width="{_STEP}" height="{HEIGHT}"/>'
        return [f"<g>{tooltip}{whole}{''.join(rects)}</g>"]


def _line(line: int, width: int) -> str:
    y = HEIGHT * line / _LINES
    return f'<line class="grid" x1="0" x2="{width}" y1="{y:g}" y2="{y:g}" vector-effect="non-scaling-stroke"/>'


def nice_top(highest: int) -> int:
    """Return a number of at least this much that four lines divide evenly: 4, 8, 20, 40, 80, 200, …"""
    scale = 1
    while True:
        for nice in _NICE:
            if highest <= nice * scale * _LINES:
                return nice * scale * _LINES
        scale *= 10


def bars_of(records: Sequence[Mapping[str, Any]], series: Sequence[Series], per_bar: int, form: str) -> list[Bar]:
    """Return bars of records of `messages.counts`, so many records to a bar; `form` writes the time of its first."""
    parts = [records[start : start + per_bar] for start in range(0, len(records), per_bar)]
    return [
        Bar(
            label=f"{datetime.fromisoformat(part[0]['at']):{form}}",
            values=[sum(int(record[one.key]) for record in part) for one in series],
        )
        for part in parts
    ]


def first_moment(now: datetime, step: timedelta, number: int) -> datetime:
    """Return where the first of so many whole steps begins, of which the last is the one that `now` is in."""
    begun = datetime.fromtimestamp(now.timestamp() // step.total_seconds() * step.total_seconds(), tz=now.tzinfo)
    return begun - step * (number - 1)
