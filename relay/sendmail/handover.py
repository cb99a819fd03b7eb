"""What is told to the service about a message: sender, recipients, and the header block as it goes there. Pure.

As with Postfix: -t adds the recipients of To, Cc and Bcc to those on the command line (only those of Resent-To,
Resent-Cc and Resent-Bcc, where there are any), Bcc is removed, local names get the domain of this machine, and a
message without From gets one.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from relay.mail.content import ContentRefused
from relay.mail.encoded_words import write_phrase
from relay.mail.header import Field, Header, decode_octets
from relay.mail.structured_fields import ListedAddress, ListFault, parse_address_list
from relay.sendmail.arguments import Arguments
from relay.sendmail.failure import NotSent
from relay.sendmail.origin import Origin

_TO = ("to", "cc", "bcc")
_RESENT_TO = ("resent-to", "resent-cc", "resent-bcc")
_UNSEEN = frozenset({"bcc", "resent-bcc"})
_COMPLETED = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "resent-from", "resent-sender", "resent-to", "resent-cc"}
)


@dataclass(frozen=True, slots=True)
class Handover:
    """Envelope and header block of one message. `sender` is "" for the null sender; the header has CRLF lines."""

    sender: str
    recipients: tuple[str, ...]
    header: bytes

    @property
    def is_ascii(self) -> bool:
        """Whether a service without SMTPUTF8 (RFC 6531) can be told the addresses."""
        return self.sender.isascii() and all(recipient.isascii() for recipient in self.recipients)


def prepare(arguments: Arguments, block: bytes, origin: Origin) -> Handover:
    """Return what goes to the service for a message with this header block.

    Raises NotSent where it names no recipient, or holds what is no address or no field.
    """
    try:
        header = Header.parse(block)
    except ContentRefused as refusal:
        raise NotSent(os.EX_DATAERR, refusal.reply.text) from None
    recipients = _recipients(arguments, header, origin)
    if not recipients:
        where = "the header names no recipient" if arguments.reads_recipients else "name a recipient, or give -t"
        raise NotSent(os.EX_USAGE, where)
    sender = _sender(arguments, header, origin)
    return Handover(sender, recipients, bytes(_leaving(arguments, header, sender, origin)))


def _recipients(arguments: Arguments, header: Header, origin: Origin) -> tuple[str, ...]:
    """Return each recipient once."""
    found = [_addresses(word, repr(word), origin) for word in arguments.recipients]
    if arguments.reads_recipients:
        fields = _fields(header, _RESENT_TO) or _fields(header, _TO)
        found += [_addresses(field.text, field.name, origin) for field in fields]
    return tuple(dict.fromkeys(address for addresses in found for address in addresses))


def _sender(arguments: Arguments, header: Header, origin: Origin) -> str:
    """Return the sender that was given, else the one address in From, else the user's own."""
    if arguments.sender is not None:
        addresses = _addresses(arguments.sender, "-f", origin) if arguments.sender else [""]
        if len(addresses) != 1:
            raise NotSent(os.EX_USAGE, "-f wants one address")
        return addresses[0]
    fields = header.get_all("from")
    listed = _listed(fields[0]) if len(fields) == 1 else ()
    return _complete(listed[0], origin) if len(listed) == 1 else origin.address


def _leaving(arguments: Arguments, header: Header, sender: str, origin: Origin) -> Header:
    leaving = header.without(_UNSEEN)
    if not leaving.get_all("from"):
        name = decode_octets(os.fsencode(arguments.full_name))
        leaving = leaving.with_field(_from_field(" ".join(name.split()), sender or origin.address))
    return Header(tuple(_completed(field, origin) for field in leaving.fields))


def _from_field(name: str, address: str) -> Field:
    return Field.make("From", f"{write_phrase(name)} <{address}>" if name else address)


def _fields(header: Header, keys: Iterable[str]) -> list[Field]:
    return [field for key in keys for field in header.get_all(key)]


def _addresses(text: str, about: str, origin: Origin) -> list[str]:
    try:
        listed = parse_address_list(decode_octets(os.fsencode(text)))
    except ListFault as fault:
        raise NotSent(os.EX_DATAERR, f"{about}: {fault}") from None
    return [_complete(address, origin) for address in listed]


def _complete(address: ListedAddress, origin: Origin) -> str:
    return address.text if address.has_domain else origin.complete(address.text)


def _listed(field: Field) -> tuple[ListedAddress, ...]:
    try:
        return parse_address_list(field.text)
    except ListFault:
        return ()


def _completed(field: Field, origin: Origin) -> Field:
    """Return the field with a domain behind each local name; a field that cannot be read stays as it is."""
    local = [address for address in _listed(field) if not address.has_domain] if field.key in _COMPLETED else []
    if not local:
        return field
    text = field.text
    for address in reversed(local):
        text = f"{text[: address.end]}@{origin.domain}{text[address.end :]}"
    return Field.make(field.name, text)
