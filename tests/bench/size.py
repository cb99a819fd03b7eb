"""What Relay is when little happens: how soon it starts, how large it is, how soon a command answers (LOADS=size)."""

import asyncio
import os
import random
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import tomli_w

from relay.app.process import new_event_loop
from relay.directory.edit import add_entry, remove_entry, set_entry
from relay.directory.kinds import AGENT
from relay.directory.reader_process import ReaderProcess
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.address import Address
from tests.bench import usage
from tests.bench.contenders import one_server
from tests.bench.letter import DOMAIN, sender
from tests.bench.loads import AUTO, MIB
from tests.bench.pace import Latencies, latencies
from tests.bench.turns import Turns, stored_turns, turns
from tests.peers.relay import RELAY, Relay, relay_process
from tests.peers.system import LOOPBACK, free_port, private_folder

AGENTS = 10_000
_NEAR = 0.002
_PATIENCE = 60.0
_QUIET = 3.0  # after so many seconds what a start sets going is done
_DISCARD = 9  # nobody listens at this port, and nothing is sent there
# Every noun with a verb that reads, and what answers by itself.
ASKING = (
    "status",
    "server list",
    "server show acmejets",
    "channel list",
    "channel show desk",
    "agent show agent7",
    "application list",
    "queue list",
    "messages list",
    "account list",
    "secrets list",
    "admin list",
    "token list",
    f"route desk@{DOMAIN}",
)
ALONE = ("--version", "--help", "agent add --help", "config show", "provider list")
CHECKING = ("check",)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was measured several times. `bound` is the most that is wanted; 0: it is only told."""

    what: str
    unit: str
    values: tuple[float, ...]
    bound: float = 0.0

    @property
    def median(self) -> float:
        """The middle of the values."""
        return median(self.values)

    @property
    def verdict(self) -> str:
        """Whether it is as wanted."""
        if not self.bound:
            return ""
        return "reached" if self.median < self.bound else "not reached"


def entries(agents: int, port: int = _DISCARD) -> dict[str, Any]:
    """Return a directory with a channel and so many agents, as a company has them."""
    people = {
        f"agent{n}": {"address": sender(n), "full_name": f"Agent Number {n}", "group": f"team{n % 40}"}
        for n in range(agents)
    }
    desk = {"address": f"desk@{DOMAIN}", "override": True}
    return {**one_server(port), "channels": {"desk": desk}, "agents": people}


@contextmanager
def made(directory: dict[str, Any], *, web: bool = True) -> Iterator[tuple[Relay, str]]:
    """A relay with its ordinary settings that is not started; and where its pages will be, "" without them."""
    address = f"{LOOPBACK}:{free_port()}" if web else ""
    url = f"http://{address}" if web else ""
    settings = {
        "delivery": {"mode": AUTO},
        "log": {"format": "json", "level": "info"},
        "web": {"address": address, "public_url": url} if web else {"address": ""},
    }
    with relay_process(directory, settings, starts=False) as relay:
        relay.starts_anew = True
        yield relay, url


def start(relay: Relay) -> tuple[float, float]:
    """Start a relay; return the seconds until it greets, and the processor time until then, its helpers' included."""
    before = os.times()
    begun = time.perf_counter()
    relay.launch(str(RELAY), *relay.serving)
    while not relay.greets():
        time.sleep(_NEAR)
    seconds = time.perf_counter() - begun
    assert relay.process is not None
    after = os.times()
    ended = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, usage.cpu_seconds(relay.process.pid) + ended


def idle(relay: Relay) -> tuple[float, float]:
    """Return the MiB that a relay holds when it has nothing to do: resident (VmRSS), and its share (PSS)."""
    assert relay.process is not None
    time.sleep(_QUIET)
    return relay.memory() / MIB, usage.memory(relay.process.pid) / MIB


def command(relay: Relay, words: str) -> tuple[float, float]:
    """Run a command; return its seconds and its processor time."""
    before, begun = os.times(), time.perf_counter()
    argv = [str(RELAY), "--config", str(relay.settings_file), *words.split()]
    subprocess.run(argv, check=False, capture_output=True, timeout=60)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, used


def edited(directory: dict[str, Any]) -> str:
    """Return the text of a directory in which one agent has another name than before."""
    directory["agents"]["agent7"]["full_name"] += "x"
    return tomli_w.dumps(directory)


def change(relay: Relay, text: str) -> float:
    """Give a relay another directory.toml, as an editor does; return the seconds until it is in effect."""
    with relay.log_file.open() as log:
        log.seek(0, os.SEEK_END)
        relay.write_directory_text(text)
        begun = time.perf_counter()
        while '"directory"' not in log.read():
            assert time.perf_counter() - begun < _PATIENCE
            time.sleep(_NEAR * 10)
    return time.perf_counter() - begun


def latencies_of_change(relay: Relay, port: int, directory: dict[str, Any]) -> Latencies:
    """Measure how long messages take while one agent of a directory changes; the server is at that port."""
    job = partial(change, relay, edited(directory))
    return asyncio.run(latencies(relay.port, port, f"desk@{DOMAIN}", job))


def turns_of_change(agents: int) -> Turns:
    """Measure how long the event loop of a relay waits for its turns while one agent of so many changes."""
    directory = entries(agents)
    texts = tomli_w.dumps(directory), edited(directory)
    with private_folder("bench-turns") as folder, asyncio.Runner(loop_factory=new_event_loop) as runner:
        folder.chmod(0o700)
        return runner.run(turns(folder, texts, ReaderProcess().read))


def turns_of_stored_changes(agents: int) -> list[tuple[Turns, Turns]]:
    """Measure the same for a directory in the database, where it is changed and where that is taken over.

    An agent is changed, one comes and one goes.
    """
    kind = AGENT
    edits = [
        partial(set_entry, kind=kind, name="agent7", values={"full_name": "x"}),
        partial(add_entry, kind=kind, name="fresh", values={"address": f"fresh@{DOMAIN}"}),
        partial(remove_entry, kind=kind, name="fresh"),
    ]
    with private_folder("bench-turns") as folder, asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(stored_turns(folder, entries(agents), edits))


def route_microseconds(agents: int) -> float:
    """Return how long the route of a sender takes to find among so many, no sender asked for twice."""
    routing = Routing(parse_directory(entries(agents)))
    addresses = [Address.parse(sender(n)) for n in random.Random(7).sample(range(agents), min(agents, 1000))]
    begun = time.process_time()
    for address in addresses:
        assert routing.route(address) is not None
    return (time.process_time() - begun) / len(addresses) * 1e6


def measure(rounds: int, agents: int, tell: Callable[[str], None]) -> list[Line]:
    """Measure everything."""
    lines: list[Line] = []
    for number in (0, agents):
        tell(f"size: starts with {number:,} agents")
        lines += _of_starts(number, rounds)
    tell("size: idle memory")
    lines += _of_memory(agents, rounds)
    tell("size: a changed directory, and messages meanwhile")
    lines += _of_change(agents, rounds)
    tell("size: routes")
    for number in (10, 1000, agents, 10 * agents):
        lines.append(Line(f"a route among {number:,} profiles", "µs", _times(rounds, route_microseconds, number), 100))
    tell("size: commands")
    lines += _of_commands(agents, rounds)
    return lines


def _of_starts(agents: int, rounds: int) -> list[Line]:
    with made(entries(agents)) as (relay, _):
        start(relay)  # makes the store
        relay.stop()
        found = []
        for _ in range(rounds):
            found.append(start(relay))
            relay.stop()
    what = f"start to the greeting, {agents:,} agents"
    return [
        Line(what, "s", tuple(one[0] for one in found), 0 if agents else 1.0),
        Line(f"{what}: processor time", "s", tuple(one[1] for one in found)),
    ]


def _of_memory(agents: int, rounds: int) -> list[Line]:
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(min(rounds, 3)):
        for number, web in ((0, True), (agents, False), (agents, True)):
            with made(entries(number), web=web) as (relay, url):
                relay.start()
                name = f"{number:,} agents, pages {'on' if web else 'off'}"
                found.setdefault(name, []).append(idle(relay))
                if number and web:
                    urllib.request.urlopen(url, timeout=60).close()
                    found.setdefault(f"{name}, after the first page", []).append(idle(relay))
    lines = []
    for name, values in found.items():
        bound = 80.0 if name.endswith("pages on") else 0
        lines.append(Line(f"idle, {name}: resident", "MiB", tuple(one[0] for one in values), bound))
        lines.append(Line(f"idle, {name}: PSS", "MiB", tuple(one[1] for one in values)))
    return lines


def _of_change(agents: int, rounds: int) -> list[Line]:
    port = free_port()
    directory = entries(agents, port)
    with made(directory) as (relay, _):
        relay.start()
        found = [latencies_of_change(relay, port, directory) for _ in range(rounds)]
    held = [turns_of_change(agents) for _ in range(rounds)]
    stored = turns_of_stored_changes(10 * agents)
    ms = 1000.0
    what = f"of {10 * agents:,} agents in the database one is another"
    return [
        Line("the loop waits for its turn meanwhile, 99 %", "ms CPU", tuple(one.most(0.99) * ms for one in held)),
        Line("the loop waits for its turn meanwhile, longest", "ms CPU", tuple(one.most() * ms for one in held), 20),
        Line(f"{agents:,} profiles in effect after a change", "s", tuple(one.seconds for one in found), 2.0),
        Line("a message every 5 ms meanwhile, median", "ms", tuple(median(one.within) * ms for one in found)),
        Line("a message every 5 ms meanwhile, longest", "ms", tuple(max(one.within) * ms for one in found)),
        Line("a message every 5 ms before, median", "ms", tuple(median(one.before) * ms for one in found)),
        Line("a message every 5 ms before, longest", "ms", tuple(max(one.before) * ms for one in found)),
        Line(f"{what}: where it is changed", "ms CPU", tuple(one.used * ms for one, _ in stored)),
        Line(f"{what}: where it is taken over", "ms CPU", tuple(one.used * ms for _, one in stored)),
        Line(
            f"{what}: the loop waits, longest", "ms CPU", tuple(one.most() * ms for both in stored for one in both), 20
        ),
    ]


def _of_commands(agents: int, rounds: int) -> list[Line]:
    with made(entries(agents)) as (relay, _):
        relay.start()
        time.sleep(_QUIET)
        lines = _commands(relay, ASKING, rounds, "over control.sock", 0.4)
        relay.stop()
        lines += _commands(relay, ALONE, rounds, "by itself", 0.4)
        lines += _commands(relay, (*ASKING[1:], *CHECKING), rounds, "without a relay", 1.0)
    return lines


def _commands(relay: Relay, commands: Sequence[str], rounds: int, how: str, bound: float) -> list[Line]:
    return [Line(f"relay {words}, {how}", "s CPU", _times(rounds, _cost, relay, words), bound) for words in commands]


def _cost(relay: Relay, words: str) -> float:
    return command(relay, words)[1]


def _times(rounds: int, job: Callable[..., float], *arguments: Any) -> tuple[float, ...]:
    return tuple(job(*arguments) for _ in range(rounds))
