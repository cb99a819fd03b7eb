"""The command line as programs write it."""

import os

import pytest

from relay.sendmail.arguments import Arguments, Mode, parse_arguments
from relay.sendmail.exit_status import NotSent
from tests.peers.rows import each_row


def parse(line: str, program: str = "sendmail") -> Arguments:
    """Words are separated by spaces; '' is an empty one."""
    return parse_arguments(program, ["" if word == "''" else word for word in line.split()])


@each_row(
    ("line", "expected"),
    [
        ("jo@x.example", Arguments(recipients=("jo@x.example",))),
        # Debian's cron, cronie, PHP, git send-email, mutt, s-nail, Pine.
        (
            "-FCronDaemon -i -B8BITMIME -oem root",
            Arguments(recipients=("root",), full_name="CronDaemon", dot_ends=False),
        ),
        (
            "-FCronDaemon -i -odi -oem -oi -t -f root",
            Arguments(full_name="CronDaemon", dot_ends=False, reads_recipients=True, sender="root"),
        ),
        ("-t -i", Arguments(reads_recipients=True, dot_ends=False)),
        ("-ti", Arguments(reads_recipients=True, dot_ends=False)),
        ("-t -i -fjo@x.example", Arguments(reads_recipients=True, dot_ends=False, sender="jo@x.example")),
        ("-i -f jo@x.example a@b c@d", Arguments(recipients=("a@b", "c@d"), dot_ends=False, sender="jo@x.example")),
        ("-oem -oi -f jo@x.example -- a@b", Arguments(recipients=("a@b",), dot_ends=False, sender="jo@x.example")),
        ("-i -r jo@x.example -- -a@b", Arguments(recipients=("-a@b",), dot_ends=False, sender="jo@x.example")),
        ("-bs -odb -oem", Arguments(mode=Mode.TALK)),
        ("-bs -bm jo", Arguments(recipients=("jo",))),
        ("-f '' jo", Arguments(recipients=("jo",), sender="")),
        ("-f <> jo", Arguments(recipients=("jo",), sender="")),
        ("-o i jo", Arguments(recipients=("jo",), dot_ends=False)),
        ("-v jo", Arguments(recipients=("jo",), is_verbose=True)),
        # What others ignore, and so do we; also with their values.
        ("-Am -C /etc/x.cf -G -Lcron -O A=b -U -X log -h 17 -m -n -p smtp -em -o7 jo", Arguments(recipients=("jo",))),
        ("-q", Arguments(mode=Mode.NOTHING)),
        ("-q30m", Arguments(mode=Mode.NOTHING)),
        ("-bi", Arguments(mode=Mode.NOTHING)),
        ("-I", Arguments(mode=Mode.NOTHING)),
        ("-bh", Arguments(mode=Mode.NOTHING)),
        ("-bp", Arguments(mode=Mode.LIST)),
        ("-N never jo", Arguments(recipients=("jo",), notify="NEVER")),
        ("-Nfailure,delay -R hdrs jo", Arguments(recipients=("jo",), notify="FAILURE,DELAY", ret="HDRS")),
        ("-Rfull -V a+b=c jo", Arguments(recipients=("jo",), ret="FULL", envid="a+2Bb+3Dc")),
        ("--help", Arguments(mode=Mode.HELP)),
        ("--version", Arguments(mode=Mode.VERSION)),
        ("--config relay.toml --config=x -t", Arguments(reads_recipients=True)),
    ],
)
def test_what_a_line_asks_for(line: str, expected: Arguments) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize(("program", "mode"), [("mailq", Mode.LIST), ("newaliases", Mode.NOTHING), ("x", Mode.SEND)])
def test_the_name_of_the_program_says_what_to_do(program: str, mode: Mode) -> None:
    assert parse("", program).mode is mode
    assert parse("-bm", program).mode is Mode.SEND


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("-Z jo", "there is no option -Z"),
        ("-tZ", "there is no option -Z"),
        ("--recipients jo", "there is no option --recipients"),
        ("-f", "the option -f needs a value"),
        ("--config", "there is no option --config"),
        ("-", "'-' is not an option"),
        ("-bd", "relay serve"),
        ("-bv jo", "-bv is not done here"),
        ("-bt", "-bt is not done here"),
        ("-N sometimes jo", "-N wants never"),
        ("-N never,failure jo", "-N wants never"),
        ("-R half jo", "-R wants full or hdrs"),
        ("-V '' jo", "-V: ENVID is empty"),
        ("-V é jo", "-V: xtext stands for printable ASCII only"),
        ("jo -t", "the option '-t' stands behind a recipient"),
        ("-i jo -fann@x.example", "stands behind a recipient"),
    ],
)
def test_wrong_usage(line: str, sentence: str) -> None:
    with pytest.raises(NotSent, match=sentence) as caught:
        parse(line)
    assert caught.value.status == os.EX_USAGE
