"""What the kernel saw of a process: every write with its bytes, every sync that succeeded, every connection."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.peers.system import wait_until

_TRACED = "connect,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync"
# A page of the database, which is the longest that is looked into.
_LONGEST = 4200
_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\(\d+<(?P<file>.*?)>(?=[,) ])(?P<rest>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
_PORT = re.compile(r"htons\((\d+)\)")
_SYNCS = ("fsync", "fdatasync")
_FRAME_HEADER = 24


@dataclass(frozen=True, slots=True)
class Call:
    """One system call. `file` is the path or the socket behind its descriptor, `port` where a connect goes to."""

    name: str
    file: str
    data: bytes = b""
    port: int = 0

    @property
    def is_sync(self) -> bool:
        """Whether it made a file safe."""
        return self.name in _SYNCS

    @property
    def is_wal(self) -> bool:
        """Whether it is about the store's write-ahead log."""
        return self.file.endswith("-wal")

    @property
    def is_sent(self) -> bool:
        """Whether it gave bytes to a connection."""
        return self.file.startswith("TCP:") and bool(self.data)

    @property
    def is_commit(self) -> bool:
        """Whether it heads the last frame of a transaction (https://www.sqlite.org/fileformat2.html#walformat)."""
        return self.is_wal and len(self.data) == _FRAME_HEADER and any(self.data[4:8])


def strace(log: Path) -> tuple[str, ...]:
    """Return the command line that traces the program behind it, which keeps the process id that strace was given."""
    options = ("-D", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", str(_LONGEST), "-e", f"trace={_TRACED}")
    return ("strace", *options, "-o", str(log))


def read_calls(log: Path, pid: int) -> list[Call]:
    """Return the calls of a process that has ended, in their order: a sync at its end, all else at its beginning."""
    wait_until(lambda: _has_ended(log, pid), "the end of the trace")
    return calls_of(log.read_text().splitlines())


def calls_of(lines: Sequence[str]) -> list[Call]:
    """Return the calls in lines of strace."""
    calls = []
    begun: dict[str, Call] = {}
    for line in lines:
        if match := _CALL.match(line):
            call = _call(match)
            if "<unfinished" in match["rest"]:
                begun[match["pid"]] = call
            if not call.is_sync or match["rest"].endswith("= 0"):
                calls.append(call)
        elif (match := _RESUMED.match(line)) and match["name"] in _SYNCS and match["rest"].endswith("= 0"):
            calls.append(begun.pop(match["pid"]))
    return calls


def _call(match: re.Match[str]) -> Call:
    data = b"".join(bytes.fromhex(part.replace("\\x", "")) for part in _STRING.findall(match["rest"]))
    port = _PORT.search(match["rest"])
    return Call(match["name"], _text(match["file"]), data, int(port[1]) if port else 0)


def _text(file: str) -> str:
    """Return what stands behind a descriptor: paths are told like all strings, in hex, and sockets in clear."""
    return _HEX.sub(lambda match: bytes.fromhex(match[0].replace("\\x", "")).decode(), file)


def _has_ended(log: Path, pid: int) -> bool:
    return re.search(rf"^{pid} +\+\+\+ (exited|killed)", log.read_text(), re.MULTILINE) is not None
