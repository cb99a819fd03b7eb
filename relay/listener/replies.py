"""What the listener itself says: every reply that no other part decides (DESIGN section 6, RFC 5321 section 4.3.2).

Texts say what the client can do. What is wrong inside stays in the log.
"""

from collections.abc import Iterable

from relay.mail.reply import Reply

OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
START_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
GOODBYE = Reply(221, "2.0.0", "Goodbye")
CANNOT_VERIFY = Reply(252, "2.0.0", "Addresses are not verified here; send the message and see")
HELP = Reply(214, "2.0.0", "This is a mail submission service: EHLO, MAIL, RCPT, DATA, RSET, NOOP, QUIT (RFC 5321)")

# Of the connection.
IDLE = Reply(421, "4.4.2", "Nothing was heard for too long; please connect again")
STOPPING = Reply(421, "4.3.2", "The service is stopping; please try again in a moment")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections; please try again in a moment")
TOO_MANY_OF_CLIENT = Reply(421, "4.7.0", "Too many connections from this address; please close some first")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors; please connect again")
NOT_HTTP = Reply(421, "4.7.0", "This port takes mail, not web requests")

# Of the command line.
UNKNOWN_COMMAND = Reply(500, "5.5.2", "Command not recognized")
CONTROL_CHARACTER = Reply(500, "5.5.2", "A command holds no control characters")
LINE_TOO_LONG = Reply(500, "5.5.6", "Command line too long")
NOT_OFFERED = Reply(502, "5.5.1", "Command not offered here")
NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument")
NEED_HELLO_NAME = Reply(501, "5.5.4", "Say who you are: EHLO name")
MAIL_SYNTAX = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
BAD_PARAMETER = Reply(501, "5.5.4", "A parameter is malformed")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "A parameter is not recognized or not offered")

# Of the order of commands.
NEED_HELLO = Reply(503, "5.5.1", "Send EHLO first")
NEED_MAIL = Reply(503, "5.5.1", "Send MAIL first")
NEED_RECIPIENT = Reply(503, "5.5.1", "Send RCPT first")
NO_RECIPIENT_LEFT = Reply(554, "5.5.1", "No valid recipients")
MAIL_ALREADY_GIVEN = Reply(503, "5.5.1", "A message is already begun; finish it or send RSET")

# Of the envelope and the message.
NEED_SMTPUTF8 = Reply(553, "5.6.7", "An address with non-ASCII characters needs SMTPUTF8 at MAIL (RFC 6531)")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send the rest in another transaction")
TOO_LARGE = Reply(552, "5.3.4", "The message is larger than is accepted here")
INTERNAL_FAULT = Reply(451, "4.3.0", "Something went wrong here; please try again later")
LOST_TRACK = Reply(421, "4.3.0", "Something went wrong here; please connect again")


def greeting(hostname: str) -> Reply:
    """Return the first line of a connection; RFC 2034 wants no enhanced code in it."""
    return Reply(220, "", f"{hostname} ESMTP Relay")


def bad_sender(reason: object) -> Reply:
    """MAIL with an address that is none."""
    return Reply(501, "5.1.7", f"Bad sender address: {reason}")


def bad_recipient(reason: object) -> Reply:
    """RCPT with an address that is none."""
    return Reply(501, "5.1.3", f"Bad recipient address: {reason}")


def bad_parameter(reason: object) -> Reply:
    """MAIL or RCPT with a parameter whose value is none. `reason` is a clause of our own."""
    return Reply(501, "5.5.4", f"A parameter is malformed: {reason}")


def hello(hostname: str) -> Reply:
    """Return the answer to HELO."""
    return Reply(250, "", hostname)


def extended_hello(hostname: str, extensions: Iterable[str]) -> bytes:
    """Return the answer to EHLO, one line per extension (RFC 5321 section 4.1.1.1)."""
    lines = [hostname, *extensions]
    return b"".join(f"250{'-' if line is not lines[-1] else ' '}{line}\r\n".encode() for line in lines)
