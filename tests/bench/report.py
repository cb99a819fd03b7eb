"""The tables that the bench prints, in Markdown."""

from collections.abc import Sequence

from tests.bench import figures
from tests.bench.bound import Measured
from tests.bench.calls import MOST, Cost
from tests.bench.figures import Judgement, Spread
from tests.bench.loads import FLAT, LOADS, POSTFIX, Load
from tests.bench.nodes import Share
from tests.bench.rounds import Run
from tests.bench.size import Line
from tests.bench.ways import Way

_NONE = "-"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are as wide as what is in them; the first is flush left, the others right."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        rest = zip(cells[1:], widths[1:], strict=True)
        padded = [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in rest)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(line(cells) for cells in (headings, rule, *rows))


def of_load(load: Load, runs: Sequence[Run]) -> str:
    """Return what each relay did under a load, and how that is to Postfix."""
    theirs = figures.of(runs, load.name, POSTFIX)
    rows = []
    for relay in dict.fromkeys(run.relay for run in runs if run.load == load.name):
        ours = figures.of(runs, load.name, relay)
        is_relay = bool(ours[0].memory)
        row = [
            relay,
            _spread(figures.spread(ours, figures.rate), "{:,.0f}"),
            _spread(figures.spread(ours, figures.cpu), "{:.2f}") if is_relay else _NONE,
            f"{max(figures.memory(run) for run in ours):.0f}" if is_relay else _NONE,
            _spread(figures.ratio(ours, theirs, figures.rate), "{:.2f}"),
            _spread(figures.ratio(ours, theirs, figures.cpu), "{:.2f}") if is_relay else _NONE,
            _spread(figures.spread(ours, figures.ends), "{:.2f}"),
        ]
        if load.upstream.latency:
            row.append(_spread(figures.spread(ours, figures.trips), "{:.2f}"))
        rows.append(row)
    headings = [
        "relay",
        "messages/s",
        "CPU ms/message",
        "PSS MiB",
        "rate : Postfix",
        "CPU : Postfix",
        "ends ms/message",
    ]
    if load.upstream.latency:
        headings.append("round trips/message")
    return f"## {load.text}\n\nmessages: {load.messages:,}, rounds: {load.rounds}\n\n{table(headings, rows)}"


def of_goals(judgements: Sequence[Judgement]) -> str:
    """Return the table of what must be reached."""
    rows = []
    for one in judgements:
        goal = one.goal
        against = f" : {LOADS[goal.against_load].text}" if goal.against_load else ""
        against += f" : {goal.against}" if goal.against not in {POSTFIX, goal.relay, ""} else ""
        wanted = f"at least {goal.bound:g}" if goal.is_least else f"at most {goal.bound:.3g}"
        what = f"{LOADS[goal.load].text}{against}, {goal.relay}: {goal.measure}"
        rows.append([what, wanted, _spread(one.value, "{:.3g}"), one.verdict])
    return f"## Must reach (ratios of medians)\n\n{table(['load', 'wanted', 'measured', ''], rows)}"


def of_growth(title: str, sizes: Sequence[int], runs: Sequence[Run], modes: Sequence[str]) -> str:
    """Return throughput and processor time at each size, beside those at the first. Runs bear "SIZE MODE"."""
    rows = []
    for mode in modes:
        first = [run for run in runs if run.relay == f"{sizes[0]} {mode}"]
        for size in sizes:
            ours = [run for run in runs if run.relay == f"{size} {mode}"]
            speed = figures.ratio(ours, first, figures.rate)
            cost = figures.ratio(ours, first, figures.cpu)
            rows.append(
                [
                    f"{mode}, {size:,}",
                    _spread(figures.spread(ours, figures.rate), "{:,.0f}"),
                    _spread(figures.spread(ours, figures.cpu), "{:.2f}"),
                    _spread(speed, "{:.2f}"),
                    _spread(cost, "{:.2f}"),
                    "flat" if is_flat(speed, cost) else "not flat",
                ]
            )
    headings = [title, "messages/s", "CPU ms/message", "rate : first", "CPU : first", f"within {FLAT:.0%}"]
    return f"## Growth: {title}\n\n{table(headings, rows)}"


def of_size(lines: Sequence[Line]) -> str:
    """Return what a relay is when little happens."""
    rows = []
    for line in lines:
        spread = Spread(line.median, min(line.values), max(line.values))
        form = "{:,.0f}" if spread.median >= 100 else "{:.3g}"
        wanted = f"under {line.bound:g}" if line.bound else _NONE
        rows.append([line.what, line.unit, wanted, _spread(spread, form), line.verdict])
    return f"## Start and size\n\n{table(['what', 'unit', 'wanted', 'measured', ''], rows)}"


def of_calls(costs: Sequence[Cost]) -> str:
    """Return what a message takes in calls, and how many files it enters."""
    rows = [[one.mode, f"{one.calls:,.0f}", f"{MOST[one.mode]:,}", str(one.files)] for one in costs]
    return f"## Calls for a message of 2 KB, kept\n\n{table(['mode', 'calls', 'at most', 'files entered'], rows)}"


def of_bounds(found: Sequence[Measured]) -> str:
    """Return what was measured beside what it may be, in milliseconds; broken is what was too long each time."""
    rows = [
        [one.what, f"{one.most * 1000:,.0f}", f"{min(one.values) * 1000:,.1f}", "kept" if one.is_kept else "broken"]
        for one in found
    ]
    return f"## Bounds\n\n{table(['what', 'bound, ms', 'measured, ms', ''], rows)}"


def of_nodes(shares: Sequence[Share]) -> str:
    """Return what a message costs whom, with each number of nodes."""
    rows = []
    for mode, count in dict.fromkeys((one.mode, one.nodes) for one in shares):
        ours = [one for one in shares if (one.mode, one.nodes) == (mode, count)]
        figures_ = [([one.rate for one in ours], "{:,.0f}")]
        figures_ += [([getattr(one, name) for one in ours], "{:.2f}") for name in ("relay", "postgres", "haproxy")]
        rows.append([f"{mode}, {count}", *(_spread(Spread.of(values), form) for values, form in figures_)])
    headings = ["nodes", "messages/s", "Relay CPU ms/message", "PostgreSQL CPU ms/message", "HAProxy CPU ms/message"]
    return f"## Nodes on one PostgreSQL, behind HAProxy\n\n{table(headings, rows)}"


def of_ways(found: Sequence[Way]) -> str:
    """Return what a message costs by each way out."""
    rows = []
    for name in dict.fromkeys(one.name for one in found):
        ours = [one for one in found if one.name == name]
        rate, cpu = Spread.of([one.rate for one in ours]), Spread.of([one.cpu for one in ours])
        rows.append([name, _spread(rate, "{:,.0f}"), _spread(cpu, "{:.2f}")])
    return f"## By Microsoft Graph, beside SMTP\n\n{table(['by', 'messages/s', 'Relay CPU ms/message'], rows)}"


def is_flat(rate: Spread | None, cpu: Spread | None) -> bool:
    """Whether throughput is at most so much less, and processor time so much more, than at the first size."""
    return rate is not None and cpu is not None and rate.median >= 1 - FLAT and cpu.median <= 1 + FLAT


def _spread(value: Spread | None, form: str) -> str:
    if value is None:
        return _NONE
    median, low, high = (form.format(number) for number in (value.median, value.low, value.high))
    return median if low == high else f"{median} ({low} to {high})"
