"""What is owed to a sender after an attempt, and by which way it goes."""

from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.message import Message

import pytest

from relay.delivery.dsn import Reporter
from relay.directory.model import Meaning
from relay.directory.routing import Route, Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.content import Content
from relay.mail.dsn_parameters import Notify, Return
from relay.store.queue.messages import NewMessage, StoredMessage
from relay.upstream.outcome import Outcome, Phase
from tests.unit.delivery.bench_kit import DIRECTORY
from tests.unit.delivery.outcome_kit import NOW, SCHEDULE, TAKEN, failure, message_for, verdict_on

CONTENT = Content(b"Subject: hello\r\n", (b"the body\r\n",))
ROUTING = Routing(parse_directory(DIRECTORY, "directory.toml"))
REFUSED = Outcome(host="mx.example", failure=failure(Meaning.REFUSED, 550))
BUSY = Outcome(host="mx.example", failure=failure(Meaning.TEMPORARY, 450))
AWAY = Outcome(host="", failure=replace(failure(Meaning.TEMPORARY, 451, phase=Phase.CONNECT), from_server=False))
ACCEPTED = Outcome(host="mx.example", accepted=TAKEN)
LATE = 5 * 3600.0


def way_of(profile: str) -> Route:
    found = ROUTING.directory.profile(profile)
    route = ROUTING.route_of(found) if found else None
    assert route is not None
    return route


DEFAULT = ROUTING.default_route()


def reports_on(
    outcome: Outcome,
    message: StoredMessage | None = None,
    *,
    fallback: Route | None = DEFAULT,
    route: Route | None = way_of("support"),  # noqa: B008  frozen
    has_dsn: bool = False,
) -> tuple[NewMessage, ...]:
    return Reporter("relay.test", SCHEDULE).reports(
        verdict_on(message or message_for(), outcome),
        CONTENT,
        route=route,
        fallback=fallback,
        server=outcome.host,
        has_dsn=has_dsn,
        now=NOW,
    )


def read(report: NewMessage) -> Message:
    assert report.content is not None
    return message_from_bytes(b"".join(report.content.chunks()))


def status_of(report: NewMessage) -> str:
    return str(read(report).get_payload(1))


def asking(notify: str, message: StoredMessage | None = None) -> StoredMessage:
    """The same message with this NOTIFY for all."""
    message = message or message_for()
    stored = tuple(
        replace(each, recipient=replace(each.recipient, notify=Notify(notify))) for each in message.recipients
    )
    envelope = replace(message.envelope, recipients=tuple(each.recipient for each in stored))
    return replace(message, recipients=stored, envelope=envelope)


def test_a_delay_is_told_with_its_reason_in_the_servers_words() -> None:
    (report,) = reports_on(BUSY, message_for(age=LATE))
    text = str(read(report).get_payload(0))
    assert '"said the server" (450 4.0.0)' in text
    assert "Action: delayed" in status_of(report)
    assert "Diagnostic-Code: smtp; 450 4.0.0 said the server" in status_of(report)
    until = NOW - timedelta(seconds=LATE) + timedelta(seconds=SCHEDULE.give_up_after)
    assert f"{until:%H:%M} UTC" in text


@pytest.mark.parametrize(("outcome", "profile"), [(BUSY, "support"), (AWAY, None)])
@pytest.mark.parametrize("age", [LATE, 97 * 3600.0])
def test_a_report_takes_the_default_way_where_its_own_is_what_fails(
    outcome: Outcome, profile: str | None, age: float
) -> None:
    (report,) = reports_on(outcome, message_for(age=age))
    assert report.message.profile == profile
    identity = "support@acmejets.example" if profile else "mailer@acmejets.example"
    assert read(report)["From"] == f"Mail delivery <{identity}>"
    # By which the history finds it.
    assert read(report)["Message-ID"] == report.message.message_id


def test_without_a_default_server_a_report_waits_for_its_own_way() -> None:
    (report,) = reports_on(AWAY, message_for(age=LATE), fallback=None)
    assert report.message.profile == "support"
    assert reports_on(AWAY, message_for(age=LATE), fallback=None, route=None) == ()


def test_a_report_about_mail_that_requires_tls_requires_it_too_and_holds_only_its_header() -> None:
    message = message_for()
    message = replace(message, envelope=replace(message.envelope, ret=Return.FULL))
    (whole,) = reports_on(REFUSED, message)
    assert not whole.message.envelope.require_tls
    assert b"the body" in bytes(read(whole))
    strict = replace(message, envelope=replace(message.envelope, require_tls=True))
    (header_only,) = reports_on(REFUSED, strict)
    assert header_only.message.envelope.require_tls
    assert header_only.message.envelope.sender is None
    assert b"the body" not in bytes(read(header_only))


@pytest.mark.parametrize(
    ("notify", "outcome", "age", "has_dsn", "action"),
    [
        ("SUCCESS", ACCEPTED, 0, False, "relayed"),
        ("SUCCESS", ACCEPTED, 0, True, None),
        ("FAILURE", ACCEPTED, 0, False, None),
        ("NEVER", REFUSED, 0, False, None),
        ("SUCCESS,DELAY", REFUSED, 0, False, None),
        ("FAILURE", REFUSED, 0, True, "failed"),
        ("DELAY", BUSY, LATE, False, "delayed"),
        ("DELAY", BUSY, LATE, True, "delayed"),
        ("FAILURE", BUSY, LATE, False, None),
    ],
)
def test_notify_decides(notify: str, outcome: Outcome, age: float, has_dsn: bool, action: str | None) -> None:
    reports = reports_on(outcome, asking(notify, message_for(age=age)), has_dsn=has_dsn)
    assert [status_of(report).partition("Action: ")[2].split()[0] for report in reports] == [action] * bool(action)
