"""The pages that are made from the code: they are as the code is, and nothing in it is left out."""

import subprocess
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from docs.generate.blocks import Block, Code, Heading, Items, Table, Terms, Text
from docs.generate.code_replies import replies_in_code
from docs.generate.commands import commands, examples_of
from docs.generate.markdown import from_markdown, to_markdown
from docs.generate.package_files import package_files
from docs.generate.pages import DOCS, manuals, pages
from docs.generate.replies import groups
from docs.generate.roff import Manual, to_roff
from relay.config.schema import meanings_of
from relay.directory import model

ROOT = Path(__file__).parents[2]
MANUAL = Manual("name", 1, "what it is", "1", "2026-01-01")


@pytest.mark.parametrize("file", pages(), ids=lambda file: file.name)
def test_a_page_is_as_the_code_is(file: Path) -> None:
    assert file.read_text() == pages()[file], "run: make docs"


def test_what_a_package_carries_is_real_and_as_it_is_elsewhere() -> None:
    """Beside the sources there is no etc/ in a package: no file of it may be a link."""
    for file, text in package_files().items():
        assert (file.is_symlink(), file.read_text()) == (False, text), f"{file}: run: make docs"
    assert set((ROOT / "etc/completions").iterdir()) <= set(package_files())
    assert [path for path in (ROOT / "relay").rglob("*") if path.is_symlink()] == []


def test_no_page_is_left_over() -> None:
    kept = {file for folder in ("reference", "man") for file in (DOCS / folder).iterdir()}
    assert kept == set(pages())


def test_every_reply_is_explained_once_and_no_other() -> None:
    explained = Counter(one["reply"] for group in groups() for one in group["replies"])
    assert set(explained) == set(replies_in_code())
    assert max(explained.values()) == 1
    assert [one for group in groups() for one in group["replies"] if not (one["when"] and one["do"])] == []


def test_the_reader_of_replies_sees_what_the_code_says() -> None:
    found = replies_in_code()
    assert found["550 5.7.1 <SENDER>: CLIENT may not send as this address"] == "delivery/replies.py"
    assert found["354 End data with <CR><LF>.<CR><LF>"] == "listener/replies.py"
    assert "451 4.7.0 The outgoing mail server asks for a slower pace; please try again later" in found
    assert "451 4.3.5 there is no default server" in found


def test_every_key_of_the_directory_says_what_it_means() -> None:
    tables = [kind for kind in vars(model).values() if isinstance(kind, type) and kind.__module__ == model.__name__]
    silent = {
        f"{table.__name__}.{field.name}"
        for table in tables
        if is_dataclass(table) and table is not model.Account
        for field in fields(table)
        if field.name != "name" and not meanings_of(table)[field.name]
    }
    assert model.Server in tables
    assert silent == set()


def test_every_command_and_option_stands_in_its_page() -> None:
    page = (DOCS / "reference/commands.md").read_text()
    for name, command in commands():
        section = page.partition(f"# {name}\n")[2].partition("\n#")[0]
        assert section, name
        options = [word for param in command.params for word in param.opts if word.startswith("--")]
        assert [word for word in options if word not in section and word != "--help"] == [], name
        assert [line for line in examples_of(command) if line.split()[1] not in section] == [], name


@pytest.mark.needs("mandoc")
@pytest.mark.parametrize("name", manuals())
def test_mandoc_has_nothing_to_say_about_a_manual_page(name: str) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", DOCS / "man" / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.needs("groff")
@pytest.mark.parametrize("name", manuals())
def test_groff_shows_a_manual_page_without_a_warning(name: str) -> None:
    page = DOCS / "man" / name
    done = subprocess.run(["groff", "-man", "-ww", "-k", "-T", "utf8", page], capture_output=True, check=True)
    assert done.stderr == b""
    assert len(done.stdout) > page.stat().st_size / 2


def test_a_page_is_read_as_it_is_written() -> None:
    blocks: list[Block] = [
        Heading(1, "Title"),
        Text("A `word` and a [link](other.md)."),
        Items(["one", "two"]),
        Table(("a", "b"), [["1", "x | y"]]),
        Code("relay check\n  --json", "sh"),
    ]
    read = from_markdown(to_markdown(blocks, "made"))
    assert read == [*blocks[:3], Table(["a", "b"], [["1", "x | y"]]), blocks[4]]
    assert from_markdown("1. one\n   more\n2. two\n") == [Items(["one more", "two"])]
    assert to_markdown([Terms(("x", "y"), [("-f", "it")])]) == "| x | y |\n| --- | --- |\n| `-f` | it |\n"


@pytest.mark.parametrize(
    ("block", "lines"),
    [
        (Heading(2, "See `it`"), ['.SH "SEE IT"']),
        (Heading(2, "[[listener]]"), ['.SH "[[listener]]"']),
        (Text(".so what's `a-b` in [here](x.md)"), [".PP", "\\&.so what\\(aqs \\fBa\\-b\\fP in here"]),
        (Text("C:\\x … [far](https://x.example)"), [".PP", "C:\\ex \\[u2026] far (https://x.example)"]),
        (Terms(("a", "b"), [("-f", "it")]), [".TP", "\\fB\\-f\\fP", "it"]),
        (Table(("a", "b", "c"), [["x", "1", "it"]]), [".TP", "x", "it (b: 1)"]),
        (Items(["one"]), ['.IP "\\(bu" 2', "one"]),
        (Code("'x'\n.y"), [".PP", ".in +4n", ".EX", "\\(aqx\\(aq", "\\&.y", ".EE", ".in"]),
    ],
)
def test_what_becomes_of_a_block_in_a_manual_page(block: Block, lines: list[str]) -> None:
    page = to_roff(MANUAL, [Text("first"), block])
    assert page.splitlines()[5:] == lines
