"""What a receiver saw of a message, for people: SPF, DKIM and DMARC in its own words, and the From that arrived."""

from collections.abc import Iterator, Sequence

from relay.mail.address import Address
from relay.mail.authentication_results import ReceiverVerdict, receivers_verdicts
from relay.mail.mailbox import MailboxFault, parse_from
from relay.mail.mime import Fields, value_of

# For each method, the properties that say about whom it is.
_SUBJECTS = {
    "spf": ("smtp.mailfrom", "smtp.helo"),
    "dkim": ("header.d", "header.i"),
    "dmarc": ("header.from",),
}


def seen_by_receiver(fields: Fields, first_sent: str, sender: Address) -> Iterator[tuple[str, bool, str]]:
    """Yield (step, whether it is good, in words) for spf, dkim, dmarc and from.

    `first_sent` names the field that stood on top when the message was sent. SPF or DKIM alone may fail where DMARC
    passes: one that is aligned is enough (RFC 9989). What the receiver does not say is no fault.
    """
    seen = receivers_verdicts(fields, first_sent)
    if seen is None:
        yield "auth", True, "the receiver wrote no Authentication-Results: it does not tell what it saw"
    else:
        yield from _judged(*seen)
    yield _from(value_of(fields, "from"), sender)


def _judged(authserv_id: str, verdicts: Sequence[ReceiverVerdict]) -> Iterator[tuple[str, bool, str]]:
    receiver = authserv_id or "the receiver"
    is_proven = any(verdict.method == "dmarc" and verdict.result == "pass" for verdict in verdicts)
    for method, names in _SUBJECTS.items():
        mine = [verdict for verdict in verdicts if verdict.method == method]
        if not mine:
            yield method, True, f"{receiver} does not say"
            continue
        words = ", ".join(_words(verdict, names) for verdict in mine)
        is_good = is_proven or any(verdict.result == "pass" for verdict in mine)
        yield method, is_good, f"{words} (says {receiver})"


def _words(verdict: ReceiverVerdict, names: Sequence[str]) -> str:
    subject = verdict.get(*names)
    return f"{verdict.result} for {subject}" if subject else verdict.result


def _from(value: str, sender: Address) -> tuple[str, bool, str]:
    try:
        address = parse_from(value.encode("utf-8", "replace")).address
    except MailboxFault as fault:
        return "from", False, f"the From that arrived cannot be read: {fault}"
    if address.key == sender.key:
        return "from", True, f"{address}, as it was sent"
    return "from", False, f"{address} arrived and {sender} was sent: the provider replaced it"
