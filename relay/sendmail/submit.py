"""Hands one message over: EHLO, MAIL, RCPT and DATA, for all recipients or for none."""

import os
import socket
from collections.abc import Iterator, Mapping

from relay.config.endpoint import is_host_name
from relay.sendmail.arguments import Arguments
from relay.sendmail.failure import NotSent, exit_status
from relay.sendmail.handover import Handover
from relay.sendmail.line import Answer, Line
from relay.sendmail.message import Message

_CHUNK = 64 * 1024


def submit(line: Line, arguments: Arguments, handover: Handover, message: Message) -> None:
    """Hand the message over; when this returns, the service has it.

    One refused recipient refuses it for all, so that who tries again sends nothing twice. Raises NotSent.
    """
    line.greeting()
    offers = _offers(line.expect(f"EHLO {_host_name()}"))
    if not handover.is_ascii and "SMTPUTF8" not in offers:
        raise NotSent(os.EX_UNAVAILABLE, "the service takes only ASCII in addresses")
    line.expect(_mail(offers, arguments, handover, message), f"sender <{handover.sender}>")
    notify = f" NOTIFY={arguments.notify}" if arguments.notify and "DSN" in offers else ""
    _name_recipients(line, handover, notify)
    data = line.expect("DATA")
    if data.code < 300:
        raise NotSent(os.EX_PROTOCOL, f"the service does not take the message: {data.reply}")
    line.send_data(_chunks(handover, message))


def _offers(answer: Answer) -> Mapping[str, str]:
    """Return the extensions of an answer to EHLO by their names in upper case."""
    words = [line.partition(" ") for line in answer.lines[1:]]
    return {keyword.upper(): values for keyword, _, values in words}


def _mail(offers: Mapping[str, str], arguments: Arguments, handover: Handover, message: Message) -> str:
    size = len(handover.header) + len("\r\n") + message.body_size
    is_ascii = message.body_is_ascii and handover.header.isascii()
    parameters = (
        (f"SIZE={size}", "SIZE" in offers),
        ("BODY=8BITMIME", not is_ascii and "8BITMIME" in offers),
        ("SMTPUTF8", not handover.is_ascii),
        (f"RET={arguments.ret}", arguments.ret and "DSN" in offers),
        (f"ENVID={arguments.envid}", arguments.envid and "DSN" in offers),
    )
    return " ".join([f"MAIL FROM:<{handover.sender}>", *(text for text, is_needed in parameters if is_needed)])


def _name_recipients(line: Line, handover: Handover, notify: str) -> None:
    answers = {recipient: line.ask(f"RCPT TO:<{recipient}>{notify}").reply for recipient in handover.recipients}
    refusals = {recipient: reply for recipient, reply in answers.items() if not reply.is_success}
    if not refusals:
        return
    sentences = [f"<{recipient}>: {reply}" for recipient, reply in refusals.items()]
    if len(refusals) < len(answers):
        sentences.append("nothing was sent, not to the other recipients either")
    # What cannot be mended by waiting decides.
    worst = min(refusals.values(), key=lambda reply: not reply.is_permanent)
    raise NotSent(exit_status(worst), *sentences)


def _chunks(handover: Handover, message: Message) -> Iterator[bytes]:
    yield handover.header + b"\r\n"
    while chunk := message.body.read(_CHUNK):
        yield chunk


def _host_name() -> str:
    name = socket.gethostname()
    return name if is_host_name(name) else "localhost"
