"""What must hold for each parser that hostile octets reach, whatever comes. A check raises, or it holds.

The invariant of all of them: a value that is clean, or the one fault that the parser names; never another exception.
"""

import asyncio
import re
from collections.abc import Callable
from functools import partial

from relay.directory.client import Login
from relay.listener.auth import MECHANISMS
from relay.listener.client_identity import ProxyFault, hush, read_header
from relay.listener.commands import (
    CommandFault,
    decode_response,
    parse_auth,
    parse_bdat,
    parse_hello,
    parse_mail,
    parse_rcpt,
    split_command,
)
from relay.mail.address import Address, AddressError
from relay.mail.content import Content, ContentReader, ContentRefused
from relay.mail.dsn_parameters import ParameterFault, parse_envid, parse_notify, parse_original_recipient, parse_return
from relay.mail.encoded_words import decode_words
from relay.mail.header import Header
from relay.mail.mailbox import MailboxFault, parse_from
from relay.mail.structured_fields import ListFault, parse_address_list
from tests.dialogs.listener.listener_kit import FakeLogins
from tests.hostile.judges import JUDGES
from tests.hostile.reading import canonical
from tests.unit.mail.mail_kit import OWN, SHARED, send

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A password may be in what these return.
_SECRETIVE: tuple[Callable[[bytes], object], ...] = (decode_response, partial(parse_auth, offered=MECHANISMS))


def clean(text: object) -> None:
    assert not _CONTROL.search(str(text)), text


def check_command(line: bytes) -> None:
    try:
        verb, argument = split_command(line)
    except CommandFault as fault:
        return clean(fault.reply)
    for parse in (parse_hello, parse_mail, parse_rcpt, parse_bdat, *_SECRETIVE):
        try:
            value = parse(argument)
        except CommandFault as fault:
            clean(fault.reply)
        else:
            if parse not in _SECRETIVE:
                clean(value)
    assert not re.search(rb"[\x00-\x1f\x7f ]", verb)
    return None


def check_address(octets: bytes) -> None:
    try:
        address = Address.parse(octets.decode("utf-8", "surrogateescape"))
    except AddressError:
        return
    clean(address)
    assert Address.parse(str(address)) == address
    assert Address.parse(str(address)).key == address.key
    assert address.without_tag.domain == address.domain


def check_mailbox(octets: bytes) -> None:
    try:
        mailbox = parse_from(octets)
    except MailboxFault as fault:
        return clean(fault)
    clean(mailbox)
    again = parse_from(str(mailbox).encode())
    assert (again.address, again.display) == (mailbox.address, mailbox.display)
    return None


def check_address_list(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    try:
        found = parse_address_list(text)
    except ListFault:
        return
    for address in found:
        clean(address.text)
        assert address.end <= len(text)


def check_header(octets: bytes) -> None:
    try:
        header = Header.parse(octets)
    except ContentRefused as refusal:
        return clean(refusal.reply)
    assert bytes(header) == octets
    for item in header.fields:
        clean(item.name)
        assert b"\n" not in item.value
        clean(_CONTROL.sub("", item.text))
    return None


def check_content(octets: bytes) -> None:
    """Whole, and octet by octet, and as the book says."""
    results: list[Content | str] = []
    for pieces in ([octets], [octets[at : at + 1] for at in range(len(octets))]):
        reader = ContentReader()
        for piece in pieces:
            reader.feed(piece)
        try:
            results.append(reader.finish())
        except ContentRefused as refusal:
            results.append(str(refusal.reply))
    texts = [b"".join(each.chunks()) if isinstance(each, Content) else each for each in results]
    assert texts[0] == texts[1]
    assert texts[0] == canonical(octets) or (isinstance(texts[0], str) and canonical(octets) is None)


def check_leaving(octets: bytes) -> None:
    """Whatever stands in the header block, what leaves has one author, whom every judge sees."""
    for alignment in (OWN, SHARED):
        try:
            outgoing = send(octets + b"\r\n\r\nbody\r\n", alignment)
        except ContentRefused as refusal:
            clean(refusal.reply)
            continue
        message = b"".join(outgoing.content.chunks())
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", message)
        identity = str(alignment.identity)
        for name in ("compat32", "default"):
            assert JUDGES[name](message, "from") == [{identity}]
            assert JUDGES[name](message, "sender") in ([], [{identity}])
        (author,) = JUDGES["CRLF"](message, "from")
        assert {identity} <= author <= {identity, "support@acme.example", "help@acme.example"}


def check_parameter(octets: bytes) -> None:
    for parse in (parse_notify, parse_original_recipient, parse_return, parse_envid):
        try:
            value = parse(octets)
        except ParameterFault as fault:
            clean(fault)
        else:
            clean(value)
            clean(getattr(value, "address", ""))


def check_words(octets: bytes) -> None:
    text = octets.decode("utf-8", "replace")
    assert isinstance(decode_words(text), str)


def check_login(octets: bytes) -> None:
    """Three responses in one, a line each. Nobody is let in who does not say the password."""
    responses = [*octets.split(b"\n"), b"", b"", b""]
    for mechanism in MECHANISMS.values():
        talk = _Script(responses)
        login = asyncio.run(_run(mechanism, talk))
        assert login is None or b"right" in octets
        clean(talk.name)


class _Script:
    """A client that says what was decided before."""

    def __init__(self, responses: list[bytes]) -> None:
        self.responses = list(responses)
        self.name = ""

    async def ask(self, challenge: bytes) -> bytes:
        return self.responses.pop(0)

    def claim(self, name: str) -> None:
        self.name = name


async def _run(mechanism: Callable[..., object], talk: _Script) -> Login | None:
    try:
        return await mechanism(talk, FakeLogins({"support": "right"}))  # type: ignore[misc,no-any-return]
    except CommandFault as fault:
        clean(fault.reply)
        return None


def check_proxy(octets: bytes) -> None:
    hush()

    async def read() -> None:
        reader = asyncio.StreamReader(limit=65536)
        reader.feed_data(octets)
        reader.feed_eof()
        try:
            await read_header(reader, 5)
        except ProxyFault:
            return
        assert octets.startswith((b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"))

    asyncio.run(read())
