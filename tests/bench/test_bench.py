"""The bench (docs/performance.md) works from end to end, finds a message that is lost or changed, and reckons right."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench import figures, hotspots, report, usage
from tests.bench.contenders import contender
from tests.bench.figures import Spread
from tests.bench.letter import Arrived, body, digest, faults, recipient, sender
from tests.bench.loads import (
    AUTO,
    BACKLOG,
    FLOOR,
    GOALS,
    GROUPS,
    LOADS,
    NONE,
    POSTFIX,
    QUEUED,
    RELAYS,
    Goal,
    Measure,
    Upstream,
    small,
)
from tests.bench.nodes import Share
from tests.bench.rounds import Run, run_once
from tests.bench.upstreams import Certificate
from tests.peers.cluster import NEEDS
from tests.peers.system import Finished, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BODY = body(500)
RUN = Run(load="2k-kept", relay=AUTO, messages=100, seconds=1, cpu=0.1, ends=0.02, memory=50 * 1024**2, trip=0.01)
needs_all = pytest.mark.needs("postfix", "smtp-sink", "smtp-source", "libplain.so", "root")


def bench(folder: Path, *arguments: str, seconds: float) -> tuple[Finished, list[Run]]:
    """Run it with tiny loads; return also every run that it wrote down."""
    file = folder / "bench.json"
    argv = [sys.executable, "-m", "tests.bench", "--quick", "--json", str(file), *arguments]
    done = run(argv, seconds=seconds, cwd=ROOT)
    assert done.status == 0, done.text
    return done, [Run(**one) for one in json.loads(file.read_text())["runs"]]


@needs_all
def test_the_bench_runs_from_end_to_end(tmp_path: Path) -> None:
    done, runs = bench(tmp_path, "--loads", "2k-kept", "--relays", "none,postfix,auto", seconds=100)
    assert [(one.load, one.relay) for one in runs] == [("2k-kept", relay) for relay in (NONE, POSTFIX, AUTO)]
    assert all(one.memory > 0 for one in runs if one.relay != NONE)
    assert "2 KB, kept, 20 sessions, auto: throughput" in done.out
    assert "The upstreams got every message once." in done.out


@needs_all
@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_load_and_growth_table_works(tmp_path: Path) -> None:
    done, runs = bench(tmp_path, "--loads", "all growth backlog", seconds=500)
    assert {(one.load, one.relay) for one in runs} >= {
        (load.name, relay) for load in (*LOADS.values(), BACKLOG) for relay in load.relays
    }
    assert done.out.count("## Growth") == 2
    assert done.out.count("reached |") + done.out.count("not measured |") == len(GOALS)


@pytest.mark.needs("postfix", "smtp-sink", "smtp-source", *NEEDS)
def test_a_cluster_is_measured(tmp_path: Path) -> None:
    done, _ = bench(tmp_path, "--loads", "nodes", seconds=100)
    rows = [line.split("|")[1:6] for line in done.out.splitlines() if line.startswith(("| auto,", "| queued,"))]
    assert [row[0].strip() for row in rows] == ["auto, 1", "queued, 1"]
    assert all(float(cost) > 0 for cost in (*rows[1][2:], rows[0][2])), "each of them has its part"


@pytest.mark.needs("smtp-sink", "smtp-source")
def test_the_way_by_graph_is_measured_beside_smtp(tmp_path: Path) -> None:
    done, _ = bench(tmp_path, "--loads", "graph", seconds=100)
    rows = [line.split("|")[1:4] for line in done.out.splitlines() if line.startswith(("| smtp ", "| graph "))]
    assert [row[0].strip() for row in rows] == ["smtp", "graph"]
    assert all(float(row[2]) > 0 for row in rows)


def test_a_table_of_nodes_has_each_number_of_them_in_each_mode() -> None:
    shares = [Share(mode, count, 100, 2 / count, 0.5, 0.25) for mode in (AUTO, QUEUED) for count in (1, 2)]
    text = report.of_nodes(shares)
    assert [line.split("|")[1].strip() for line in text.splitlines()[4:]] == [
        "auto, 1",
        "auto, 2",
        "queued, 1",
        "queued, 2",
    ]
    assert "1.00" in text


def test_our_own_ends_work_with_logins_tls_and_latency(tmp_path: Path) -> None:
    kind = Upstream(accounts=3, is_tls=True, latency=0.03)
    load = replace(small(LOADS["check"]), senders=3, upstream=kind)
    with contender(FLOOR, kind, Certificate.make(tmp_path)) as floor:
        one = run_once(load, floor)
        assert floor.upstream.count() == load.messages + load.senders  # a first one from each
        assert {mail.login for mail in floor.upstream.arrived(0)} == {sender(number) for number in range(3)}
    assert (one.load, one.relay, one.messages) == ("check", FLOOR, load.messages)
    assert 0.03 <= one.trip < 0.3


def arrived(number: int, **changes: Any) -> Arrived:
    one = Arrived(sender(1), sender(1), recipient(number, "r1"), sender(1), digest(b"\r\n" + BODY))
    return replace(one, **changes)


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([arrived(0), arrived(1)], ""),
        ([arrived(1)], "1 messages are missing, such as 0.r1@"),
        ([arrived(0), arrived(1), arrived(1)], "1 messages arrived more than once, such as 1.r1@"),
        ([arrived(0), arrived(1), arrived(2)], "1 messages are for somebody else, such as 2.r1@"),
        ([arrived(0), arrived(1, digest=5)], "1 bodies are changed, such as that of 1.r1@"),
        ([arrived(0), arrived(1, login=sender(2))], "1 messages are not of one identity: agent2@"),
        ([arrived(0), arrived(1, from_=sender(2))], "1 messages are not of one identity: agent1@"),
    ],
)
def test_what_arrived_is_looked_at(messages: list[Arrived], fault: str) -> None:
    found = "; ".join(faults(messages, "r1", 2, BODY, has_logins=True))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)
    assert [Arrived.parse(one.line()) for one in messages] == messages


def test_a_goal_is_judged_by_the_ratio_of_medians() -> None:
    ours = [replace(RUN, seconds=seconds) for seconds in (0.1, 0.125, 0.2)]
    theirs = [replace(RUN, relay=POSTFIX, seconds=seconds) for seconds in (1, 1, 2)]
    goal = Goal(load="2k-kept", relay=AUTO, measure=Measure.RATE, bound=8)
    judged = figures.judge(goal, ours + theirs)
    assert judged.value == Spread(8, 8, 10)
    assert judged.verdict == "reached"
    assert figures.judge(replace(goal, bound=8.1), ours + theirs).verdict == "not reached"
    assert figures.judge(replace(goal, load="2k-each"), ours + theirs).verdict == "not measured"
    cpu = replace(goal, measure=Measure.CPU, bound=1)
    assert figures.judge(cpu, ours + theirs).verdict == "reached"
    assert figures.judge(replace(cpu, bound=0.9), ours + theirs).verdict == "not reached"
    trips = replace(goal, measure=Measure.TRIPS, bound=1.25, against="")
    assert figures.judge(trips, ours).value == Spread(0.125, 0.1, 0.2)


def test_growth_is_flat_within_a_fifth() -> None:
    runs = [replace(RUN, relay="10 auto"), replace(RUN, relay="1000 auto", seconds=1.2, cpu=0.119)]
    text = report.of_growth("profiles", (10, 1000), runs, [AUTO])
    assert "not flat" not in text
    slow = [runs[0], replace(runs[1], seconds=1.3)]
    assert "not flat" in report.of_growth("profiles", (10, 1000), slow, [AUTO])
    costly = [runs[0], replace(runs[1], cpu=0.13)]
    assert "not flat" in report.of_growth("profiles", (10, 1000), costly, [AUTO])


def test_every_goal_is_measured_by_default() -> None:
    for goal in GOALS:
        assert {goal.load, goal.other_load} <= set(GROUPS["must"])
        assert goal.relay in LOADS[goal.load].relays
        assert goal.against in ("", *LOADS[goal.other_load].relays)
    assert all(set(load.relays) <= set(RELAYS) for load in LOADS.values())


def test_the_processor_time_of_children_that_have_ended_counts() -> None:
    before = usage.cpu_seconds(os.getpid())
    burns = "import time\nwhile time.process_time() < 0.3: pass"
    assert run([sys.executable, "-c", burns]).status == 0
    assert usage.cpu_seconds(os.getpid()) - before >= 0.28


def test_stacks_are_counted_by_function_and_by_folder() -> None:
    start = "main (relay/cli/__init__.py:6);run (relay/app/process.py:15);Runner.run (asyncio/runners.py:86)"
    shares = hotspots.read(
        f"{start} 10\n"
        f"{start};parse (relay/mail/header.py:60);split (re/__init__.py:198) 20\n"
        f"{start};parse (relay/mail/header.py:60) 70\n"
    )
    parse = hotspots.Frame("parse", "relay/mail/header.py")
    assert (shares.seen, shares.own[parse], shares.whole[parse]) == (100, 70, 90)
    assert shares.caused == {"relay/mail": 90, "the loop, and threads": 10}
    assert shares.own_folder == {"relay/mail": 70, "re": 20, "asyncio": 10}
    assert "| parse (relay/mail/header.py)    | 70.0% |              90.0% |" in hotspots.tables(shares, 5)
