"""What an alert says, and what of it a server may have written."""

import json
from email import message_from_bytes
from email.policy import default

from relay.alerts.digest import Digest, Trouble
from relay.alerts.look import away, expiring, full, held, old
from relay.alerts.messages import body_of, mail_of, summary_of, text_of
from relay.delivery.holds import Unreached
from relay.mail.address import Address
from relay.store.queue.troubles import ToldTrouble
from relay.upstream.outcome import Phase
from tests.unit.alerts.alerts_kit import hold
from tests.unit.store.store_kit import MINUTE, NOW

DAY = 24 * 60 * MINUTE


def test_a_thousand_accounts_are_one_line() -> None:
    digest = Digest(new=list(held([hold(number) for number in range(1000)])))
    text = text_of(digest, "one")
    assert "1000 of these: accounts of server acmejets are held (login-refused)" in text
    assert len(text.splitlines()) < 15
    assert summary_of(digest) == "1000 troubles"
    body = json.loads(body_of(digest, "one", NOW))
    assert (body["type"], body["data"]["new"]["count"], len(body["data"]["new"]["troubles"])) == (
        *("relay.alert", 1000),
        100,
    )


def test_what_many_different_troubles_say_is_bounded() -> None:
    many = [Trouble(kind="server-unreached", key=f"s{n}", title=f"server {n} " + "x" * 999) for n in range(500)]
    text = text_of(Digest(new=many), "one")
    assert len(text) < 10_000
    assert "more" in text


def test_new_still_and_over_are_told_apart_with_what_to_do() -> None:
    new, still = list(held([hold(1), hold(2, address="x@acmejets.example")]))
    over = ToldTrouble(recipient="r", key="k", kind="disk-low", title="3 MiB are left", stage="", since=NOW, told=NOW)
    text = text_of(Digest(new=[new], still=[still], over=[over]), "one")
    assert text.index("New:") < text.index("a1@") < text.index("Still there:") < text.index("as x@acmejets.example")
    assert text.index("Over:") < text.index("3 MiB are left")
    assert "relay account list" in text
    assert summary_of(Digest(new=[new], still=[still], over=[over])) == "2 troubles, 1 over"


def test_what_a_server_wrote_is_one_line_of_the_text_and_nothing_of_the_header() -> None:
    bad = "no\r\nBcc: eve@evil.example\r\n\r\n<script>\x1b[31m grüße"
    digest = Digest(new=list(held([hold(1, bad)])))
    made = mail_of(
        summary_of(digest),
        text_of(digest, "one"),
        to=Address.parse("ops@acmejets.example"),
        identity=Address.parse("mailer@acmejets.example"),
        profile=None,
        hostname="relay.example",
        now=NOW,
    )
    assert made.content is not None
    raw = made.content.header + b"\r\n" + b"".join(made.content.body)
    mail = message_from_bytes(raw, policy=default)
    assert mail["Bcc"] is None
    assert (mail["To"], mail["From"]) == ("ops@acmejets.example", "Relay <mailer@acmejets.example>")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Subject"] == "[relay relay.example] 1 trouble"
    lines = mail.get_content().splitlines()
    assert any("Bcc: eve@evil.example" in line and "grüße" in line for line in lines), "in one line"
    assert "\x1b" not in mail.get_content()
    assert made.message.envelope.sender is None
    assert made.message.is_report, "nobody is told of it by a report or a webhook"


def test_what_is_a_trouble() -> None:
    def server(minutes: int) -> Unreached:
        return Unreached("old", NOW - minutes * MINUTE, NOW, 9, Phase.CONNECT, "refused")

    assert list(away([server(1)], NOW)) == []
    assert [one.title for one in away([server(6)], NOW)] == ["nobody gets through to server old: refused"]
    assert list(old(NOW - 10 * MINUTE, NOW, 3600)) == list(old(None, NOW, 3600)) == []
    assert len(list(old(NOW - 60 * MINUTE, NOW, 3600))) == 1
    stages = [[one.stage for one in expiring(NOW + days * DAY, NOW)] for days in (20, 14, 7, 1, 0)]
    assert stages == [
        [],
        ["expires within 14 days"],
        ["expires within 7 days"],
        ["expires within a day"],
        ["has expired"],
    ]
    assert list(expiring(None, NOW)) == list(full(None, 100)) == list(full(400, 100)) == []
    assert [one.stage for free in (399, 99) for one in full(free, 100)] == ["low", "full"]
