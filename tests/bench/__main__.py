"""`make bench`: the same loads through Postfix, the bare libraries and Relay, side by side, as tables."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from tests.bench import backlog, bounds, calls, figures, growth, machine, nodes, report, size, ways
from tests.bench.contenders import contender
from tests.bench.loads import (
    AUTO,
    BACKLOG,
    CLUSTER,
    GOALS,
    GROUPS,
    GROWTH,
    LOADS,
    NODES,
    POSTFIX,
    PROFILES,
    RELAYS,
    WAITING,
    Load,
    Upstream,
    small,
)
from tests.bench.rounds import BenchError, Run, measure
from tests.bench.upstreams import Certificate
from tests.peers.system import private_folder

_GROWTH = "growth"
_SIZE = "size"
_NODES = "nodes"
_BACKLOG = "backlog"
_BOUNDS = "bounds"
_CALLS = "calls"
_GRAPH = "graph"
_ROUNDS = 5  # of starts and commands


def main(arguments: Sequence[str]) -> int:
    """Run the bench. Returns 0 where every message came through, reached or not, and no bound is broken, else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    loads = _shaped([LOADS[name] for name in options.loads if name in LOADS], options)
    if os.geteuid() and any(POSTFIX in load.relays for load in loads):
        parser.error("Postfix starts only as root; leave it out by --relays none,floor,auto,queued")
    here = machine.look()
    say(f"# Bench\n\n{here.text()}\n")
    if options.quick:
        say("Tiny loads, to see that everything works: the figures say nothing.\n")
    if here.is_busy:
        say("This machine is busy with something else: the figures are rough.\n")
    with private_folder("bench") as folder:
        certificate = Certificate.make(folder)
        costs = _calls(options, certificate) if _CALLS in options.loads else []
        found = _ways(options, certificate) if _GRAPH in options.loads else []
        runs, is_whole = _run_all(loads, options, certificate)
    lines = _sizes(options) if _SIZE in options.loads else []
    is_kept = _within_bounds(options) if _BOUNDS in options.loads else True
    is_kept = is_kept and (options.quick or all(cost.is_kept for cost in costs))
    wanted = {load.name for load in loads}
    if judgements := [figures.judge(goal, runs) for goal in GOALS if goal.load in wanted]:
        say(f"{report.of_goals(judgements)}\n")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps(
                {
                    "machine": asdict(here),
                    "runs": [asdict(run) for run in runs],
                    "size": [asdict(line) for line in lines],
                    "calls": [asdict(cost) for cost in costs],
                    "graph": [asdict(way) for way in found],
                },
                indent=1,
            )
        )
    if runs or not is_whole:
        say("The upstreams got every message once." if is_whole else "Some of it failed, see above.")
    return 0 if is_whole and is_kept else 1


def _run_all(loads: Sequence[Load], options: argparse.Namespace, certificate: Certificate) -> tuple[list[Run], bool]:
    """Run everything, and print each table as soon as it is there. Return the runs, and whether nothing failed."""
    kinds = dict.fromkeys(load.upstream for load in loads)
    parts: list[Callable[[], list[Run]]] = [
        partial(_run_together, kind, [load for load in loads if load.upstream == kind], certificate) for kind in kinds
    ]
    if _GROWTH in options.loads:
        load = _shaped([GROWTH], options)[0]
        parts += [partial(_by_waiting, load, options, certificate), partial(_by_profiles, load, options, certificate)]
    if _BACKLOG in options.loads:
        parts.append(partial(_with_backlog, _shaped([BACKLOG], options)[0], certificate))
    if _NODES in options.loads:
        parts.append(partial(_by_nodes, _shaped([CLUSTER], options)[0], options, certificate))
    runs, is_whole = [], True
    for part in parts:
        try:
            runs += part()
        except BenchError as error:
            tell(str(error))
            is_whole = False
    return runs, is_whole


def say(text: str) -> None:
    """Print a part of the result."""
    print(text, flush=True)


def tell(text: str) -> None:
    """Say on standard error how far it is, or what is wrong."""
    print(text, file=sys.stderr, flush=True)


def _run_together(kind: Upstream, loads: Sequence[Load], certificate: Certificate) -> list[Run]:
    """Run the loads that share their relays, and print their tables."""
    with ExitStack() as stack:
        names = [name for name in RELAYS if any(name in load.relays for load in loads)]
        running = {name: stack.enter_context(contender(name, kind, certificate)) for name in names}
        runs = measure([(load, running[name]) for load in loads for name in RELAYS if name in load.relays], tell)
    for load in loads:
        say(f"{report.of_load(load, runs)}\n")
    return runs


def _by_waiting(load: Load, options: argparse.Namespace, certificate: Certificate) -> list[Run]:
    sizes = WAITING[:2] if options.quick else WAITING
    runs = growth.with_waiting(sizes, load, certificate, tell)
    say(f"{report.of_growth('messages that wait', sizes, runs, growth.MODES)}\n")
    return runs


def _by_profiles(load: Load, options: argparse.Namespace, certificate: Certificate) -> list[Run]:
    sizes = PROFILES[:2] if options.quick else PROFILES
    runs = growth.with_profiles(sizes, load, certificate, tell)
    say(f"{report.of_growth('profiles', sizes, runs, [AUTO])}\n")
    return runs


def _with_backlog(load: Load, certificate: Certificate) -> list[Run]:
    runs = backlog.with_backlog(load, certificate, tell)
    say(f"{report.of_load(load, runs)}\n")
    return runs


def _by_nodes(load: Load, options: argparse.Namespace, certificate: Certificate) -> list[Run]:
    """Print what a cluster costs; its runs have other figures than those of one relay, and are in no list."""
    counts = NODES[:1] if options.quick else NODES
    say(f"{report.of_nodes(nodes.with_nodes(counts, load, certificate, tell))}\n")
    return []


def _sizes(options: argparse.Namespace) -> list[size.Line]:
    rounds = 1 if options.quick else options.rounds or _ROUNDS
    lines = size.measure(rounds, size.AGENTS // 10 if options.quick else size.AGENTS, tell)
    say(f"{report.of_size(lines)}\n")
    return lines


def _calls(options: argparse.Namespace, certificate: Certificate) -> list[calls.Cost]:
    costs = calls.measure(calls.MESSAGES // 40 if options.quick else calls.MESSAGES, certificate, tell)
    say(f"{report.of_calls(costs)}\n")
    return costs


def _ways(options: argparse.Namespace, certificate: Certificate) -> list[ways.Way]:
    rounds = 1 if options.quick else options.rounds or ways.ROUNDS
    found = ways.measure(ways.MESSAGES // 40 if options.quick else ways.MESSAGES, rounds, certificate, tell)
    say(f"{report.of_ways(found)}\n")
    return found


def _within_bounds(options: argparse.Namespace) -> bool:
    found = bounds.measure(bounds.AGENTS // 10 if options.quick else bounds.AGENTS, tell)
    say(f"{report.of_bounds(found)}\n")
    return all(one.is_kept for one in found)


def _shaped(loads: Sequence[Load], options: argparse.Namespace) -> list[Load]:
    """Return the loads as the options want them."""
    if options.quick:
        loads = [small(load) for load in loads]
    if options.rounds:
        loads = [replace(load, rounds=options.rounds) for load in loads]
    if options.relays:
        loads = [replace(load, relays=tuple(options.relays)) for load in loads]
    return list(loads)


def _load_names(text: str) -> list[str]:
    """Read names of loads and groups. Raises ArgumentTypeError."""
    groups = {
        **GROUPS,
        _GROWTH: [_GROWTH],
        _SIZE: [_SIZE],
        _NODES: [_NODES],
        _BACKLOG: [_BACKLOG],
        _BOUNDS: [_BOUNDS],
        _CALLS: [_CALLS],
        _GRAPH: [_GRAPH],
        "default": [_CALLS, *GROUPS["must"], _GROWTH, _SIZE, _BOUNDS],
    }
    names: list[str] = []
    for word in text.replace(",", " ").split():
        if word not in groups and word not in LOADS:
            raise argparse.ArgumentTypeError(f"there is no load {word}; there are {', '.join([*groups, *LOADS])}")
        names += groups.get(word, [word])
    return list(dict.fromkeys(names))


def _relay_names(text: str) -> list[str]:
    names = text.replace(",", " ").split()
    if strange := set(names) - set(RELAYS):
        raise argparse.ArgumentTypeError(f"there is no {min(strange)}; there are {', '.join(RELAYS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--loads",
        type=_load_names,
        default="default",
        help="names of loads, or calls, must, growth, size, bounds, backlog, nodes, graph, all; default: the first 5",
    )
    parser.add_argument("--relays", type=_relay_names, help=f"which of {', '.join(RELAYS)}; default: the load's own")
    parser.add_argument("--rounds", type=int, help="rounds of each load; default: the load's own")
    parser.add_argument("--quick", action="store_true", help="tiny loads: whether everything works, and no figures")
    parser.add_argument("--json", type=Path, help="where every single run is written")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
