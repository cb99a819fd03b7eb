import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.cli_kit import CommandLine


@pytest.fixture
def relay(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """The command line with settings and nothing else yet."""
    monkeypatch.delenv("RELAY_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    umask = os.umask(0o022)
    yield CommandLine(tmp_path, capsys, monkeypatch)
    # A command sets up its process, which here is everybody's.
    os.umask(umask)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the folder of `peopled` is kept once the first of them has made it."""
    return tmp_path_factory.mktemp("people") / "state"


@pytest.fixture
def peopled(relay: CommandLine, people: Path) -> CommandLine:
    """The command line of a relay with two servers, two channels and an agent."""
    if people.exists():
        shutil.copytree(people, relay.state_dir)
        relay.good("server", "list")  # a command sets up the log
        return relay
    relay.good("server", "add", "acmejets", "--host", "smtp.acmejets.example", "--username", "mailer@acmejets.example")
    relay.good("server", "add", "other", "--host", "smtp.other.example", "--security", "tls", "--auth", "plain")
    relay.good("channel", "add", "support", "--address", "support@acmejets.example", "--alias", "help@acmejets.example")
    relay.good("channel", "add", "sales", "--address", "sales@acmejets.example", "--server", "other", "--override")
    relay.good("agent", "add", "jane", "--address", "jane@acmejets.example", "--group", "flights", "--override")
    shutil.copytree(relay.state_dir, people)
    return relay
