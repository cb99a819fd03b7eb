"""What a relay writes on and reads from a message's way: Received (RFC 5321 section 4.4), Message-ID, Date, loops."""

import os
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from relay.mail.address import Address
from relay.mail.content import ContentRefused
from relay.mail.envelope import Recipient
from relay.mail.header import Header, value_of
from relay.mail.reply import Reply

MOST_RECEIVED = 50
MOST_OF_OURS = 3
# Everything else could close a comment or start a field of the Received line; nothing after HELO is to be trusted.
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9.\-_:\[\]]")
_MOST_NAME = 255
_BY = re.compile(rb"(?:^|[\s)])by\s+([^\s;()]+)", re.IGNORECASE)
# Names of RFC 5322 section 3.3, which strftime would write in the process's language.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Ten bits are two characters of base32hex (RFC 4648 section 7), in lower case.
_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)
_SHIFTS = tuple(range(110, -1, -10))


# Version, trace, span and flags (W3C Trace Context section 3.2.2).
_TRACEPARENT = re.compile(
    rb"^traceparent:[ \t]*([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})[ \t]*\r$", re.IGNORECASE | re.MULTILINE
)


class Arrival(NamedTuple):
    """How a message reached us.

    `helo` is what the client called itself, untrusted; `peer` its IP address, or "unix" or "local"; `hostname` is
    ours. `protocol` is the word of RFC 3848 or RFC 6531 ("ESMTP", "ESMTPSA", "UTF8SMTP"); `id` comes from `new_id`;
    `received_at` is aware, in UTC; `login` is "" without one.
    """

    helo: str
    peer: str
    hostname: str
    protocol: str
    id: str
    received_at: datetime
    login: str = ""


def new_id(now: datetime) -> str:
    """Return a new message id: 24 characters that sort by time (milliseconds) and cannot be guessed (72 bits)."""
    # As secrets.token_bytes, but with the interpreter held: to leave it to others for so short a time costs far more.
    number = int(now.timestamp() * 1000) << 72 | int.from_bytes(os.getrandom(9), "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def traceparent_of(header: bytes) -> str:
    """Return the trace that a header block names in its first `traceparent`; "" for none, and for what is none."""
    found = _TRACEPARENT.search(header)
    return found[1].decode() if found is not None else ""


def message_id(unique: str, address: Address) -> str:
    """Return a Message-ID in the domain of an address. The same arguments give the same id at every attempt."""
    return f"<{unique}@{address.domain_key}>"


def format_date(moment: datetime) -> str:
    """Return an aware time as RFC 5322 section 3.3 writes it: "Mon, 24 Nov 2025 09:05:07 +0000"."""
    iso = moment.isoformat(timespec="seconds")  # 2025-11-24T09:05:07+00:00; strftime takes ten times as long
    day, month = f"{_DAYS[moment.weekday()]}, {iso[8:10]}", _MONTHS[moment.month - 1]
    return f"{day} {month} {iso[:4]} {iso[11:19]} {iso[19:22]}{iso[23:25]}"


def received_field(arrival: Arrival, recipients: Sequence[Recipient]) -> bytes:
    """Return our Received field with its folds and CRLF.

    `for` names the recipient only where there is one, so that nobody learns of a Bcc. A recipient that is not ASCII
    stays out: it would make the header need SMTPUTF8.
    """
    helo, peer, hostname, protocol, unique, received_at, _ = arrival
    named = ""
    if len(recipients) == 1:
        recipient = recipients[0].address
        named = f"\r\n\tfor <{recipient.text}>" if recipient.is_ascii else ""
    way = _way(helo, peer, hostname, protocol)
    line = f"{way} id {_name(unique)}{named};\r\n\t{format_date(received_at)}\r\n"
    return line.encode("ascii")


def check_loop(header: Header, hostname: str) -> None:
    """Raise ContentRefused (554 5.4.6) for a message that goes round: over 50 Received fields, or three of ours."""
    received = header.named.get("received", ())
    ours = sum(_is_by(value_of(raw), hostname) for raw in received)
    if len(received) > MOST_RECEIVED or ours >= MOST_OF_OURS:
        raise ContentRefused(Reply(554, "5.4.6", f"mail loop: {len(received)} Received fields, {ours} of them ours"))


def _is_by(value: bytes, hostname: str) -> bool:
    match = _BY.search(value)
    return match is not None and match[1].decode("ascii", "replace").lower() == hostname.lower()


@lru_cache(maxsize=1024)
def _way(helo: str, peer: str, hostname: str, protocol: str) -> str:
    return f"Received: from {_name(helo)} ({_peer(peer)})\r\n\tby {_name(hostname)} with {_name(protocol)}"


def _name(text: str) -> str:
    return _NOT_A_NAME.sub("?", text[:_MOST_NAME]) or "unknown"


def _peer(peer: str) -> str:
    """Return where a connection came from: an address literal (RFC 5321 section 4.1.3), or a word."""
    clean = _name(peer)
    if ":" in clean:
        return f"[IPv6:{clean}]"
    return f"[{clean}]" if "." in clean else clean
