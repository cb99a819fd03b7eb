"""Every transcript in tests/dialogs, played against a real listener."""

from pathlib import Path

import pytest

from tests.listener.dialog_player import DIALOGS, play


@pytest.mark.parametrize("transcript", sorted(DIALOGS.glob("*.smtp")), ids=lambda path: path.stem)
async def test_dialog(transcript: Path) -> None:
    await play(transcript)


async def test_a_transcript_that_does_not_hold_is_told_by_its_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.smtp"
    wrong.write_text("# says hello\nS: 220 *\nC: NOOP\nS: 250 2.0.0 Never\n")
    with pytest.raises(AssertionError, match=r"wrong\.smtp, line 4: S: 250 2\.0\.0 Never\nthe server said: 250 2"):
        await play(wrong)
