"""What the tab key offers: names, ids, keys and words, quickly, and never a word about what went wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli import app as app_module
from relay.cli import complete
from relay.delivery.outcome import State
from relay.directory.model import AliasIdentity, Auth, Channel, Kind, Mode, Security, Server
from relay.directory.presets import presets
from tests.peers.rows import each_row
from tests.peers.work import counted
from tests.unit.cli.cli_kit import CommandLine
from tests.unit.control.queue_kit import attempt, new, stored

BIN = Path(sys.executable).parent


@pytest.fixture
def tab(peopled: CommandLine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Tab":
    monkeypatch.setenv("RELAY_CONFIG", str(peopled.settings_file))
    monkeypatch.setattr(complete, "_ANSWER_SECONDS", 20.0)  # who presses the key waits for no busy machine
    return Tab(capsys, monkeypatch)


class Tab:
    """Presses the tab key at the end of a line, as bash does."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.status = 0

    def __call__(self, line: str) -> list[str]:
        words = line.split(" ")
        self._monkeypatch.setenv("_RELAY_COMPLETE", "complete_bash")
        self._monkeypatch.setenv("COMP_WORDS", line)
        self._monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        self._capsys.readouterr()
        self.status = app_module.run(())
        out, err = self._capsys.readouterr()
        assert err == ""
        return out.split()


@each_row(
    ("line", "offered"),
    [
        ("relay que", "queue"),
        ("relay server sh", "show"),
        ("relay server show ", "acmejets other"),
        ("relay server add ", ""),
        ("relay channel show s", "support sales"),
        ("relay agent password ", "jane"),
        ("relay doctor ", "support sales jane"),
        ("relay queue list --profile j", "jane"),
        ("relay queue list --state h", "held"),
        ("relay channel add x --server ", "acmejets other"),
        ("relay channel set support ser", "server="),
        ("relay channel set support server=", "server=acmejets server=other"),
        ("relay channel set support server = o", "other"),
        ("relay channel set support override=", "override=true override=false"),
        ("relay server set acmejets security=s", "security=starttls"),
        ("relay server add x --provider microsoft365-g", "microsoft365-graph"),
        ("relay server add x --auth scr", "scram-sha-256"),
        ("relay agent list --sort gr", "group"),
        ("relay route x --login j", "jane"),
        ("relay server show nobody", ""),
        ("relay queue show ", ""),
        ("relay account release ", ""),
        ("relay admin remove ", ""),
    ],
)
def test_what_is_offered(line: str, offered: str, tab: Tab) -> None:
    assert tab(line) == offered.split()
    assert tab.status == 0


def test_what_only_the_running_relay_knows(tab: Tab, peopled: CommandLine) -> None:
    peopled.store(*(new(stored(id=id_), attempt()) for id_ in ("a" * 12, "b" * 12)))
    peopled.good("admin", "add", "ann", "--link")
    with peopled.running():
        assert tab("relay queue show ") == ["a" * 12, "b" * 12]
        assert sorted(tab("relay messages show ")) == ["a" * 12, "b" * 12]
        assert tab("relay account release acme") == [
            "acmejets/jane@acmejets.example",
            "acmejets/mailer@acmejets.example",
        ]
        assert tab("relay admin remove ") == ["ann"]


def test_the_settings_may_be_named_anywhere(tab: Tab, peopled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELAY_CONFIG")
    assert tab("relay server show ") == []
    file = peopled.settings_file
    assert tab(f"relay --config {file} server show ") == ["acmejets", "other"]
    assert tab(f"relay server show --config {file} ") == ["acmejets", "other"]


@pytest.mark.parametrize("broken", ["[servers", 'state_dir = "/nowhere"', "\0", "state_dir = 5"])
def test_broken_files_are_passed_over_in_silence(broken: str, tab: Tab, peopled: CommandLine) -> None:
    peopled.settings_file.write_text(broken)
    assert tab("relay server show ") == []
    assert tab("relay server set acmejets aut") == ["auth="]


def test_a_line_that_makes_no_sense_is_passed_over_in_silence(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tab("relay server show 'x") == []
    monkeypatch.setenv("_RELAY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_CWORD", "x")
    assert app_module.run(()) == 1
    monkeypatch.setenv("_RELAY_COMPLETE", "complete_noshell")
    assert app_module.run(()) == 1


def test_ten_thousand_agents_are_offered_without_reading_each(tab: Tab, peopled: CommandLine) -> None:
    entries = "".join(f'[agents."a{number}"]\naddress = "a{number}@x.example"\n' for number in range(10_000))
    with peopled.directory_file.open("a") as file:
        file.write(entries + "[channels.'x y']\n[agents.z]\n")
    with counted() as work:
        assert tab("relay agent show a999") == ["a999", *(f"a999{digit}" for digit in range(10))]
    assert work.calls < 20 * 10_000, "to read each of them would take hundreds for each"
    assert tab("relay agent show z") == ["z"]


def test_the_words_are_those_of_the_model() -> None:
    assert tuple(Security) == complete.SECURITIES
    assert tuple(Auth) == complete.AUTHS
    assert tuple(Mode) == complete.MODES
    assert complete.words_of(Server, "kind") == tuple(Kind)
    assert set(complete.STATES) == set(State)
    assert complete.words_of(Channel, "alias_identity") == tuple(AliasIdentity)
    assert complete.words_of(Server, "internal") == ("true", "false")
    assert complete.words_of(Server, "host") == ()


def test_every_provider_is_offered(tab: Tab) -> None:
    assert tab("relay server add x --provider ") == sorted(presets())


def test_a_real_bash_offers_it_within_the_time_that_people_wait(peopled: CommandLine) -> None:
    script = """
        eval "$(relay --show-completion)"
        COMP_WORDS=(relay channel show "") COMP_CWORD=3
        began=$EPOCHREALTIME
        _relay_completion relay
        echo "${COMPREPLY[*]}"
    """
    path = f"{BIN}:{os.environ['PATH']}"
    env = {"PATH": path, "RELAY_CONFIG": str(peopled.settings_file), "SHELL": "/bin/bash", "HOME": str(peopled.folder)}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["support", "sales"], "")


def test_offering_names_loads_little(peopled: CommandLine) -> None:
    """What is loaded decides how long it takes: 0.2 s of the processor on a slow machine."""
    env = {
        **os.environ,
        "RELAY_CONFIG": str(peopled.settings_file),
        "_RELAY_COMPLETE": "complete_bash",
        "COMP_WORDS": "relay server show ",
        "COMP_CWORD": "3",
    }
    program = "import sys\nfrom relay.cli.app import run\nrun(())\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["acmejets", "other"]
    assert {"asyncio", "relay.config.settings", "relay.directory.model", "sqlalchemy"} & set(
        done.stderr.split()
    ) == set()


def test_names_that_a_database_keeps_are_asked_of_the_running_relay(tab: Tab, peopled: CommandLine) -> None:
    peopled.good("directory", "import")
    peopled.settings_file.write_text('directory = "database"\n' + peopled.settings_file.read_text())
    peopled.directory_file.unlink()
    assert tab("relay channel show s") == []
    with peopled.running():
        assert sorted(tab("relay channel show s")) == ["sales", "support"]
        assert tab("relay channel set support server=o") == ["server=other"]
