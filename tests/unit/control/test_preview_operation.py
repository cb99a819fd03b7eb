"""What the next attempt of a waiting message would change in its header, and the reports about a message."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.control.context import ControlContext
from relay.control.refused import NotFound, Refused
from relay.delivery.outcome import State
from relay.mail.content import Content
from relay.store.queue.messages import NewMessage
from tests.unit.control.control_kit import TWO_SERVERS, AdminOperations, parts_in
from tests.unit.control.queue_kit import new, stored

FROM_SUPPORT = Content(
    b"From: The boss <boss@elsewhere.example>\r\nTo: ann@customer.example\r\nSubject: Hello\r\nBcc: eve@x.example\r\n",
    (b"Hello\r\n" * 20_000,),
)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path) as parts:
        yield parts


async def test_every_field_that_would_change_is_told(parts: ControlContext) -> None:
    message = stored(id="aaaaaa111111", sender="help@acmejets.example", profile="support")
    await parts.queue.add(NewMessage(message=message, content=FROM_SUPPORT))
    told = await AdminOperations(parts).run("queue.preview", {"id": "aaaaaa111111"})
    assert (told["profile"], told["server"], told["identity"]) == ("support", "acmejets", "mailer@acmejets.example")
    changes = {change["field"]: (change["before"], change["after"]) for change in told["changes"]}
    assert changes["From"] == ("The boss <boss@elsewhere.example>", "The boss <mailer@acmejets.example>")
    assert changes["Reply-To"] == ("", "help@acmejets.example")
    assert changes["Bcc"] == ("eve@x.example", "")
    assert {"Date", "Message-ID"} <= changes.keys()
    assert "To" not in changes
    # Nothing was done: it waits as it did, with the same content.
    assert (await parts.queue.message("aaaaaa111111")) == message
    assert (await parts.queue.content("aaaaaa111111")).header == FROM_SUPPORT.header


async def test_of_very_many_changes_the_first_are_told_and_the_others_counted(tmp_path: Path) -> None:
    script = {"scripts": {"default": {"set_headers": {f"X-{number}": "x" for number in range(60)}}}}
    async with parts_in(tmp_path, {**TWO_SERVERS, **script}) as parts:
        message = stored(id="aaaaaa111111", sender="help@acmejets.example", profile="support")
        await parts.queue.add(NewMessage(message=message, content=FROM_SUPPORT))
        told = await AdminOperations(parts).run("queue.preview", {"id": "aaaaaa111111"})
    assert (told["changes"][0]["field"], len(told["changes"])) == ("From", 50)
    assert told["changes_left_out"] == 15


@pytest.mark.parametrize("content", [Content(b"", (b"text\r\n",)), Content(b"", ()), Content(b"Subject: x\r\n", ())])
async def test_messages_with_hardly_a_header_get_one(parts: ControlContext, content: Content) -> None:
    message = stored(id="aaaaaa111111", profile="support", sender="support@acmejets.example")
    await parts.queue.add(NewMessage(message=message, content=content))
    told = await AdminOperations(parts).run("queue.preview", {"id": "aaaaaa111111"})
    assert {"From", "Date", "Message-ID"} <= {change["field"] for change in told["changes"]}


async def test_what_goes_no_further_says_why(parts: ControlContext) -> None:
    await parts.queue.add(
        new(stored(id="aaaaaa111111", profile="gone")), new(stored(State.DELIVERED, id="bbbbbb111111"))
    )
    operations = AdminOperations(parts)
    with pytest.raises(Refused, match="its channel or agent is gone"):
        await operations.run("queue.preview", {"id": "aaaaaa111111"})
    with pytest.raises(Refused, match="its content is no longer there"):
        await operations.run("queue.preview", {"id": "bbbbbb111111"})
    with pytest.raises(NotFound, match="there is no message"):
        await operations.run("queue.preview", {"id": "dddddd"})


async def test_a_journey_names_the_reports_about_it_and_no_mail_that_only_looks_so(parts: ControlContext) -> None:
    subject = "report about aaaaaa111111: failed"
    await parts.queue.add(
        new(stored(State.FAILED, id="aaaaaa111111")),
        new(stored(id="bbbbbb111111", minute=1, sender="", subject=subject, is_report=True)),
        new(stored(id="cccccc111111", minute=2, sender="", subject=subject)),
    )
    journey = await AdminOperations(parts).run("messages.show", {"id": "aaaaaa111111"})
    assert [(one["id"], one["kind"], one["state"]) for one in journey["reports"]] == [
        ("bbbbbb111111", "failed", "queued")
    ]
    assert (await AdminOperations(parts).run("messages.show", {"id": "bbbbbb111111"}))["reports"] == []
