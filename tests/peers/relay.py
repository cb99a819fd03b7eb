"""The relay under test: the installed program in a private folder, talked to as people and mail clients do."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from prometheus_client.parser import text_string_to_metric_families

from tests.peers.canaries import leaking_files, leaks_in, leaks_of_process
from tests.peers.clients import Endpoint
from tests.peers.preloaded import ForkedProcess, Preloaded, preloaded
from tests.peers.raw import RawClient
from tests.peers.short_windows import Windows
from tests.peers.system import LOOPBACK, Finished, free_port, private_folder, stop, wait_until

RELAY = Path(sys.executable).parent / "relay"
Table = dict[str, Any]
_START = 20.0


class Relay:
    """One relay: its files, its process and its commands. It is not running until `start`."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], directory: Mapping[str, Any]) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.state_dir.mkdir(mode=0o700)
        self.port = free_port()
        self.settings_file = folder / "relay.toml"
        self.directory_file = self.state_dir / "directory.toml"
        self.log_file = folder / "log"
        self.control_socket = self.state_dir / "control.sock"
        self.process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self.pass_fds: tuple[int, ...] = ()  # descriptors that the service inherits
        self.windows = Windows({})  # of time, where a test needs short ones
        self.starts_anew = False  # by the program itself, with its imports: where memory or the start is looked at
        self._leaks: list[str] = []
        self.write_settings(settings)
        self.write_directory(directory)

    @property
    def endpoint(self) -> Endpoint:
        """Where clients connect to."""
        return Endpoint(port=self.port)

    @property
    def log(self) -> str:
        """Everything that the service said up to now. Its lines are written behind, within 100 ms."""
        if self.process is not None and self.process.poll() is None:
            time.sleep(0.1)  # its lines are written behind
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def last_words(self) -> str:
        """The end of its log, for the message of a test that fails."""
        return "\n" + "\n".join(self.log.splitlines()[-3:])

    def write_directory(self, directory: Mapping[str, Any]) -> None:
        """Write directory.toml as an editor does that saves by renaming."""
        self.write_directory_text(tomli_w.dumps(directory))

    def write_directory_text(self, text: str) -> None:
        """Write any text as directory.toml."""
        fresh = self.directory_file.with_suffix(".editor")
        fresh.write_text(text)
        fresh.replace(self.directory_file)

    def command(self, *arguments: str, data: str = "", seconds: float = 30) -> Finished:
        """Run a `relay` command against this relay's files. Raises TimeoutExpired after `seconds`."""
        config = ("--config", str(self.settings_file))
        done = _preloaded().run(*config, *arguments, data=data.encode(), seconds=seconds)
        _check_told(done, arguments)
        return done

    def ask(self, *arguments: str) -> Any:
        """Run a command with --json and return what it said. AssertionError where it failed."""
        done = self.command(*arguments, "--json")
        assert done.status == 0, f"relay {' '.join(arguments)}: {done.text}"
        return json.loads(done.out)

    def set_password(self, noun: str, name: str, password: str) -> None:
        """Give an entry its password, right or wrong, as a script does; that of mail without a try.

        Only a canary can be looked for.
        """
        assert leaks_in(password.encode()), "take a password from tests.peers.canaries"
        untried = () if noun == "application" else ("--unchecked",)
        done = self.command(noun, "password", name, "--password-stdin", *untried, data=password + "\n")
        assert done.status == 0, done.text

    def start(self, *before: str) -> None:
        """Start the service and wait until it greets. RuntimeError with its log where it does not.

        `before`: the command line of a program that runs it, and becomes it. Without one it is forked from a process
        that has loaded it, unless `starts_anew`.
        """
        if before or self.starts_anew:
            self.launch(*before, *self.windows.argv, str(RELAY), *self.serving)
        else:
            self.fork()
        wait_until(self.greets, "the relay's greeting", _START)

    def fork(self, *before: str) -> None:
        """Fork the service from a process that has loaded it, and wait for nothing.

        `before`: "module:function" and what it is called with, before the service begins; else it sets its `windows`.
        """
        before = before or self.windows.before
        with self.log_file.open("ab") as log:
            self.process = _preloaded().start(self.serving, log, log, pass_fds=self.pass_fds, before=before)

    @property
    def serving(self) -> tuple[str, ...]:
        """The arguments by which `relay` serves with these files."""
        return ("serve", "--config", str(self.settings_file))

    def launch(self, *argv: str) -> None:
        """Start a program as the service, and wait for nothing."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_environment(),
                pass_fds=self.pass_fds,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send the service a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """End the service in order; return its exit status."""
        assert self.process is not None
        self._leaks += leaks_of_process(self.process.pid)
        return stop(self.process, 90)  # as TimeoutStopSec= of the unit: sessions and deliveries have 30 s each

    @property
    def cpu_seconds(self) -> float:
        """The processor time that the service has used up to now."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        # proc(5): utime and stime are fields 14 and 15, and "state", the first behind the name, is field 3.
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """The memory that the service holds now, in octets; `peak_memory` counts from here."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        """The most memory that it held since `memory`, in octets."""
        return self._status("VmHWM")

    def counters(self) -> dict[str, float]:
        """What it counts, by names such as "relay_attempts_total accepted": GET /metrics on its control socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.control_socket))
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
            answer = connection.makefile("rb").read().decode()
        head, _, text = answer.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 ")
        assert "content-type: text/plain; version=0.0.4; charset=utf-8" in head.lower()
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("relay_")
        }

    def check_leaks(self) -> None:
        """Raise AssertionError where a password (`tests.peers.canaries`) is in the log, in a file or in the process.

        directory.toml is left out: a test may write one there by hand.
        """
        if self.process is not None and self.process.poll() is None:
            self._leaks += leaks_of_process(self.process.pid)
        leaks = self._leaks + leaking_files(self.folder, but=[self.directory_file.name])
        assert not leaks, f"passwords were told: {'; '.join(leaks)}"

    def connect(self) -> RawClient:
        """A client that says what a test tells it to."""
        return RawClient(self.endpoint)

    def _status(self, key: str) -> int:
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))

    def greets(self) -> bool:
        """Whether it greets clients. RuntimeError with its log where it has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"relay serve ended with {self.process.returncode}:\n{self.log}")
        try:
            with self.connect() as client:
                return client.greeting.startswith("220")
        except OSError:
            return False

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write relay.toml: what tests need, and `settings` in the place of whole top-level keys."""
        own: Table = {
            "hostname": "relay.test",
            "state_dir": str(self.state_dir),
            "runtime_dir": str(self.state_dir),
            "listener": [{"address": f"{LOOPBACK}:{self.port}"}],
            "log": {"format": "json", "level": "debug"},
            "web": {"address": ""},  # several relays run at once, and there is one port by default
            # What a server says reaches the client, and nothing goes on behind a test's back.
            "delivery": {"mode": "direct"},
        }
        self.settings_file.write_text(tomli_w.dumps({**own, **settings}))


def _check_told(done: Finished, arguments: Sequence[str]) -> None:
    assert not (forms := leaks_in(done.text.encode())), f"relay {arguments[0]} told a password: {forms}"


def open_server(port: int, **keys: Any) -> Table:
    """An entry of directory.toml for a server on this machine that wants neither TLS nor a login."""
    server = {"host": LOOPBACK, "port": port, "security": "none", "auth": "none", "address": "mailer@acmejets.example"}
    return {**server, **keys}


def one_channel(server: Table) -> Table:
    """A directory with one server and one channel, support@acmejets.example, that sends as itself."""
    support = {"address": "support@acmejets.example", "override": True}
    return {"default_server": "acmejets", "servers": {"acmejets": server}, "channels": {"support": support}}


@contextmanager
def relay_process(
    directory: Mapping[str, Any], settings: Mapping[str, Any] | None = None, *, starts: bool = True
) -> Iterator[Relay]:
    """A relay with these files. `settings` replaces whole top-level keys of relay.toml."""
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder("relay"))
        folder.chmod(0o700)
        relay = Relay(folder, settings or {}, directory)
        stack.callback(lambda: relay.process and relay.stop())
        if starts:
            relay.start()
        yield relay
        relay.check_leaks()
        if relay.process:
            relay.stop()
            relay.check_leaks()


def _preloaded() -> Preloaded:
    return preloaded(tuple(_environment().items()))


def _environment() -> Mapping[str, str]:
    """Ours without what would name other files; as wide as a terminal that cuts nothing off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "PYTEST_"))}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1"}
