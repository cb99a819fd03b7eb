"""The part of a report that people read: what happened, to whom, in the server's own words, and what they can do."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from relay.mail.content import ContentRefused
from relay.mail.header import Header
from relay.mail.report_facts import Action, Kind, RecipientFacts, ReportFacts, who_wants
from relay.mail.report_fields import host_name, one_line
from relay.mail.words import decode_words

_WIDTH = 72
_MOST_SUBJECT = 200
_UNBROKEN = "\N{NO-BREAK SPACE}"  # keeps a code on one line
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_ASK = "show this message to the person who looks after your mail."
_UNREACHED = f"Send it again later. If it fails again, {_ASK}"
# By subject and detail of the enhanced code (RFC 3463 section 3), or by subject alone.
_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "1": "Check the address for typing mistakes. If it is right, the mailbox may no longer exist: ask the person"
        " for another address.",
        "1.7": _ASK.capitalize(),
        "1.8": _ASK.capitalize(),
        "2": "Reach the person in another way, or send the message again later.",
        "2.2": "The mailbox is full. Reach the person in another way, or send the message again later.",
        "2.3": "The message is too large. Send a smaller one, for instance with a link instead of the attachment.",
        "3": _UNREACHED,
        "3.4": "The message is too large. Send a smaller one, for instance with a link instead of the attachment.",
        "4": _UNREACHED,
        "6": "Send it again in a simpler form, for instance as plain text without attachments.",
        "6.7": "The mail server takes no addresses with letters beyond a to z. Ask the person for another address.",
        "7.30": "You asked that this message travels by encrypted connections only, and the outgoing mail server cannot"
        f" promise that. Send it without that wish if it may travel otherwise, or {_ASK}",
        "7": f"The mail server refuses this message by its rules. Its words above say why; {_ASK}",
    }
)


def subject(facts: ReportFacts) -> str:
    """Return the report's subject. It holds nothing that others wrote."""
    if facts.kind is Kind.FAILED:
        return "Your message could not be delivered"
    if facts.kind is Kind.DELAYED:
        return "Your message is delayed"
    return "Your message was passed on" if _is_relayed(facts) else "Your message was delivered"


def text(facts: ReportFacts) -> str:
    """Return the text with LF line ends, at most 72 characters wide where words allow that."""
    paragraphs = [
        _wrapped(_opening(facts)),
        *_original(facts),
        *(paragraph for group in _groups(facts.recipients) for paragraph in _group(group, facts)),
        _wrapped(
            f"This message was written by the mail service on {host_name(facts.reporting_mta)}. Please do not answer"
            " it. What is attached helps the person who looks after your mail."
        ),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _opening(facts: ReportFacts) -> str:
    count = len(facts.recipients)
    whom = str(facts.recipients[0].recipient.address) if count == 1 else f"{count} addresses, which are named below"
    if facts.kind is Kind.FAILED:
        return f"Your message could not be delivered to {whom}."
    if facts.kind is Kind.DELAYED:
        again = "You do not need to send it again: the mail service goes on trying."
        return f"Your message has not yet reached {whom}. {again}"
    if _is_relayed(facts):
        last = "That server confirms no deliveries, so this is the last confirmation that you get."
        return f"Your message to {whom} was accepted by the next mail server. {last}"
    return f"Your message was delivered to {whom}."


def _original(facts: ReportFacts) -> Iterator[str]:
    """Say which message it was."""
    try:
        fields = Header.parse(facts.header).get_all("subject")
    except ContentRefused:
        fields = ()
    title = one_line(decode_words(fields[0].text), _MOST_SUBJECT) if fields else ""
    subject_line = _wrapped(f"Subject: {title}", 4) + "\n" if title else ""
    yield f"{subject_line}    Sent: {_moment(facts.arrival)}"


def _groups(recipients: Sequence[RecipientFacts]) -> Iterator[list[RecipientFacts]]:
    """Put together what happened alike, so that many recipients make no endless text."""
    groups: dict[tuple[object, ...], list[RecipientFacts]] = {}
    for each in recipients:
        wants_failure = who_wants(Kind.FAILED, each.recipient.notify)
        alike = (each.action, each.status, each.reply, each.remote_mta, each.will_retry_until, wants_failure)
        groups.setdefault(alike, []).append(each)
    yield from groups.values()


def _group(group: Sequence[RecipientFacts], facts: ReportFacts) -> Iterator[str]:
    first = group[0]
    if len(facts.recipients) > 1:
        yield "\n".join(str(each.recipient.address) for each in group)
    yield from _answer(first)
    if facts.kind is Kind.FAILED:
        if first.status.startswith("4"):
            yield _wrapped("It was tried several times without success, and is not tried again.", 4)
        yield _wrapped(f"What you can do: {_advice(first.status)}", 4)
    if facts.kind is Kind.DELAYED and first.will_retry_until is not None:
        told = " If that fails, you are told." if who_wants(Kind.FAILED, first.recipient.notify) else ""
        yield _wrapped(f"It is tried again until {_moment(first.will_retry_until)}.{told}", 4)


def _answer(each: RecipientFacts) -> Iterator[str]:
    """Give the server's own words, always indented: they must not look like ours."""
    if each.reply is None:
        return
    code = f"{each.reply.code} {each.reply.enhanced}".strip().replace(" ", _UNBROKEN)
    words = f'"{one_line(each.reply.text)}" ({code})' if each.reply.text else f"({code})"
    speaker = f"The mail server {host_name(each.remote_mta)} said:" if each.remote_mta else "The reason:"
    yield f"{_wrapped(speaker, 4)}\n{_wrapped(words, 8)}".replace(_UNBROKEN, " ")


def _advice(status: str) -> str:
    detail = status.partition(".")[2]
    return _ADVICE.get(detail) or _ADVICE.get(detail.partition(".")[0]) or _ASK.capitalize()


def _is_relayed(facts: ReportFacts) -> bool:
    return any(each.action is Action.RELAYED for each in facts.recipients)


def _moment(moment: datetime) -> str:
    at = moment.astimezone(UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


def _wrapped(words: str, indent: int = 0) -> str:
    space = " " * indent
    return textwrap.fill(
        words, _WIDTH, initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )
