"""`make bench`: the same loads through Postfix, the bare libraries and Relay, side by side, as tables."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from tests.bench import figures, growth, machine, report
from tests.bench.contenders import contender
from tests.bench.loads import (
    AUTO,
    GOALS,
    GROUPS,
    GROWTH,
    LOADS,
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


def main(arguments: Sequence[str]) -> int:
    """Run the bench. Returns 0 where every message came through, reached or not, else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if POSTFIX in options.relays and os.geteuid():
        parser.error("Postfix starts only as root; leave it out by --relays none,floor,auto,queued")
    loads = _shaped([LOADS[name] for name in options.loads if name != _GROWTH], options)
    grows = _GROWTH in options.loads
    here = machine.look()
    say(f"# Bench\n\n{here.text()}\n")
    if options.quick:
        say("Tiny loads, to see that everything works: the figures say nothing.\n")
    if here.is_busy:
        say("This machine is busy with something else: the figures are rough.\n")
    runs: list[Run] = []
    try:
        with private_folder("bench") as folder:
            certificate = Certificate.make(folder)
            for kind in dict.fromkeys(load.upstream for load in loads):
                together = [load for load in loads if load.upstream == kind]
                runs += _run_together(kind, together, certificate)
                for load in together:
                    say(f"{report.of_load(load, runs)}\n")
            if grows:
                runs += _grow(options, certificate)
    except (BenchError, FileNotFoundError) as error:
        tell(str(error))
        return 1
    wanted = {load.name for load in loads}
    if judgements := [figures.judge(goal, runs) for goal in GOALS if goal.load in wanted]:
        say(f"{report.of_goals(judgements)}\n")
    say("The upstream got every message once.")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": asdict(here), "runs": [asdict(run) for run in runs]}, indent=1))
    return 0


def say(text: str) -> None:
    """Print a part of the result."""
    print(text, flush=True)


def tell(text: str) -> None:
    """Say on standard error how far it is, or what is wrong."""
    print(text, file=sys.stderr, flush=True)


def _run_together(kind: Upstream, loads: Sequence[Load], certificate: Certificate) -> list[Run]:
    """Run the loads that share their relays."""
    with ExitStack() as stack:
        names = [name for name in RELAYS if any(name in load.relays for load in loads)]
        running = {name: stack.enter_context(contender(name, kind, certificate)) for name in names}
        return measure([(load, running[name]) for load in loads for name in RELAYS if name in load.relays], tell)


def _grow(options: argparse.Namespace, certificate: Certificate) -> list[Run]:
    """Run the growth tables and print them."""
    load = _shaped([GROWTH], options)[0]
    waiting, profiles = (WAITING[:2], PROFILES[:2]) if options.quick else (WAITING, PROFILES)
    by_waiting = growth.with_waiting(waiting, load, certificate, tell)
    say(f"{report.of_growth('messages that wait', waiting, by_waiting, growth.MODES)}\n")
    by_profiles = growth.with_profiles(profiles, load, certificate, tell)
    say(f"{report.of_growth('profiles', profiles, by_profiles, [AUTO])}\n")
    return by_waiting + by_profiles


def _shaped(loads: Sequence[Load], options: argparse.Namespace) -> list[Load]:
    """Return the loads as the options want them."""
    if options.quick:
        loads = [small(load) for load in loads]
    if options.rounds:
        loads = [replace(load, rounds=options.rounds) for load in loads]
    return [replace(load, relays=tuple(name for name in load.relays if name in options.relays)) for load in loads]


def _load_names(text: str) -> list[str]:
    """Read names of loads and groups. Raises ArgumentTypeError."""
    groups = {**GROUPS, _GROWTH: [_GROWTH], "default": [*GROUPS["must"], _GROWTH]}
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
        help="names of loads, or must, growth, all; default: must and growth",
    )
    parser.add_argument("--relays", type=_relay_names, default=" ".join(RELAYS), help=f"some of {', '.join(RELAYS)}")
    parser.add_argument("--rounds", type=int, help="rounds of each load; default: the load's own")
    parser.add_argument("--quick", action="store_true", help="tiny loads: whether everything works, and no figures")
    parser.add_argument("--json", type=Path, help="where every single run is written")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
