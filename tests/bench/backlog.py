"""What waits while the upstream is away: how fast it leaves when that is back.

Meanwhile the relays are told of another port, at which nobody listens. So every message has failed once.
"""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.contenders import Contender, contender, directory, of_relay, postfix_to, running_relay
from tests.bench.loads import POSTFIX, QUEUED, Load, Upstream
from tests.bench.rounds import Run, check_count, run_source, wait_for_all
from tests.bench.upstreams import Certificate, running_upstream
from tests.bench.usage import PeakMemory, cpu_seconds
from tests.peers.relay import Relay
from tests.peers.system import free_port, private_folder, wait_until

# What failed at once is written down by then, and no second attempt is made yet.
_REST = 3.0
_CHANGED = b'"event": "changed"'


@dataclass(frozen=True, slots=True)
class _Led:
    """A relay, and how it is told where its upstream is; what waits goes there at once."""

    contender: Contender
    lead_to: Callable[[int], None]


def with_backlog(load: Load, certificate: Certificate, tell: Callable[[str], None]) -> list[Run]:
    """Let a whole load wait, and then go, in turn. Raises BenchError where a message is lost or doubled."""
    runs = []
    with ExitStack() as stack:
        led = [_postfix(stack, certificate), _relay(stack, certificate)]
        for one in led:
            _run_once(one, replace(load, messages=max(load.messages // 10, 1)))
        for number in range(load.rounds):
            for one in led:
                run = _run_once(one, load)
                tell(f"{load.name}, round {number + 1}, {run.relay}: {run.messages / run.seconds:,.0f} messages/s")
                runs.append(run)
    return runs


def _run_once(led: _Led, load: Load) -> Run:
    relay, upstream = led.contender, led.contender.upstream
    before = upstream.count()
    led.lead_to(free_port())
    run_source(relay, load, "waits")
    time.sleep(_REST)
    check_count(relay, before, load, 0)
    cpu, sink = cpu_seconds(relay.pid), cpu_seconds(*upstream.pids)
    with PeakMemory(relay.pid) as memory:
        start = time.time()
        led.lead_to(upstream.port)
        wait_for_all(relay, load, before)
        time.sleep(load.settle)
    check_count(relay, before, load, load.messages)
    return Run(
        load=load.name,
        relay=relay.name,
        messages=load.messages,
        seconds=upstream.last_at() - start,
        cpu=cpu_seconds(relay.pid) - cpu,
        ends=cpu_seconds(*upstream.pids) - sink,
        memory=memory.octets,
        trip=0.0,
    )


def _postfix(stack: ExitStack, certificate: Certificate) -> _Led:
    postfix = stack.enter_context(contender(POSTFIX, Upstream(), certificate))
    return _Led(postfix, lambda port: postfix_to(postfix, port))


def _relay(stack: ExitStack, certificate: Certificate) -> _Led:
    folder = stack.enter_context(private_folder("bench-backlog"))
    upstream = stack.enter_context(running_upstream(Upstream(), certificate, folder))
    relay = stack.enter_context(running_relay(directory(upstream), QUEUED))
    return _Led(of_relay(QUEUED, relay, upstream), lambda port: _lead(relay, directory(replace(upstream, port=port))))


def _lead(relay: Relay, entries: dict[str, Any]) -> None:
    before = relay.log_file.stat().st_size
    relay.write_directory(entries)
    relay.signal(signal.SIGHUP)
    wait_until(lambda: _CHANGED in _behind(relay.log_file, before), "a word on the new directory")


def _behind(file: Path, start: int) -> bytes:
    with file.open("rb") as log:
        log.seek(start)
        return log.read()
