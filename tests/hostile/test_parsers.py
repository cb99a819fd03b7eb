"""Hostile octets in every parser: a clean value or the fault that it names (`checks.py`), and never much time."""

import os
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.hostile.checks import check_address, check_command, check_header, check_leaving, check_mailbox
from tests.hostile.targets import TARGETS

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
MINUTES = float(os.environ.get("MINUTES") or 5)
# Written again and again, each is slow for some parser that goes back over what it has read.
ENDLESS = (
    b"(",
    b"()",
    b'"',
    b'"a"',
    b"\\",
    b"<",
    b"a@",
    b"a.",
    b",",
    b"=?",
    b"=?utf-8?q?a?=",
    b" ",
    b"\t",
    b"a ",
    b"@a:",
    b":;",
)


def checking(name: str, examples: int) -> Callable[[], None]:
    target = TARGETS[name]

    @settings(QUIET, max_examples=examples)
    @given(target.octets)
    def check(octets: bytes) -> None:
        target.check(octets)

    return check


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes(name: str) -> None:
    checking(name, examples=250)()


@pytest.mark.long
@pytest.mark.timeout(600 + MINUTES * 120)
def test_whatever_comes_for_minutes() -> None:
    """A seed that fails is the last that is printed."""
    end = time.monotonic() + MINUTES * 60
    while time.monotonic() < end:
        for name in TARGETS:
            number = random.SystemRandom().getrandbits(64)
            print(f"{name}: seed({number})")  # noqa: T201 - it is shown where this fails
            seed(number)(checking(name, examples=1000))()


@pytest.mark.parametrize(
    ("parse", "before", "length"),
    [
        (check_mailbox, b"", 4096),
        (check_address, b"", 2000),
        (check_command, b"MAIL FROM:<", 2000),
        (check_header, b"From: ", 900_000),
        (check_leaving, b"From: ", 900_000),
        (check_leaving, b"From: a@b.example\r\nSender: ", 4096),
    ],
)
def test_no_parser_takes_long(parse: Callable[[bytes], None], before: bytes, length: int) -> None:
    """One that goes back at each octet would take hours for the longest of them, and be ended."""
    for piece in ENDLESS:
        print(piece)  # noqa: T201 - the last one is shown where this is ended
        parse(before + piece * (length // len(piece)) + (b"\r\n" if parse is check_header else b""))
