"""`make profile`: where a relay under load spends its processor time, by function and by folder.

py-spy looks at the running service from outside, some hundred times a second, and sees which Python function holds the
interpreter; the service does not know. What the event loop does in C, system calls included, counts for the function
that called it, and for asyncio's Runner where nobody did.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from tests.bench.contenders import Contender, contender
from tests.bench.loads import AUTO, LOADS, QUEUED, Load
from tests.bench.report import table
from tests.bench.rounds import BenchError, send_all
from tests.bench.upstreams import Certificate
from tests.bench.usage import thread_seconds
from tests.peers.system import private_folder, running

_RATE = 200  # looks a second
_NOBODY = "the loop, and threads"
_OUTSIDE = "(outside Python)"


@dataclass(frozen=True, slots=True)
class Frame:
    """A function in a stack, and its file, such as relay/mail/header.py."""

    function: str
    file: str

    @classmethod
    def parse(cls, text: str) -> "Frame":
        """Read "FUNCTION (FILE:LINE)", as py-spy writes it; nothing for a thread that runs no Python at the moment."""
        if not text:
            return cls(_OUTSIDE, _OUTSIDE)
        function, _, place = text.rpartition(" (")
        return cls(function, place.rstrip(")").rpartition(":")[0])

    @property
    def is_ours(self) -> bool:
        """Whether it is a function of Relay."""
        return self.file.startswith("relay/")

    @property
    def folder(self) -> str:
        """relay/mail for one of ours, asyncio or json for a library."""
        parts = self.file.split("/")
        return "/".join(parts[:2]) if self.is_ours and len(parts) > 2 else parts[0]


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """How often each function and folder was seen: working itself (`own`), or with all that it called (`whole`).

    `caused`: by folder of ours, where a library works for the function of ours that called it.
    """

    seen: int
    own: Counter[Frame]
    whole: Counter[Frame]
    own_folder: Counter[str]
    caused: Counter[str]


def read(text: str) -> SampleCounts:
    """Read py-spy's raw format: a line for each stack, its frames from the outermost in, and how often it was seen."""
    own, whole = Counter[Frame](), Counter[Frame]()
    own_folder, caused = Counter[str](), Counter[str]()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        times = int(count)
        frames = [Frame.parse(part) for part in stack.split(";")]
        own[frames[-1]] += times
        own_folder[frames[-1].folder] += times
        for frame in set(frames):
            whole[frame] += times
        caused[_cause(frames)] += times
    return SampleCounts(own.total(), own, whole, own_folder, caused)


def _cause(frames: Sequence[Frame]) -> str:
    """Return the folder of the innermost function of ours, but for what only starts the loop."""
    ours = [frame.folder for frame in frames if frame.is_ours and frame.file != "relay/app/process.py"]
    return next((folder for folder in reversed(ours) if folder != "relay/cli"), _NOBODY)


def tables(shares: SampleCounts, most: int) -> str:
    """Return both tables, `most` functions in the first."""

    def share(count: int) -> str:
        return f"{count / shares.seen:.1%}"

    functions = [
        [f"{frame.function} ({frame.file})", share(own), share(shares.whole[frame])]
        for frame, own in shares.own.most_common(most)
    ]
    folders = sorted(shares.own_folder | shares.caused, key=lambda name: -shares.own_folder[name])
    by_folder = [
        [name, share(shares.own_folder[name]), share(shares.caused[name])]
        for name in folders
        if max(shares.own_folder[name], shares.caused[name]) >= shares.seen / 200
    ]
    return "\n\n".join(
        (
            table(["function", "own", "with what it calls"], functions),
            table(["folder", "own", "caused by it"], by_folder),
        )
    )


def _record(load: Load, target: Contender, seconds: float, folder: Path) -> tuple[str, int]:
    """Send the load again and again while py-spy looks. Return what it saw, and how many messages went through."""
    raw = folder / "stacks"
    argv = [str(Path(sys.executable).parent / "py-spy"), "record", "--gil", "--function", "--format", "raw"]
    argv += ["--rate", str(_RATE), "--duration", f"{seconds:.0f}", "--pid", str(target.pid), "--output", str(raw)]
    messages = 0
    log = folder / "py-spy"
    end = time.monotonic() + seconds
    with running(argv, log) as spy:
        while time.monotonic() < end:
            send_all(target, load)
            messages += load.messages
        _wait(spy, log)
    return raw.read_text(), messages


def _wait(spy: Popen[bytes], log: Path) -> None:
    if spy.wait(60):
        raise BenchError(f"py-spy ended with {spy.returncode}:\n{log.read_text(errors='replace')}")


def main(arguments: Sequence[str]) -> int:
    """Print where the time goes."""
    parser = argparse.ArgumentParser(prog="make profile", description=__doc__)
    parser.add_argument("--load", choices=LOADS, default="2k-kept", help="what is sent; default: 2k-kept")
    parser.add_argument("--mode", choices=(AUTO, QUEUED), default=AUTO, help="the relay's mode; default: auto")
    parser.add_argument("--seconds", type=int, default=15, help="for how long; default: 15")
    parser.add_argument("--top", type=int, default=30, help="how many functions are shown; default: 30")
    options = parser.parse_args(arguments)
    load = LOADS[options.load]
    try:
        with (
            private_folder("bench") as folder,
            contender(options.mode, load.upstream, Certificate.make(folder)) as target,
        ):
            send_all(target, load)
            before = thread_seconds(target.pid)
            raw, messages = _record(load, target, options.seconds, folder)
            main_thread, others = (now - then for now, then in zip(thread_seconds(target.pid), before, strict=True))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    shares = read(raw)
    costs = (1000 * seconds / messages for seconds in (main_thread, others))
    cost = "CPU ms/message: {:.2f} in the main thread, {:.2f} in others".format(*costs)
    print(f"# {load.text}, mode {options.mode}\n\n{messages:,} messages, {shares.seen:,} looks; {cost}\n")
    print(tables(shares, options.top))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
