"""One message as people read it."""

from typing import Any

import pytest

from relay.cli.journey import print_journey, recipients_in_short
from relay.control.json_values import from_json
from relay.control.messages.results import JourneyRecord, RecipientRecord

RECORD: dict[str, Any] = {
    "id": "aaaaaaaaaaaa111111111111",
    "state": "sending",
    "reason": "",
    "created": "2025-11-24T09:00:00Z",
    "next_attempt": None,
    "held_since": None,
    "delivered": None,
    "client": "127.0.0.1",
    "helo": "laptop",
    "sender": "",
    "profile": None,
    "server": None,
    "account": None,
    "subject": "Hi\x1b[2J",
    "message_id": "",
    "size": 37748736,
    "reply": "",
    "recipients": [{"address": "ann@customer.example", "state": "sending", "reply": "", "returned": None}],
    "peer": "127.0.0.1",
    "protocol": "ESMTP",
    "held_by": None,
    "is_report": False,
    "reports": [],
    "attempts": [
        {
            "number": 1,
            "started": "2025-11-24T09:00:01Z",
            "ended": None,
            "account": "acmejets/u",
            "phase": "content",
            "final_dot": False,
            "reply": "",
            "meaning": "",
            "tls": "",
            "changes": None,
            "changes_left_out": 0,
        }
    ],
}


def print_shown(answer: dict[str, Any]) -> None:
    print_journey(from_json(JourneyRecord, answer))


def test_an_attempt_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    print_shown(RECORD)
    out = capsys.readouterr().out
    assert "  acmejets/u, now at content\n    no answer yet\n" in out
    assert "sender   <>\n" in out
    assert "subject  Hi [2J\n" in out, "nothing acts on the terminal"
    assert "message-id" not in out, "what there is nothing to say about is left out"


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (1 << 41, "2048.0 GiB")],
)
def test_sizes(size: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_shown(RECORD | {"size": size, "attempts": []})
    out = capsys.readouterr().out
    assert f"size     {words}\n" in out
    assert "attempts" not in out


@pytest.mark.parametrize(
    ("returned", "line"),
    [
        (
            {"status": "5.1.1", "words": "550 5.1.1 no such user", "reporter": "mx.there.example"},
            "returned by mx.there.example: 550 5.1.1 no such user, found at 2025-11-24 ",
        ),
        ({"status": "5.0.0", "words": "no [2J", "reporter": ""}, "returned: 5.0.0 no [2J, found at 2025-11-24 "),
    ],
)
def test_what_came_back(returned: dict[str, str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    ann = {**RECORD["recipients"][0], "returned": {**returned, "found": "2025-11-24T12:00:00Z"}}
    print_shown(RECORD | {"recipients": [ann]})
    assert f"             {line}" in capsys.readouterr().out


def _attempt(number: int, *changes: tuple[str, str, str], left_out: int = 0) -> dict[str, Any]:
    told = [dict(zip(("field", "before", "after"), one, strict=True)) for one in changes]
    return {**RECORD["attempts"][0], "number": number, "changes": told, "changes_left_out": left_out}


def test_what_was_changed_in_the_header(capsys: pytest.CaptureFixture[str]) -> None:
    changes = (
        ("From", "Jane <jane@x.example>\x1b[2J", "Jane <mailer@x.example>"),
        ("Reply-To", "", "jane@x.example"),
        ("Bcc", "eve@x.example", ""),
        ("Sender", "", ""),
    )
    unknown = RECORD["attempts"][0]
    print_shown(RECORD | {"attempts": [unknown, _attempt(2, *changes, left_out=3)]})
    assert capsys.readouterr().out.endswith(
        "\nheader changes\n"
        "  From: rewritten from Jane <jane@x.example> [2J to Jane <mailer@x.example>\n"
        "  Reply-To: added, jane@x.example\n"
        "  Bcc: removed, it was eve@x.example\n"
        "  Sender: removed, it was empty\n"
        "  and 3 more\n"
    )
    print_shown(RECORD)
    assert "header changes" not in capsys.readouterr().out


def test_what_several_attempts_changed_is_told_once_for_those_that_changed_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    added = ("Organization", "", "Acme Jets")
    print_shown(RECORD | {"attempts": [_attempt(1, added), _attempt(2, added), _attempt(3)]})
    assert capsys.readouterr().out.endswith(
        "\nheader changes, attempts 1 to 2\n"
        "  Organization: added, Acme Jets\n"
        "\nheader changes, attempt 3\n"
        "  none: it left as it came, with one Received field on top\n"
    )


def test_recipients_in_short() -> None:
    ann, bob = (
        RecipientRecord(address=f"{name}@customer.example", state="queued", reply="") for name in ("ann", "bob")
    )
    assert recipients_in_short([]) == ""
    assert recipients_in_short([ann]) == "ann@customer.example"
    assert recipients_in_short([ann, bob, bob]) == "ann@customer.example +2"
