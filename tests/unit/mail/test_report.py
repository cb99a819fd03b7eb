"""Whatever servers and clients wrote, a report is one well-formed multipart/report with only our fields in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.dsn_parameters import Notify, OriginalRecipient, Return, encode_xtext
from relay.mail.envelope import Envelope, Recipient
from relay.mail.header import Header
from relay.mail.reply import Reply
from relay.mail.report import LARGEST_RETURNED, write_report
from relay.mail.report_facts import Action, RecipientFacts, ReportFacts, ReportKind, may_report, who_wants
from tests.unit.mail.mail_kit import OWN, read, send

ID = "0123456789abcdefghijklmn"
SENDER = Address.parse("support@acme.example")
BOB = Recipient(Address.parse("bob@customer.example"))
EVE = Recipient(Address.parse("eve@customer.example"))
UMLAUT = Recipient(Address.parse("jürgen@customer.example"))
UNKNOWN = Reply(550, "5.1.1", "no such user here")
MX = "mx.customer.example"
HEADER = b"From: support@acme.example\r\nSubject: Offer 4711\r\nMessage-ID: <1@client.example>\r\n"
OUR_FIELDS = ["from", "to", "subject", "date", "message-id", "in-reply-to", "references", "auto-submitted"]
MIME_FIELDS = ["mime-version", "content-type", "content-transfer-encoding"]
MESSAGE_FIELDS = {"Original-Envelope-Id", "Reporting-MTA", "Arrival-Date"}
RECIPIENT_FIELDS = {"Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"}
ACTIONS = {ReportKind.FAILED: Action.FAILED, ReportKind.DELAYED: Action.DELAYED, ReportKind.DELIVERED: Action.DELIVERED}
FAILED = RecipientFacts(recipient=BOB, action=Action.FAILED, reply=UNKNOWN, remote_mta=MX)
FACTS = ReportFacts(
    kind=ReportKind.FAILED,
    id=ID,
    date=datetime(2025, 11, 24, 10, tzinfo=UTC),
    reporting_mta="relay.example",
    identity=SENDER,
    arrival=datetime(2025, 11, 24, 9, 5, 7, tzinfo=UTC),
    envelope=Envelope(SENDER, (BOB,)),
    header=HEADER,
    recipients=(FAILED,),
)


@dataclass(frozen=True)
class Report:
    """A report as the standard library reads it."""

    raw: bytes
    message: Message
    parts: list[Message]

    @property
    def text(self) -> str:
        payload = self.parts[0].get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload.decode().replace("\r\n", "\n")

    @property
    def groups(self) -> list[dict[str, str]]:
        """The fields of the delivery status, unfolded, group by group; read by hand, as RFC 3464 section 2.1 says."""
        part = self.raw.split(b"\r\n--" + self.boundary)[2].partition(b"\r\n\r\n")[2] + b"\r\n"
        groups = [Header.parse(group + b"\r\n") for group in part.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n")]
        return [{item.name: item.text for item in group.fields} for group in groups]

    @property
    def read_groups(self) -> list[Message]:
        """The same as the standard library splits them; it knows them only in message/delivery-status."""
        payload = self.parts[1].get_payload()
        assert isinstance(payload, list)
        return [group for group in payload if isinstance(group, Message)]

    @property
    def boundary(self) -> bytes:
        return str(self.message.get_boundary()).encode()

    @property
    def original(self) -> bytes:
        payload = self.parts[2].get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload


def report(facts: ReportFacts) -> Report:
    content = write_report(facts)
    raw = b"".join(content.chunks())
    message = message_from_bytes(raw, policy=policy.compat32)
    parts = message.get_payload()
    assert isinstance(parts, list)
    return Report(raw, message, [part for part in parts if isinstance(part, Message)])


def about(
    *recipients: RecipientFacts, kind: ReportKind = ReportKind.FAILED, envelope: Envelope | None = None
) -> Report:
    return report(replace(FACTS, kind=kind, recipients=recipients, envelope=envelope or FACTS.envelope))


def types_of(made: Report) -> list[str]:
    return [part.get_content_type() for part in made.parts]


HOSTILE = st.lists(
    st.sampled_from(
        [
            "\r\nX-Injected: yes\r\n\r\n",
            "\nX-Injected: yes",
            "\r",
            "\0\x1b[2J\x7f",
            "\x85X-Injected: yes",
            "\u2028X-Injected: yes\u2029",
            "\u202e",
            "=?utf-8?q?=0D=0AX-Injected:_yes?=",
            f"\r\n--{ID}.1\r\nContent-Type: text/html\r\n\r\n<b>",
            f"--{ID}.1--",
            f"--{ID}.2",
            "x" * 3000,
            "ü" * 1500,
            "a b " * 400,
            "(",
            '"',
            "; ",
            ".",
            "\N{GRINNING FACE}",
        ]
    )
    | st.text(max_size=30),
    max_size=6,
).map("".join)
HEADER_LINES = st.lists(
    HOSTILE.map(lambda text: re.sub(rb"[\r\n\0]", b"", text.encode("utf-8", "replace"))) | st.just(b"\xff\xfe"),
    max_size=5,
)


def test_an_envelope_id_of_white_space_alone_makes_no_field() -> None:
    made = report(replace(FACTS, envelope=Envelope(SENDER, envid=encode_xtext(" "))))
    assert set(made.groups[0]) == {"Reporting-MTA", "Arrival-Date"}


@given(
    kind=st.sampled_from(ReportKind),
    replies=st.lists(st.tuples(st.sampled_from([250, 421, 451, 550, 554]), HOSTILE), min_size=1, max_size=3),
    host=HOSTILE,
    lines=HEADER_LINES,
    names=st.sampled_from([b"Subject: ", b"X: ", b"Message-ID: ", b""]),
    envid=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30),
    recipient=st.sampled_from([BOB, UMLAUT, Recipient(Address.parse('"(a\\" b"@customer.example'))]),
    ret=st.sampled_from([None, *Return]),
)
def test_nothing_hostile_becomes_a_field_or_a_part(
    kind: ReportKind,
    replies: list[tuple[int, str]],
    host: str,
    lines: list[bytes],
    names: bytes,
    envid: str,
    recipient: Recipient,
    ret: Return | None,
) -> None:
    """Whatever is in replies, host names, ENVID and the message: our fields only, three parts, and short lines."""
    header = b"".join(names + line + b"\r\n" for line in lines)
    facts = ReportFacts(
        kind=kind,
        id=ID,
        date=FACTS.date,
        reporting_mta=host,
        identity=SENDER,
        arrival=FACTS.arrival,
        envelope=Envelope(SENDER, envid=encode_xtext(envid), ret=ret),
        header=header,
        recipients=tuple(
            RecipientFacts(
                recipient=recipient, action=ACTIONS[kind], reply=Reply.of_upstream(code, text), remote_mta=host
            )
            for code, text in replies
        ),
        content=Content(header, (header,)),
    )
    made = report(facts)
    check_form(made, is_utf8=recipient is UMLAUT)
    assert len(made.groups) == 1 + len(replies)
    assert set(made.groups[0]) <= MESSAGE_FIELDS
    assert all(set(group) <= RECIPIENT_FIELDS for group in made.groups[1:])
    assert [group["Action"] for group in made.groups[1:]] == [kind.value] * len(replies)
    if recipient is not UMLAUT:
        assert [group.keys() for group in made.read_groups] == [list(group) for group in made.groups]
    assert made.text.splitlines() == made.text.split("\n")[:-1]
    assert all(len(value.splitlines()) == 1 for group in made.groups for value in group.values())
    assert "\u202e" not in made.text
    if not made.parts[2].is_multipart():
        assert made.original == header


def check_form(made: Report, *, is_utf8: bool = False) -> None:
    """What holds for every report: canonical lines of at most 998 octets, our fields only, three parts, no defects."""
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", made.raw)
    assert max(map(len, made.raw.split(b"\r\n"))) <= 998
    header = Header.parse(made.raw.partition(b"\r\n\r\n")[0] + b"\r\n")
    names = [item.key for item in header.fields]
    assert [name for name in names if name not in {"in-reply-to", "references"}] == [
        name for name in OUR_FIELDS + MIME_FIELDS if name not in {"in-reply-to", "references"}
    ]
    assert bytes(header).isascii()
    assert made.message["Content-Transfer-Encoding"] == ("7bit" if made.raw.isascii() else "8bit")
    assert len(made.parts) == 3
    assert made.raw.count(b"--" + made.boundary) == 4
    assert not made.message.defects
    assert not any(part.defects for part in made.parts)
    status = "message/global-delivery-status" if is_utf8 else "message/delivery-status"
    assert types_of(made)[:2] == ["text/plain", status]


def test_the_fields_of_a_report() -> None:
    made = report(FACTS)
    check_form(made)
    message = message_from_bytes(made.raw, policy=policy.default)
    assert message["From"] == "Mail delivery <support@acme.example>"
    assert message["To"] == "support@acme.example"
    assert message["Subject"] == "Your message could not be delivered"
    assert message["Date"].datetime == FACTS.date
    assert message["Message-ID"] == f"<{ID}@acme.example>"
    assert message["In-Reply-To"] == message["References"] == "<1@client.example>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"


def test_the_standard_library_reads_the_delivery_status() -> None:
    assert [dict(group.items()) for group in report(FACTS).read_groups] == [
        {"Reporting-MTA": "dns; relay.example", "Arrival-Date": "Mon, 24 Nov 2025 09:05:07 +0000"},
        {
            "Final-Recipient": "rfc822; bob@customer.example",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.customer.example",
            "Diagnostic-Code": "smtp; 550 5.1.1 no such user here",
        },
    ]


def test_every_field_of_a_delay() -> None:
    recipient = replace(BOB, original=OriginalRecipient("rfc822", "bob+2Btag@customer.example"))
    delayed = RecipientFacts(
        recipient=recipient,
        action=Action.DELAYED,
        reply=Reply(451, "4.3.0", "later"),
        remote_mta=MX,
        last_attempt=datetime(2025, 11, 24, 13, tzinfo=UTC),
        will_retry_until=datetime(2025, 11, 28, 9, 5, 7, tzinfo=UTC),
    )
    made = about(delayed, kind=ReportKind.DELAYED, envelope=Envelope(SENDER, envid="QQ+20314"))
    check_form(made)
    assert made.groups == [
        {
            "Original-Envelope-Id": "QQ 314",
            "Reporting-MTA": "dns; relay.example",
            "Arrival-Date": "Mon, 24 Nov 2025 09:05:07 +0000",
        },
        {
            "Original-Recipient": "rfc822; bob+tag@customer.example",
            "Final-Recipient": "rfc822; bob@customer.example",
            "Action": "delayed",
            "Status": "4.3.0",
            "Remote-MTA": "dns; mx.customer.example",
            "Diagnostic-Code": "smtp; 451 4.3.0 later",
            "Last-Attempt-Date": "Mon, 24 Nov 2025 13:00:00 +0000",
            "Will-Retry-Until": "Fri, 28 Nov 2025 09:05:07 +0000",
        },
    ]


def test_only_a_delay_is_tried_again() -> None:
    until = datetime(2025, 11, 28, tzinfo=UTC)
    assert "Will-Retry-Until" not in about(replace(FAILED, will_retry_until=until)).groups[1]


def test_where_no_server_answered_the_reply_is_ours() -> None:
    made = about(replace(FAILED, remote_mta="", reply=Reply(451, "4.4.1", "no answer")))
    assert "Remote-MTA" not in made.groups[1]
    assert made.groups[1]["Diagnostic-Code"] == "X-Relay; 451 4.4.1 no answer"
    assert "said" not in made.text
    assert 'The reason:\n        "no answer" (451 4.4.1)\n' in made.text


@pytest.mark.parametrize(
    ("action", "reply", "enhanced", "status"),
    [
        (Action.FAILED, UNKNOWN, "", "5.1.1"),
        (Action.FAILED, Reply(451, "4.2.2", "full"), "", "4.2.2"),
        (Action.FAILED, Reply(451, "4.2.2", "full"), "5.4.7", "5.4.7"),
        (Action.FAILED, None, "", "5.0.0"),
        (Action.FAILED, Reply(250, "2.0.0", "Ok"), "", "5.0.0"),
        (Action.DELAYED, Reply(554, "5.2.0", "quota"), "", "4.2.0"),
        (Action.DELAYED, None, "", "4.0.0"),
        (Action.DELIVERED, Reply(250, "2.1.5", "Ok"), "", "2.1.5"),
        (Action.RELAYED, Reply(250, "", "Ok"), "", "2.0.0"),
    ],
)
def test_a_status_is_the_reply_s_in_the_class_of_its_action(
    action: Action, reply: Reply | None, enhanced: str, status: str
) -> None:
    assert RecipientFacts(recipient=BOB, action=action, reply=reply, enhanced=enhanced).status == status


def test_the_text_of_a_failure() -> None:
    assert report(FACTS).text == (
        "Your message could not be delivered to bob@customer.example.\n"
        "\n"
        "    Subject: Offer 4711\n"
        "    Sent: 24 November 2025, 09:05 UTC\n"
        "\n"
        "    The mail server mx.customer.example said:\n"
        '        "no such user here" (550 5.1.1)\n'
        "\n"
        "    What you can do: Check the address for typing mistakes. If it is\n"
        "    right, the mailbox may no longer exist: ask the person for another\n"
        "    address.\n"
        "\n"
        "This message was written by the mail service on relay.example. Please do\n"
        "not answer it. What is attached helps the person who looks after your\n"
        "mail.\n"
    )


def test_recipients_with_the_same_answer_stand_together() -> None:
    full = RecipientFacts(recipient=UMLAUT, action=Action.FAILED, reply=Reply(452, "4.2.2", "full"), remote_mta=MX)
    text = about(FAILED, full, replace(FAILED, recipient=EVE)).text
    assert text.startswith("Your message could not be delivered to 3 addresses, which are named\nbelow.\n")
    assert "\nbob@customer.example\neve@customer.example\n\n    The mail server" in text
    assert text.count("no such user here") == 1
    assert "It was tried several times without success, and is not tried again." in text
    assert "The mailbox is full." in text


@pytest.mark.parametrize(
    ("notify", "is_told"), [(None, True), (Notify("DELAY"), False), (Notify("FAILURE,DELAY"), True)]
)
def test_a_delay_promises_only_what_the_client_asked_for(notify: Notify | None, *, is_told: bool) -> None:
    until = datetime(2025, 11, 28, 9, 5, tzinfo=UTC)
    recipient = replace(BOB, notify=notify)
    delayed = RecipientFacts(recipient=recipient, action=Action.DELAYED, will_retry_until=until)
    made = about(delayed, kind=ReportKind.DELAYED)
    assert made.message["Subject"] == "Your message is delayed"
    text = " ".join(made.text.split())
    assert text.startswith("Your message has not yet reached bob@customer.example. You do not need to send it again")
    assert "It is tried again until 28 November 2025, 09:05 UTC." in text
    assert ("you are told" in text) == is_told


@pytest.mark.parametrize(
    ("action", "subject", "first"),
    [
        (Action.DELIVERED, "Your message was delivered", "Your message was delivered to bob@customer.example."),
        (
            Action.RELAYED,
            "Your message was passed on",
            "Your message to bob@customer.example was accepted by the next mail server.",
        ),
    ],
)
def test_what_is_told_of_a_success(action: Action, subject: str, first: str) -> None:
    delivered = RecipientFacts(recipient=BOB, action=action, reply=Reply(250, "2.0.0", ""), remote_mta=MX)
    made = about(delivered, kind=ReportKind.DELIVERED)
    assert made.message["Subject"] == subject
    assert " ".join(made.text.split()).startswith(first)
    assert "(250 2.0.0)" in made.text
    assert made.groups[1]["Action"] == action.value
    assert "What you can do" not in made.text


@pytest.mark.parametrize(
    ("enhanced", "advice"),
    [
        ("5.1.10", "Check the address"),
        ("5.1.8", "Show this message"),
        ("5.2.2", "The mailbox is full"),
        ("5.3.4", "too large"),
        ("4.4.1", "Send it again later"),
        ("5.6.7", "letters beyond a to z"),
        ("5.7.26", "by its rules"),
        ("5.0.0", "Show this message to the person who looks after your mail."),
    ],
)
def test_what_the_sender_can_do(enhanced: str, advice: str) -> None:
    assert advice in " ".join(about(replace(FAILED, enhanced=enhanced)).text.split())


def test_a_long_reply_is_cut_and_folded() -> None:
    made = about(replace(FAILED, reply=Reply(550, "5.1.1", "no such user " * 1000 + "x" * 3000)))
    check_form(made)
    diagnostic = made.groups[1]["Diagnostic-Code"]
    assert diagnostic.startswith("smtp; 550 5.1.1 no such user no such")
    assert diagnostic.endswith("...")
    assert 2000 < len(diagnostic) < 2100
    status = made.raw.partition(b"Diagnostic-Code:")[2].partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 78 for line in status.split(b"\r\n"))


def test_the_sender_s_header_comes_back() -> None:
    made = report(FACTS)
    assert types_of(made)[2] == "text/rfc822-headers"
    assert made.parts[2]["Content-Transfer-Encoding"] == "7bit"
    assert made.original == HEADER


@pytest.mark.parametrize(
    ("header", "charset"),
    [
        ("Subject: für\r\n".encode(), "utf-8"),
        (b"Subject: f\xfcr\r\n", "windows-1252"),
        (b"X: " + b"a" * 2000 + b"\r\n", ""),
    ],
)
def test_a_header_that_is_no_plain_ascii_is_encoded(header: bytes, charset: str) -> None:
    made = report(replace(FACTS, header=header))
    check_form(made)
    assert made.raw.isascii()
    assert types_of(made)[2] == "text/rfc822-headers"
    assert (made.parts[2].get_content_charset() or "") == charset
    assert made.original == header
    assert ("für" in made.text) == bool(charset)


def returned(
    message: bytes, reply: Reply = UNKNOWN, ret: Return | None = Return.FULL, kind: ReportKind = ReportKind.FAILED
) -> Report:
    content = read(message)
    each = RecipientFacts(recipient=BOB, action=ACTIONS[kind], reply=reply, remote_mta=MX)
    envelope = Envelope(SENDER, (BOB,), ret=ret)
    return report(
        replace(FACTS, kind=kind, header=content.header, content=content, envelope=envelope, recipients=(each,))
    )


@pytest.mark.parametrize("body", [b"Hello\r\n", "Grüße\r\n".encode(), f"--{ID}.1--\r\n--{ID}.2\r\n".encode()])
def test_the_whole_message_comes_back_where_it_was_asked_for(body: bytes) -> None:
    made = returned(HEADER + b"\r\n" + body)
    check_form(made)
    assert types_of(made)[2] == "message/rfc822"
    assert b"\r\n\r\n" + HEADER + b"\r\n" + body + b"\r\n--" + made.boundary + b"--\r\n" in made.raw


@pytest.mark.parametrize(
    ("body", "reply", "ret", "kind"),
    [
        (b"Hello\r\n", UNKNOWN, Return.HEADERS, ReportKind.FAILED),
        (b"Hello\r\n", UNKNOWN, None, ReportKind.FAILED),
        (b"Hello\r\n", UNKNOWN, Return.FULL, ReportKind.DELAYED),
        (b"a" * 999 + b"\r\n", UNKNOWN, Return.FULL, ReportKind.FAILED),
        (b"Hello\r\n" * (LARGEST_RETURNED // 7), UNKNOWN, Return.FULL, ReportKind.FAILED),
        ("Grüße\r\n".encode(), Reply(554, "5.6.3", "no 8-bit mail"), Return.FULL, ReportKind.FAILED),
    ],
)
def test_else_only_the_header_comes_back(body: bytes, reply: Reply, ret: Return | None, kind: ReportKind) -> None:
    made = returned(HEADER + b"\r\n" + body, reply, ret, kind)
    check_form(made)
    assert types_of(made)[2] == "text/rfc822-headers"
    assert made.original == HEADER
    assert made.raw.isascii()


def test_without_its_content_only_the_header_comes_back() -> None:
    assert types_of(report(replace(FACTS, envelope=Envelope(SENDER, (BOB,), ret=Return.FULL))))[2].startswith("text/")


def test_an_address_beyond_ascii_needs_the_utf8_types() -> None:
    header = "To: jürgen@customer.example\r\n".encode()
    failed = replace(FAILED, recipient=UMLAUT, reply=Reply(553, "5.6.7", "kein Empfänger"))
    made = report(replace(FACTS, header=header, recipients=(failed,)))
    check_form(made, is_utf8=True)
    assert made.groups[1]["Final-Recipient"] == "utf-8; jürgen@customer.example"
    assert made.groups[1]["Diagnostic-Code"] == "smtp; 553 5.6.7 kein Empfänger"
    assert types_of(made)[2] == "message/global-headers"
    assert header in made.raw
    content = Content(header, (b"Hello\r\n",))
    envelope = Envelope(SENDER, ret=Return.FULL)
    whole = report(replace(FACTS, header=header, recipients=(failed,), content=content, envelope=envelope))
    check_form(whole, is_utf8=True)
    assert types_of(whole)[2] == "message/global"


def test_an_original_recipient_beyond_ascii_needs_them_too() -> None:
    recipient = replace(BOB, original=OriginalRecipient("utf-8", "j\\x{FC}rgen@x.example"))
    made = about(replace(FAILED, recipient=recipient))
    check_form(made, is_utf8=True)
    assert made.groups[1]["Original-Recipient"] == "utf-8; jürgen@x.example"
    assert types_of(made)[2] == "text/rfc822-headers"


def test_a_reply_beyond_ascii_does_not() -> None:
    made = about(replace(FAILED, reply=Reply(550, "5.1.1", "unbekannter Empfänger")))
    check_form(made)
    assert made.raw.isascii()
    assert made.groups[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 unbekannter Empf?nger"
    assert '"unbekannter Empfänger" (550 5.1.1)' in made.text


def test_a_server_without_8bitmime_gets_no_8_bit_report() -> None:
    failed = replace(FAILED, recipient=UMLAUT, reply=Reply(554, "5.6.3", "no 8-bit mail"))
    made = report(replace(FACTS, header="To: jürgen@customer.example\r\n".encode(), recipients=(failed,)))
    assert made.raw.isascii()
    assert [part["Content-Transfer-Encoding"] for part in made.parts] == ["quoted-printable"] * 3


def test_a_sender_beyond_ascii_stands_as_it_is() -> None:
    sender = Address.parse("grüße@büro.example")
    made = report(replace(FACTS, envelope=Envelope(sender), identity=sender))
    assert "From: Mail delivery <grüße@büro.example>\r\nTo: grüße@büro.example\r\n".encode() in made.raw
    assert made.message["Message-ID"] == f"<{ID}@xn--bro-hoa.example>"


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"no id",
        b"<a b@x>",
        b"<1@x> <2@x>",
        b"<=?utf-8?q?=0A?=@x.example>",
        b"<" + b"a" * 900 + b"@x>",
        b"<\xfc@x>",
    ],
)
def test_a_message_id_that_is_none_is_not_referred_to(written: bytes) -> None:
    made = report(replace(FACTS, header=b"Message-ID: " + written + b"\r\n"))
    assert "References" not in made.message
    assert "In-Reply-To" not in made.message


@pytest.mark.parametrize("header", [b"", b"this is no field\r\n"])
def test_a_message_without_a_readable_header_is_reported(header: bytes) -> None:
    made = report(replace(FACTS, header=header))
    check_form(made)
    assert "Subject:" not in made.text
    assert made.original == header


@pytest.mark.parametrize(
    ("host", "shown"), [("Büro.example", "xn--bro-hoa.example"), ("2001:db8::1", "2001:db8::1"), ("", "unknown")]
)
def test_host_names(host: str, shown: str) -> None:
    assert report(replace(FACTS, reporting_mta=host)).groups[0]["Reporting-MTA"] == f"dns; {shown}"


def test_a_subject_for_people_is_decoded_and_short() -> None:
    made = report(replace(FACTS, header=b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe=0D=0A?=" + b" a" * 300 + b"\r\n"))
    shown = " ".join(made.text.partition("Subject: ")[2].partition("Sent:")[0].split())
    assert shown.startswith("Grüße a a a")
    assert shown.endswith("...")
    assert len(shown) <= 203


def test_a_report_comes_out_the_same_each_time() -> None:
    assert write_report(FACTS) == write_report(FACTS)


def test_a_report_leaves_as_it_was_written() -> None:
    """The identity that it bears is its own already, so that nothing is changed on its way out."""
    assert not send(report(FACTS).raw, OWN).changes


@pytest.mark.parametrize(
    ("notify", "wanted"),
    [
        (None, [ReportKind.FAILED, ReportKind.DELAYED]),
        (Notify("NEVER"), []),
        (Notify("FAILURE"), [ReportKind.FAILED]),
        (Notify("DELAY"), [ReportKind.DELAYED]),
        (Notify("SUCCESS"), [ReportKind.DELIVERED]),
        (Notify("SUCCESS,FAILURE,DELAY"), [ReportKind.FAILED, ReportKind.DELAYED, ReportKind.DELIVERED]),
    ],
)
def test_who_wants_a_report(notify: Notify | None, wanted: Sequence[ReportKind]) -> None:
    assert [kind for kind in ReportKind if who_wants(kind, notify)] == wanted


def test_the_null_sender_is_never_told() -> None:
    assert may_report(Envelope(SENDER))
    assert not may_report(Envelope(None))
    with pytest.raises(ValueError, match="null sender"):
        replace(FACTS, envelope=Envelope(None))


def test_a_report_is_of_one_kind() -> None:
    with pytest.raises(ValueError, match="names recipients"):
        replace(FACTS, recipients=())
    with pytest.raises(ValueError, match="names recipients"):
        replace(FACTS, kind=ReportKind.DELAYED)
    with pytest.raises(ValueError, match="no enhanced code"):
        replace(FAILED, enhanced="5.1")
