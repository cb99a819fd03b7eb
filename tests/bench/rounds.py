"""One run: a load through a relay, its time, processor and memory, and whether the upstream got every message once."""

import itertools
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.bench.contenders import Contender
from tests.bench.generator import Order, Report
from tests.bench.letter import body, faults
from tests.bench.loads import NONE, Load
from tests.bench.upstreams import ENVIRONMENT, ours
from tests.bench.usage import PeakMemory, cpu_seconds
from tests.peers.packages import program
from tests.peers.system import LOOPBACK, wait_until

# A run that takes longer has failed.
_LIMIT = 180.0
_WARM_UP = 10  # a tenth of the messages goes through before anything is measured

_tags = itertools.count(1)


class BenchError(Exception):
    """A load did not get through as it should. Its text says which, where and why."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took. `cpu`: seconds of the relay's processes, `ends`: of the source's and the upstream's.

    `memory`: octets (PSS) of the relay's processes at their most; `trip`: seconds of a round trip to the upstream.
    """

    load: str
    relay: str
    messages: int
    seconds: float
    cpu: float
    ends: float
    memory: int
    trip: float


def measure(pairs: Sequence[tuple[Load, Contender]], tell: Callable[[str], None]) -> list[Run]:
    """Run each pair in turn, round after round, A B A B; each goes once before, which does not count.

    Raises BenchError where a message is lost, doubled or changed, or a run does not end.
    """
    for load, contender in pairs:
        send_all(contender, replace(load, messages=max(load.messages // _WARM_UP, 1)))
    runs = []
    for number in range(max(load.rounds for load, _ in pairs)):
        for load, contender in pairs:
            if number < load.rounds:
                run = run_once(load, contender)
                tell(f"{load.name}, round {number + 1}, {contender.name}: {run.messages / run.seconds:,.0f} messages/s")
                runs.append(run)
    return runs


def run_once(load: Load, contender: Contender) -> Run:
    """Send the load once. Raises BenchError."""
    upstream = contender.upstream
    if upstream.kind.accounts and load.senders > 1:
        # Every account has its connection open, as in a busy hour.
        send_all(contender, replace(load, messages=load.senders))
    trip = upstream.round_trip()
    cpu, sink = cpu_seconds(contender.pid), cpu_seconds(*upstream.pids)
    with PeakMemory(contender.pid) as memory:
        sent = send_all(contender, load)
    return Run(
        load=load.name,
        relay=contender.name,
        messages=load.messages,
        seconds=sent.seconds,
        cpu=cpu_seconds(contender.pid) - cpu,
        ends=cpu_seconds(*upstream.pids) - sink + sent.cpu,
        memory=memory.octets,
        trip=trip,
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """How many seconds a load took up to its last message at the upstream, and the source of the processor's."""

    seconds: float
    cpu: float


def send_all(contender: Contender, load: Load) -> Sent:
    """Send the load and wait until it is at the upstream. Raises BenchError."""
    upstream = contender.upstream
    tag = f"r{next(_tags)}"
    before = upstream.count()
    start, cpu = time.time(), _sources_cpu()
    output = run_source(contender, load, tag)
    end = time.time()
    wait_for_all(contender, load, before)
    cpu = _sources_cpu() - cpu
    if load.senders:
        report = Report.parse(output)
        start, cpu = report.start, report.cpu
    seconds = max(end, upstream.last_at()) - start
    time.sleep(load.settle)
    _check(contender, load, tag, before)
    return Sent(seconds, cpu)


def wait_for_all(contender: Contender, load: Load, before: int) -> None:
    """Wait until the load is at the upstream, which had `before` messages. Raises BenchError."""
    try:
        wait_until(lambda: contender.upstream.count() >= before + load.messages, "the messages", _LIMIT)
    except TimeoutError:
        count = contender.upstream.count() - before
        raise _error(contender, load, f"{count} of {load.messages} messages came within {_LIMIT:g} s") from None


def check_count(contender: Contender, before: int, load: Load, wanted: int) -> None:
    """Raise BenchError where the upstream, which had `before` messages, has not got so many more."""
    came = contender.upstream.count() - before
    if came != wanted:
        raise _error(contender, load, f"{wanted} messages were due at the upstream, and {came} came")


def run_source(contender: Contender, load: Load, tag: str) -> bytes:
    """Send the load to a relay, and return what the source printed. Raises BenchError where it fails."""
    argv = _source(load, contender, tag)
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_LIMIT, check=False, env=ENVIRONMENT)
    except subprocess.TimeoutExpired:
        raise _error(contender, load, f"the source was not at its end within {_LIMIT:g} s") from None
    if done.returncode:
        raise _error(contender, load, f"the source ended: {done.stderr.decode(errors='replace')}")
    return done.stdout


def _sources_cpu() -> float:
    """Return the processor seconds of all sources that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _check(contender: Contender, load: Load, tag: str, before: int) -> None:
    """Raise BenchError where the upstream has not got every message once, and as it should be, if it tells."""
    upstream = contender.upstream
    check_count(contender, before, load, load.messages)
    if upstream.notes and load.senders:
        has_logins = contender.name != NONE
        wire_body = body(load.size)
        if found := faults(upstream.arrived(before), tag, load.messages, wire_body, has_logins=has_logins):
            raise _error(contender, load, "; ".join(found))


def _source(load: Load, contender: Contender, tag: str) -> list[str]:
    """Return the command line that sends the load."""
    if load.senders:
        order = Order(
            port=contender.port,
            tag=tag,
            messages=load.messages,
            sessions=load.sessions,
            senders=load.senders,
            size=load.size,
            kept=load.kept,
        )
        return ours("generator", order.text())
    kept = ["-d"] if load.kept else []
    many = ["-s", str(min(load.sessions, load.messages)), "-m", str(load.messages), "-l", str(load.size)]
    # -N numbers the recipients; -M spares it a look-up of this machine's name.
    who = ["-N", "-M", "bench.test", "-f", contender.sender, "-t", f"{tag}@customer.example"]
    return [program("smtp-source"), *kept, *many, *who, f"{LOOPBACK}:{contender.port}"]


def _error(contender: Contender, load: Load, what: str) -> BenchError:
    log = contender.log.read_text(errors="replace").splitlines()[-5:] if contender.log.exists() else []
    return BenchError("\n".join((f"{load.name} through {contender.name}: {what.strip()}", *log)))
