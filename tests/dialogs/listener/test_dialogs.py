"""Every transcript in tests/dialogs, played against a real listener; and every reply of the listener in one of them."""

from pathlib import Path

import pytest

from relay.listener import replies
from relay.mail.reply import Reply
from tests.dialogs.listener.dialog_player import DIALOGS, play
from tests.peers.rows import each_row

# What a transcript cannot bring about in few words, and the test that does.
ELSEWHERE = {
    replies.LINE_TOO_LONG: "test_login.py",
    replies.LOST_TRACK: "test_session_life.py",
    replies.NO_ROOM: "test_spooling.py",
    replies.NOT_READY: "../../e2e/test_lost_database.py",
    replies.TOO_SLOW: "test_pace.py",
}
FOR_THE_LOG = {replies.NO_TLS}  # whose client cannot be told
OWN = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}
# DESIGN section 6: what a client is told, whoever says it. A "*" stands for any text.
PROMISED = [
    "250 2.0.0 Ok: delivered via *",
    "250 2.0.0 Ok: queued as *",
    "550 5.7.1 <*>: no channel or agent sends from this address",
    "550 5.7.1 <*>: * may not send as this address",
    "530 5.7.0 Authentication required",
    "535 5.7.8 *",
    "421 4.7.0 *",
    "550 5.7.8 <*>: no email password is configured for this account; set it at *",
    "451 4.7.8 *",
    "550 5.7.1 From header <*> does not match the sender <*>",
    "554 5.6.0 line *",
    "501 5.1.7 *",
    "501 5.1.3 *",
    "552 5.3.4 *",
    "452 4.3.1 *",
    "451 4.3.0 *",
    "452 4.5.3 *",
    "421 4.3.2 *",
    "554 5.4.6 *",
]


def shown() -> list[str]:
    """Return what the server says in the transcripts."""
    lines = [line for path in DIALOGS.glob("*.smtp") for line in path.read_text().splitlines()]
    return [line[3:] for line in lines if line[:2] in {"S:", "S+"}]


@each_row("transcript", sorted(DIALOGS.glob("*.smtp")), ids=lambda path: path.stem)
async def test_dialog(transcript: Path) -> None:
    await play(transcript)


@each_row("name", OWN)
def test_each_reply_of_the_listener_is_shown_word_for_word(name: str) -> None:
    reply = OWN[name]
    if reply in FOR_THE_LOG:
        assert str(reply) not in shown()
    elif reply in ELSEWHERE:
        test = (Path(__file__).parent / ELSEWHERE[reply]).read_text()
        assert f"replies.{name}" in test or f"{reply.code} {reply.enhanced} " in test
    else:
        assert str(reply) in shown()


@each_row("promised", PROMISED)
def test_each_reply_that_is_promised_is_shown(promised: str) -> None:
    parts = promised.split("*")
    assert any(all(part in line for part in parts) and line.startswith(parts[0]) for line in shown())


async def test_a_transcript_that_does_not_hold_is_told_by_its_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.smtp"
    wrong.write_text("# says hello\nS: 220 *\nC: NOOP\nS: 250 2.0.0 Never\n")
    with pytest.raises(AssertionError, match=r"wrong\.smtp, line 4: S: 250 2\.0\.0 Never\nthe server said: 250 2"):
        await play(wrong)


async def test_a_transcript_with_a_setting_that_does_not_exist_is_no_transcript(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.smtp"
    wrong.write_text("@ colour=blue\nS: 220 *\n")
    with pytest.raises(AssertionError, match="colour is nothing that a relay has"):
        await play(wrong)
