"""The pages keep their word: every file they name is there, and every command that they show can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from docs.generate.replies import groups
from relay.cli.app import run
from relay.config.settings import Settings, as_table
from tests.peers.rows import each_row

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs/architecture.md"
README = ROOT / "README.md"
# tests/unit/test_reference.py and tests/e2e/docs/test_examples.py have what is made from the code.
MADE = ROOT / "docs/reference"
PAGES = (README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
# Paths in the pages stand below one of these; relay.toml and directory.toml are shown in etc/.
PLACES = (ROOT, ROOT / "relay", ROOT / "etc", ROOT / "docs")
_FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)*(?:/|\.(?:py|toml|md|txt|smtp)))`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"`(\w+)\.(\w+)(?: = [^`]*)?`")
_SPAN = re.compile(r"`(relay [^`]+)`")
# What a shell would make of the rest of a line is not the command's.
_SHELL = {"<", ">", "|", "&&", ";"}


def named_files(text: str) -> set[str]:
    """The paths between backticks: files by their ending, folders by their slash."""
    return set(_FILE.findall(text))


def is_there(path: str) -> bool:
    return any((place / path).is_dir() if path.endswith("/") else (place / path).is_file() for place in PLACES)


def commands_in(text: str) -> list[str]:
    """The command lines of relay: in shell blocks, and between backticks."""
    lines = [line.strip() for block in _BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("relay ")] + _SPAN.findall(_BLOCK.sub("", text))


def arguments_of(line: str) -> list[str]:
    """The arguments of one command line, without comments, redirections and what stands for more of them."""
    words = shlex.split(line, comments=True)[1:]
    end = next((number for number, word in enumerate(words) if word in _SHELL), len(words))
    return [word for word in words[:end] if word != "…"]


def anchor(heading: str) -> str:
    """How a heading is linked to."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@each_row("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert sorted(path for path in named_files(page.read_text()) if not is_there(path)) == []


@each_row("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    anchors = {f"#{anchor(heading)}" for heading in _HEADING.findall(text)}
    local = [link for link in _LINK.findall(text) if "://" not in link]
    assert [link for link in local if link not in anchors and not (page.parent / link.partition("#")[0]).exists()] == []


def test_every_setting_that_a_page_names_is_one() -> None:
    tables = {key: table for key, table in as_table(Settings()).items() if isinstance(table, dict)}
    named = {
        found
        for page in PAGES
        if page != ARCHITECTURE
        for found in _SETTING.findall(page.read_text())
        if found[0] in tables
    }
    assert len(named) > 10
    assert {f"{table}.{key}" for table, key in named if key not in tables[table]} == set()


def test_every_reply_of_the_troubleshooting_is_given() -> None:
    replies = [one["reply"].replace("WHERE", "") for group in groups() for one in group["replies"]]
    table = (ROOT / "docs/troubleshooting.md").read_text().partition("| words |")[2].partition("\n\n")[0]
    shown = re.findall(r"^\| `(\d[^`]+)`", table, re.MULTILINE)
    assert len(shown) > 6
    found = {words: all(any(part.strip() in one for one in replies) for part in words.split("…")) for words in shown}
    assert [words for words, is_given in found.items() if not is_given] == []


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs/README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(index.read_text())}
    assert set((ROOT / "docs").glob("*.md")) - linked - {index} == set(), "add a line to docs/README.md"


def test_the_walk_through_the_house_enters_every_room() -> None:
    named = named_files(ARCHITECTURE.read_text())
    folders = {f"{path.parent.name}/" for path in (ROOT / "relay").glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "relay").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert (folders | modules) - named == set()


def refusal_of(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that cannot be typed; "" for one that can."""
    first = arguments_of(line)[0]
    if first.startswith("--"):  # which does something there and then
        assert run(["--help"]) == 0
        return "" if first in (shown := capsys.readouterr().out) else shown
    code = run([*arguments_of(line), "--help"])
    out, err = capsys.readouterr()
    return "" if code == 0 and out.startswith("Usage: relay") else out + err


def test_every_command_that_a_page_shows_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {line for page in PAGES if page.parent != MADE for line in commands_in(page.read_text())}
    assert len(lines) > 100
    wrong = {line: said for line in sorted(lines) if (said := refusal_of(line, capsys))}
    assert not wrong


def test_the_readers_of_the_pages_see_what_they_should() -> None:
    assert named_files("`mail/x.py`, `mail/`, `relay.db`, `a.b`, [x](y.md)") == {"mail/x.py", "mail/"}
    assert not is_there("mail/no_such_file.py")
    assert not is_there("no_such_folder/")
    assert commands_in("a\n```sh\nmake x\nrelay init # why\n```\nand `relay check`") == [
        "relay init # why",
        "relay check",
    ]
    assert arguments_of("relay server add x --password-stdin < 'my file'  # why") == [
        "server",
        "add",
        "x",
        "--password-stdin",
    ]
    assert run(["server", "ad", "--help"]) == 2
    assert run(["server", "add", "--no-such-option", "--help"]) == 2
