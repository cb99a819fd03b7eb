"""The part of a report that programs read: message/delivery-status (RFC 3464), with UTF-8 by RFC 6533.

SECURITY: servers and clients wrote most of what stands here. Each value becomes one line of printable text before it
is folded, and an address was checked when it became one.
"""

import contextlib
import re
from collections.abc import Iterator

from relay.mail.address import AddressError, domain_key
from relay.mail.notify import decode_xtext
from relay.mail.report_facts import Kind, RecipientFacts, ReportFacts
from relay.mail.trace import format_date
from relay.mail.words import fold

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9.\-_:\[\]]")
_MOST_NAME = 255
# What would end a line or turn its letters around: controls, line separators, writing directions.
_UNSEEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_MOST_TEXT = 2000
# RFC 5322 section 2.1.1: a line is at most 998 octets, and folding needs spaces. A character has up to 4 octets.
_LONG_WORD = re.compile(r"[^ ]{200}(?=[^ ])")


def status_block(facts: ReportFacts) -> bytes:
    """Return the fields about the message and then those about each recipient, in groups with an empty line between.

    It is ASCII unless `facts.needs_utf8`.
    """
    groups = [_message_fields(facts), *(_recipient_fields(each, facts) for each in facts.recipients)]
    return b"\r\n".join(b"".join(fold(name, value) for name, value in group) for group in groups)


def one_line(text: str, most: int = _MOST_TEXT) -> str:
    """Return foreign text as one printable line: at most `most` characters and "...", endless words broken."""
    words = " ".join(_UNSEEN.sub(" ", text).split())
    shown = words if len(words) <= most else words[:most] + "..."
    return _LONG_WORD.sub(r"\g<0> ", shown)


def host_name(name: str) -> str:
    """Return a host's name or IP address in ASCII, without anything that is not of a name."""
    # An IPv6 address is no domain, nor may this text be anything that we know: what it holds is cleaned below.
    with contextlib.suppress(AddressError):
        name = domain_key(name)
    return _NOT_A_NAME.sub("?", name[:_MOST_NAME]) or "unknown"


def _message_fields(facts: ReportFacts) -> Iterator[tuple[str, str]]:
    envid = decode_xtext(facts.envelope.envid).strip() if facts.envelope.envid else ""
    if envid:
        yield "Original-Envelope-Id", envid
    yield "Reporting-MTA", f"dns; {host_name(facts.reporting_mta)}"
    yield "Arrival-Date", format_date(facts.arrival)


def _recipient_fields(each: RecipientFacts, facts: ReportFacts) -> Iterator[tuple[str, str]]:
    recipient = each.recipient
    if recipient.original is not None:
        yield "Original-Recipient", f"{recipient.original.address_type}; {recipient.original.address.strip()}"
    yield "Final-Recipient", f"{'rfc822' if recipient.address.is_ascii else 'utf-8'}; {recipient.address}"
    yield "Action", each.action.value
    yield "Status", each.status
    if each.remote_mta:
        yield "Remote-MTA", f"dns; {host_name(each.remote_mta)}"
    if each.reply is not None:
        yield "Diagnostic-Code", _diagnostic(each, facts)
    if each.last_attempt is not None:
        yield "Last-Attempt-Date", format_date(each.last_attempt)
    if each.will_retry_until is not None and facts.kind is Kind.DELAYED:
        yield "Will-Retry-Until", format_date(each.will_retry_until)


def _diagnostic(each: RecipientFacts, facts: ReportFacts) -> str:
    # RFC 3464 section 2.3.6: the type "smtp" is for a server's own reply, and private types begin with "X-".
    text = f"{'smtp' if each.remote_mta else 'X-Relay'}; {one_line(str(each.reply))}"
    return text if facts.needs_utf8 else text.encode("ascii", "replace").decode("ascii")
