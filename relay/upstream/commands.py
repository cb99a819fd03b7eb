"""What MAIL and RCPT say of a message (RFC 5321 section 4.1.1), and which messages a server cannot be told."""

from relay.directory.model import Meaning
from relay.mail.envelope import Recipient
from relay.mail.notify import mail_parameters
from relay.mail.reply import Reply
from relay.upstream.connection import Connection
from relay.upstream.group import RSET, Command
from relay.upstream.outcome import Failed, Phase, own_failure
from relay.upstream.transfer import RequireTls, Transfer
from relay.upstream.wire import path

_TOO_LARGE = Reply(552, "5.3.4", "The message is larger than the mail server takes")
_NO_8BITMIME = Reply(554, "5.6.3", "The message has 8-bit content, and the mail server takes only 7-bit")
_NO_UTF8_ADDRESS = Reply(553, "5.6.7", "An address is not ASCII, and the mail server takes only ASCII addresses")
_NO_UTF8_HEADER = Reply(550, "5.6.7", "The header is not ASCII, and the mail server takes only ASCII headers")
_NO_REQUIRETLS = Reply(550, "5.7.30", "REQUIRETLS is not supported by the outgoing mail server")


def opening(connection: Connection, transfer: Transfer) -> list[Command]:
    """Return MAIL, after a RSET where the connection needs one. Raises Failed for what this server cannot take."""
    line = b" ".join((b"MAIL FROM:" + path(transfer.sender), *_parameters(connection, transfer)))
    mail = Command(Phase.MAIL, line)
    return [RSET, mail] if connection.needs_reset else [mail]


def largest(connection: Connection) -> int:
    """Return how large a message the server takes, as it says or the directory does; 0: nobody says."""
    return min(filter(None, (connection.offers.size, connection.server.message_size)), default=0)


def naming(connection: Connection, transfer: Transfer, index: int) -> Command:
    """Return RCPT for one recipient of the transfer."""
    recipient = transfer.recipients[index]
    line = b"RCPT TO:" + path(recipient.address)
    if connection.offers.has("dsn"):
        line = b" ".join((line, *_recipient_parameters(transfer, recipient)))
    return Command(Phase.RCPT, line, index)


def _parameters(connection: Connection, transfer: Transfer) -> list[bytes]:
    """Return what MAIL says about the message. Raises Failed where the server lacks what the message needs."""
    offers, content = connection.offers, transfer.content
    is_arriving = transfer.arriving is not None  # nobody knows its size yet, nor whether it is ASCII
    parameters = []
    size, most = content.size, largest(connection)
    if 0 < most < size:
        raise _cannot(_TOO_LARGE, f"{size} octets, {most} is the limit")
    if offers.has("size") and not is_arriving:
        parameters.append(b"SIZE=%d" % size)  # RFC 1870 section 6
    if is_arriving or not content.is_ascii:
        if not offers.has("8bitmime"):
            raise _cannot(_NO_8BITMIME, "no 8BITMIME in EHLO")  # RFC 6152 section 3: never sent silently
        parameters.append(b"BODY=8BITMIME")
    if (refusing := _needs_smtputf8(transfer)) is not None:
        if not offers.has("smtputf8"):
            raise _cannot(refusing, "no SMTPUTF8 in EHLO")
        parameters.append(b"SMTPUTF8")
    if _says_requiretls(connection, transfer.require_tls):
        parameters.append(b"REQUIRETLS")
    if offers.has("dsn"):
        parameters.extend(said.encode("ascii") for said in mail_parameters(transfer.ret, transfer.envid))
    return parameters


def _recipient_parameters(transfer: Transfer, recipient: Recipient) -> list[bytes]:
    """Return what RCPT says about reports at a server that has DSN: what the client gave (RFC 3461 section 5.2).

    An ORCPT beyond ASCII is said so only where MAIL said SMTPUTF8, and else in its ASCII form (RFC 6533 section 3).
    """
    is_ascii = recipient.original is None or recipient.original.text.isascii()
    is_utf8 = not is_ascii and _needs_smtputf8(transfer) is not None
    return [said.encode() for said in recipient.report_parameters(smtputf8=is_utf8)]


def _needs_smtputf8(transfer: Transfer) -> Reply | None:
    """Return what to say where a server lacks SMTPUTF8 (RFC 6531 sections 3.4 and 3.5), None where none is needed.

    What a client only declared, and the message does not need, is not asked for (section 4.2).
    """
    if transfer.sender is not None and not transfer.sender.is_ascii:
        return _NO_UTF8_ADDRESS
    if not all(recipient.address.is_ascii for recipient in transfer.recipients):
        return _NO_UTF8_ADDRESS
    return _NO_UTF8_HEADER if transfer.smtputf8 and not transfer.content.header.isascii() else None


def _says_requiretls(connection: Connection, wish: RequireTls) -> bool:
    """Whether MAIL says REQUIRETLS. Raises Failed where it must and cannot (RFC 8689 section 4.2.1).

    The header field "TLS-Required: No" (section 3) changes nothing here: it asks to be lenient with the policies that
    domains publish for their own servers. What we demand of our server is the directory's choice, not a message's.
    """
    if wish is RequireTls.NO:
        return False
    is_safe = connection.tls is not None and connection.server.verify_tls
    if is_safe and connection.offers.has("requiretls"):
        return True
    if wish is RequireTls.ALWAYS:
        raise _cannot(_NO_REQUIRETLS, "no REQUIRETLS in EHLO" if is_safe else "no TLS with a checked certificate")
    return False


def _cannot(reply: Reply, detail: str) -> Failed:
    return Failed(own_failure(Phase.MAIL, reply, Meaning.REFUSED, detail))
