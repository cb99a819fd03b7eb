"""A command of `relay` at a terminal, where a person sits."""

import os
import pty
import subprocess
import sys

from tests.unit.cli.cli_kit import CommandLine


class Terminal:
    """A command on a real terminal: the questions come one by one, and what is typed answers them."""

    def __init__(self, relay: CommandLine, *arguments: str) -> None:
        self._main, terminal = pty.openpty()
        command = [sys.executable, "-m", "relay.cli.app", "--config", str(relay.settings_file), *arguments]
        self._process = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
        )
        os.close(terminal)
        self.seen = ""
        self._read = 0  # what stands before was waited for already

    def answer(self, question: str, words: str) -> None:
        self.wait_for(question)
        os.write(self._main, words.encode() + b"\n")

    def wait_for(self, words: str) -> None:
        while words not in self.seen[self._read :]:
            self.seen += os.read(self._main, 4096).decode()
        self._read = self.seen.index(words, self._read) + len(words)

    def end(self, words: str = "ready; start it with", code: int = 0) -> None:
        self.wait_for(words)
        assert self._process.wait(20) == code
        os.close(self._main)

    def leave(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._main)
