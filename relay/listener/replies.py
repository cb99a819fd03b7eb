"""What the listener itself says: every reply that no other part decides (DESIGN section 6, RFC 5321 section 4.3.2).

Texts say what the client can do. What is wrong inside stays in the log.
"""

import base64
from functools import lru_cache

from relay.mail.reply import Reply

OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
START_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
GOODBYE = Reply(221, "2.0.0", "Goodbye")
CANNOT_VERIFY = Reply(252, "2.0.0", "Addresses are not verified here; send the message and see")
HELP = Reply(
    214, "2.0.0", "This is a mail submission service: EHLO, MAIL, RCPT, DATA, BDAT, RSET, AUTH, NOOP, QUIT (RFC 5321)"
)

# Of the connection.
IDLE = Reply(421, "4.4.2", "Nothing was heard for too long; please connect again")
TOO_SLOW = Reply(421, "4.4.2", "The message came too slowly; please connect again")
NOT_READY = Reply(421, "4.3.2", "The service is not ready yet; please try again in a moment")
STOPPING = Reply(421, "4.3.2", "The service is stopping; please try again in a moment")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections; please try again in a moment")
TOO_MANY_OF_CLIENT = Reply(421, "4.7.0", "Too many connections from this address; please close some first")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors; please connect again")
FOR_DEVICES = Reply(554, "5.7.1", "This port is for devices in networks that its settings name")
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

# Of TLS and of proxies. NO_TLS is for the log: who does not speak TLS cannot be told.
NO_TLS = Reply(421, "4.7.0", "TLS could not begin")
NO_PROXY_HEADER = Reply(421, "4.7.0", "Connections from a proxy begin with a PROXY header here")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
ALREADY_TLS = Reply(503, "5.5.1", "TLS is already in use")

# Of logins (RFC 4954).
LOGGED_IN = Reply(235, "2.7.0", "You are logged in")
LOGIN_FAILED = Reply(535, "5.7.8", "The name or the password is wrong")
FOREIGN_IDENTITY = Reply(535, "5.7.8", "A login acts for itself only; leave the authorization identity empty")
TOO_MANY_LOGIN_FAILURES = Reply(
    421, "4.7.0", "Too many logins from here have failed; check the name and the password, and try again in 5 minutes"
)
NO_LOGINS_NOW = Reply(454, "4.7.0", "Logins cannot be checked now; please try again later")
NEED_TLS = Reply(538, "5.7.11", "A login must be encrypted; send STARTTLS first")
ALREADY_LOGGED_IN = Reply(503, "5.5.1", "You are logged in already")
AUTH_SYNTAX = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial response]")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "This mechanism is not offered; EHLO names those that are")
LOGIN_CANCELLED = Reply(501, "5.7.0", "The login is cancelled")
NOT_BASE64 = Reply(501, "5.5.2", "The response is not base64")

# Of messages in chunks (RFC 3030).
CHUNK_SYNTAX = Reply(501, "5.5.4", "Syntax: BDAT octets [LAST]")
CHUNKS_BEGUN = Reply(503, "5.5.1", "The message comes in chunks; send more with BDAT, or RSET")

# Of the envelope and the message.
NEED_TLS_FOR_REQUIRETLS = Reply(555, "5.5.4", "REQUIRETLS can be asked for under TLS only")
NEED_SMTPUTF8 = Reply(553, "5.6.7", "An address with non-ASCII characters needs SMTPUTF8 at MAIL (RFC 6531)")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send the rest in another transaction")
TOO_LARGE = Reply(552, "5.3.4", "The message is larger than is accepted here")
NO_MEMORY = Reply(452, "4.3.1", "Too many messages are under way; please try again in a moment")
NO_ROOM = Reply(452, "4.3.1", "There is no room for the message now; please try again later")
INTERNAL_FAULT = Reply(451, "4.3.0", "Something went wrong here; please try again later")
LOST_TRACK = Reply(421, "4.3.0", "Something went wrong here; please connect again")


@lru_cache(maxsize=16)
def greeting(hostname: str) -> bytes:
    """Return the first line of a connection; RFC 2034 wants no enhanced code in it."""
    return bytes(Reply(220, "", f"{hostname} ESMTP Relay"))


def bad_sender(reason: object) -> Reply:
    """MAIL with an address that is none."""
    return Reply(501, "5.1.7", f"Bad sender address: {reason}")


def bad_recipient(reason: object) -> Reply:
    """RCPT with an address that is none."""
    return Reply(501, "5.1.3", f"Bad recipient address: {reason}")


def bad_parameter(reason: object) -> Reply:
    """MAIL or RCPT with a parameter whose value is none. `reason` is a clause of our own."""
    return Reply(501, "5.5.4", f"A parameter is malformed: {reason}")


def bad_login_response(reason: object) -> Reply:
    """AUTH with a response that the mechanism cannot mean. `reason` is a clause of our own."""
    return Reply(501, "5.5.2", f"This response cannot be understood: {reason}")


def challenge(octets: bytes) -> bytes:
    """Return what a mechanism asks; an empty challenge is a line too (RFC 4954 section 4)."""
    return b"334 " + base64.b64encode(octets) + b"\r\n"


def chunk_taken(octets: int) -> Reply:
    """Return the answer to a chunk that is not the last."""
    return Reply(250, "2.0.0", f"{octets} octets received")


def hello(hostname: str) -> Reply:
    """Return the answer to HELO."""
    return Reply(250, "", hostname)


@lru_cache(maxsize=64)
def extended_hello(
    hostname: str, size: int, recipients: int, mechanisms: str, *, can_starttls: bool, is_tls: bool
) -> bytes:
    """Return the answer to EHLO, one line per extension (RFC 5321 section 4.1.1.1). No mechanisms: no logins here."""
    lines = [
        hostname,
        f"SIZE {size}",
        "8BITMIME",
        "SMTPUTF8",
        "DSN",
        "PIPELINING",
        "CHUNKING",
        f"LIMITS RCPTMAX={recipients}",
        *(["STARTTLS"] if can_starttls else []),
        *(["REQUIRETLS"] if is_tls else []),
        *([f"AUTH {mechanisms}"] if mechanisms else []),
        "ENHANCEDSTATUSCODES",
    ]
    return b"".join(f"250{'-' if line is not lines[-1] else ' '}{line}\r\n".encode() for line in lines)


# What is said for every message, as it goes out.
OK_LINE = bytes(OK)
SENDER_OK_LINE = bytes(SENDER_OK)
RECIPIENT_OK_LINE = bytes(RECIPIENT_OK)
START_DATA_LINE = bytes(START_DATA)
GOODBYE_LINE = bytes(GOODBYE)
IDLE_LINE = bytes(IDLE)
STOPPING_LINE = bytes(STOPPING)
