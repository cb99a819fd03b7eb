"""The program: `relay sendmail`, also installed as `relay-sendmail`, and as `sendmail` by whoever links it there."""

import contextlib
import os
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import PurePath

from relay import __version__
from relay.sendmail.arguments import Arguments, Mode, parse_arguments
from relay.sendmail.exit_status import NotSent

_NAME = "relay-sendmail"
_INTERRUPTED = 130
_HELP = """\
Usage: {name} [option ...] [recipient ...]

Read a message from standard input and hand it to Relay: sendmail(1) for cron,
git send-email, PHP and mail programs.

  -t           add the recipients in To, Cc and Bcc
  -f, -r ADDR  the envelope sender; '' is the null sender.
               Without it: the address in From, else yours on this machine
  -F NAME      your name, for a message without From
  -i, -oi      a line with only a dot does not end the message
  -bs          pass an SMTP session through
  -N WORDS     report: never, or success, failure, delay
  -R full|hdrs how much of the message a report brings back
  -V ID        the envelope ID that a report names
  -v           show the talk with the service
  --help, --version

Other options of sendmail are ignored. The message goes to $RELAY_SUBMIT
(host:port, [v6]:port, unix:/path or /path), else to submit.sock, else to
127.0.0.1:2525. Exit status: 0 handed over, 64 wrong usage, 65 the message or an
address is refused, 67 no such user, 69 refused, 75 try again, 77 not allowed.

Example:
  {name} -t -i < message.eml
"""


def main() -> None:
    """Run the program of this process and end it."""
    sys.exit(run(PurePath(sys.argv[0]).name, sys.argv[1:]))


def run(program: str, words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status. `program` is the name it was called by."""
    try:
        arguments = parse_arguments(program, words)
        return _do(program, arguments)
    except NotSent as failure:
        return _tell(failure)
    except OSError as error:
        return _tell(NotSent(os.EX_TEMPFAIL, f"the message cannot be read: {error.strerror or error}"))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _do(program: str, arguments: Arguments) -> int:
    match arguments.mode:
        case Mode.HELP:
            print(_HELP.format(name=program), end="")
        case Mode.VERSION:
            print(f"{_NAME} {__version__}")
        case Mode.LIST:
            raise NotSent(os.EX_UNAVAILABLE, "the queue is the service's; it is listed by: relay queue list")
        case Mode.TALK:
            return _talk()
        case Mode.SEND:
            _send(arguments)
    return os.EX_OK


def _send(arguments: Arguments) -> None:
    from relay.sendmail.message import prepare, read_message, this_user
    from relay.sendmail.smtp import SmtpConnection, connect, places, submit

    endpoints = places(os.environ, os.getuid())
    if not arguments.recipients and not arguments.reads_recipients:
        raise NotSent(os.EX_USAGE, "name a recipient, or give -t")
    # Standard input is None where the caller closed it.
    message = read_message(sys.stdin.buffer if sys.stdin else BytesIO(), dot_ends=arguments.dot_ends)
    handover = prepare(arguments, message.header, this_user())
    smtp = SmtpConnection(connect(endpoints), is_verbose=arguments.is_verbose)
    try:
        submit(smtp, arguments, handover, message)
    finally:
        smtp.close()


def _talk() -> int:
    from relay.sendmail.smtp import connect, pass_through, places

    if not sys.stdin or not sys.stdout:
        # The connection would get the number of the closed one, and talk to itself.
        raise NotSent(os.EX_USAGE, "-bs wants standard input and output")
    try:
        connection = connect(places(os.environ, os.getuid()))
    except NotSent as failure:
        # Who speaks SMTP hears of it in SMTP.
        print("421 4.3.2 No relay is running here", end="\r\n")
        return _tell(failure)
    with connection:
        pass_through(connection, source=0, sink=1)
    return os.EX_OK


def _tell(failure: NotSent) -> int:
    """Say on stderr what happened, if anybody listens there; return the exit status."""
    with contextlib.suppress(OSError):
        for sentence in failure.sentences:
            print(f"{_NAME}: {sentence}", file=sys.stderr)
    return failure.status
