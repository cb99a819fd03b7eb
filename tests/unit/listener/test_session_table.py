"""The table of commands: all that aiosmtpd would answer itself is ours, and each state refuses what may not come."""

import pytest
from aiosmtpd.smtp import SMTP

from relay.listener import replies
from relay.listener.commands import _split_common, split_command
from relay.listener.reception import State
from relay.listener.session import COMMANDS, Session


def test_no_command_is_answered_by_aiosmtpd() -> None:
    theirs = {name for name in dir(SMTP) if name.startswith("smtp_")}
    assert {name for name in theirs if getattr(Session, name) is getattr(SMTP, name)} == set()
    own = {name.removeprefix("smtp_").encode() for name in dir(Session) if name.startswith("smtp_")}
    assert own <= COMMANDS.keys()


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        (b"MAIL", ["503", "", "503", "503", "503", "503"]),
        (b"RCPT", ["503", "503", "", "", "", "503"]),
        (b"DATA", ["503", "503", "503", "554", "", "503"]),
        (b"RSET", [""] * 6),
        (b"QUIT", [""] * 6),
        (b"EHLO", [""] * 6),
    ],
)
def test_what_each_state_refuses(verb: bytes, expected: list[str]) -> None:
    states = (State.NEW, State.READY, State.MAIL, State.REFUSED, State.RCPT, State.CHUNKS)
    refused = [COMMANDS[verb].refused.get(state) for state in states]
    assert ["" if reply is None else str(reply.code) for reply in refused] == expected


def test_a_refusal_before_hello_asks_for_it() -> None:
    for verb in (b"MAIL", b"RCPT", b"DATA"):
        assert COMMANDS[verb].refused[State.NEW] == replies.NEED_HELLO


@pytest.mark.parametrize(
    ("line", "is_kept"),
    [
        (b"MAIL FROM:<kept@a.example>", True),
        (b"rcpt to:<kept@a.example>", True),
        (b"AUTH PLAIN AGFtaXIAcGFzc3dvcmQ=", False),
        (b"AGFtaXIAcGFzc3dvcmQ=", False),
        (b"NOOP password", False),
        (b"MAIL FROM:<" + b"a" * 600 + b"@a.example>", False),
    ],
)
def test_only_common_short_lines_are_kept(line: bytes, is_kept: bool) -> None:
    """SECURITY: a line that is no common command may be a password that came at the wrong moment."""
    _split_common.cache_clear()
    assert split_command(line) == split_command(line)
    assert _split_common.cache_info().currsize == is_kept
