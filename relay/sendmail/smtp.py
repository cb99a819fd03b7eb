"""The SMTP session with the service (RFC 5321): the way there, commands and replies, one message, and -bs.

The service is where $RELAY_SUBMIT says, else at its submit socket, else at its port; no settings file is read.
A message is handed over for all recipients or for none.
"""

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.config.endpoint import Endpoint, InheritedSocket, TcpAddress, UnixAddress, is_host_name, parse_endpoint
from relay.config.machine import NO_HOME, SYSTEM_RUNTIME, default_state_dir
from relay.mail.reply import Reply, clean_text
from relay.sendmail.exit_status import NotSent, exit_status, refused

if TYPE_CHECKING:
    from relay.sendmail.arguments import Arguments
    from relay.sendmail.message import Handover, Message

_SOCKET = "submit.sock"
_PORT = TcpAddress("127.0.0.1", 2525)
# To connect on this machine takes no time; a host elsewhere that is down must not hold up a web page for long.
_CONNECT_SECONDS = 30.0
# RFC 5321 section 4.5.3.2: 5 minutes for most replies, 10 after the final dot.
_PATIENCE = 300.0
_PATIENCE_AT_END = 600.0
_PATIENCE_AT_QUIT = 5.0
_LONGEST_LINE = 8192
_MOST_LINES = 200
_REPLY = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n]*))?\r?\n")
_SERVICE_GOES = 421
_CHUNK = 64 * 1024


def places(environ: Mapping[str, str], user: int) -> tuple[Endpoint, ...]:
    """Return where to look, in order: the socket of a relay that the user runs, then the machine's, then the port.

    With $RELAY_SUBMIT (host:port, [v6]:port, unix:/path or just /path) only there. Raises NotSent where that is none
    of them.
    """
    named = environ.get("RELAY_SUBMIT", "")
    if not named:
        return (*_own_socket(environ, user), UnixAddress(SYSTEM_RUNTIME / _SOCKET), _PORT)
    try:
        endpoint = parse_endpoint(f"unix:{named}" if named.startswith("/") else named)
    except ValueError as error:
        raise NotSent(os.EX_CONFIG, f"RELAY_SUBMIT: {error}") from None
    if isinstance(endpoint, InheritedSocket):
        raise NotSent(os.EX_CONFIG, f"RELAY_SUBMIT: {named!r} is not an address to connect to")
    return (endpoint,)


def connect(endpoints: Iterable[Endpoint]) -> socket.socket:
    """Return a connection to the first place that takes one. Raises NotSent, which says why each did not."""
    refusals: list[str] = []
    for endpoint in endpoints:
        try:
            return _connected(endpoint)
        except OSError as error:
            refusals.append(f"{endpoint}: {error.strerror or error}")
    where = "; ".join(refusals)
    raise NotSent(os.EX_TEMPFAIL, f"no relay takes mail here ({where}); start one with: relay serve")


def _own_socket(environ: Mapping[str, str], user: int) -> tuple[UnixAddress, ...]:
    # Only HOME: the folders that systemd names are those of the unit that calls us.
    state_dir = default_state_dir({"HOME": environ.get("HOME", "")}, user)
    if not state_dir.is_absolute() or state_dir.is_relative_to(NO_HOME):
        return ()
    return (UnixAddress(state_dir / _SOCKET),)


def _connected(endpoint: Endpoint) -> socket.socket:
    if isinstance(endpoint, TcpAddress):
        return socket.create_connection((endpoint.host, endpoint.port), _CONNECT_SECONDS)
    assert isinstance(endpoint, UnixAddress)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_CONNECT_SECONDS)
        connection.connect(str(endpoint.path))
    except OSError:
        connection.close()
        raise
    return connection


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply with its lines apart, as EHLO needs them."""

    code: int
    lines: tuple[str, ...]

    @property
    def reply(self) -> Reply:
        """The answer on one clean line."""
        return Reply.of_upstream(self.code, "\n".join(self.lines))


class SmtpConnection:
    """The connection. With `is_verbose` the talk is shown on stderr. Raises NotSent for whatever ends it early."""

    def __init__(self, connection: socket.socket, *, is_verbose: bool) -> None:
        self._connection = connection
        self._is_verbose = is_verbose
        self._is_in_data = False
        self._reader = connection.makefile("rb")
        connection.settimeout(_PATIENCE)

    def expect(self, command: str, about: str = "") -> Answer:
        """Say a command and return its answer. Raises NotSent where it is a refusal, with `about` before its words."""
        return self._accepted(self.ask(command), about)

    def greeting(self) -> Answer:
        """Wait for the first reply. Raises NotSent where it is a refusal."""
        return self._accepted(self._answer(), "")

    def ask(self, command: str) -> Answer:
        """Say a command and return its answer, whatever it is, unless the service goes with it."""
        self._show(">>>", command)
        try:
            self._connection.sendall(command.encode() + b"\r\n")
        except OSError as error:
            self._last_words(error)
        answer = self._answer()
        if answer.code == _SERVICE_GOES:
            raise refused(answer.reply)
        return answer

    def send_data(self, chunks: Iterable[bytes]) -> Answer:
        """Send content in CRLF lines and the final dot; return the answer. Raises NotSent where it is a refusal."""
        self._is_in_data = True
        try:
            for chunk in stuffed(chunks):
                self._connection.sendall(chunk)
            self._connection.sendall(b".\r\n")
        except OSError as error:
            self._last_words(error)
        self._connection.settimeout(_PATIENCE_AT_END)
        answer = self._answer()
        self._is_in_data = False
        return self._accepted(answer, "")

    def close(self) -> None:
        """Take leave, unless in the middle of a message; whether the service answers does not matter any more."""
        with contextlib.suppress(OSError, NotSent):
            self._connection.settimeout(_PATIENCE_AT_QUIT)
            if not self._is_in_data:
                self.ask("QUIT")
        self._reader.close()
        self._connection.close()

    def _accepted(self, answer: Answer, about: str) -> Answer:
        if answer.code >= 400:
            raise refused(answer.reply, about)
        return answer

    def _answer(self) -> Answer:
        lines: list[str] = []
        for _ in range(_MOST_LINES):
            raw = self._read_line()
            match = _REPLY.fullmatch(raw)
            if match is None:
                shown = clean_text(raw[:80].decode("utf-8", "replace"))
                raise NotSent(os.EX_PROTOCOL, f"this is no SMTP service, it said: {shown}")
            self._show("<<<", raw.decode("utf-8", "replace"))
            lines.append((match[3] or b"").decode("utf-8", "replace"))
            if match[2] != b"-":
                return Answer(int(match[1]), tuple(lines))
        raise NotSent(os.EX_PROTOCOL, f"this is no SMTP service, its reply has over {_MOST_LINES} lines")

    def _read_line(self) -> bytes:
        try:
            raw = self._reader.readline(_LONGEST_LINE)
        except TimeoutError:
            raise NotSent(os.EX_TEMPFAIL, "the service does not answer") from None
        except OSError as error:
            raise NotSent(os.EX_TEMPFAIL, f"the connection broke: {error.strerror or error}") from None
        if not raw:
            raise NotSent(os.EX_TEMPFAIL, "the service closed the connection")
        return raw

    def _last_words(self, error: OSError) -> None:
        """Raise what the service said before it stopped listening, or that it did."""
        if isinstance(error, TimeoutError):
            raise NotSent(os.EX_TEMPFAIL, "the service does not take what is sent") from None
        raise refused(self._answer().reply) from None

    def _show(self, mark: str, text: str) -> None:
        if self._is_verbose:
            print(mark, clean_text(text), file=sys.stderr)


def stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield content in CRLF lines with one more dot before each line that begins with one (section 4.5.2)."""
    held = b""
    is_start = True
    for chunk in chunks:
        whole = held + chunk
        held = b"\r" if whole.endswith(b"\r") else b""
        piece = whole.removesuffix(held)
        if piece:
            first = b"." if is_start and piece.startswith(b".") else b""
            yield first + piece.replace(b"\r\n.", b"\r\n..")
            is_start = piece.endswith(b"\r\n")
    if held:
        yield held


def submit(smtp: SmtpConnection, arguments: "Arguments", handover: "Handover", message: "Message") -> None:
    """Hand the message over; when this returns, the service has it.

    One refused recipient refuses it for all, so that who tries again sends nothing twice. Raises NotSent.
    """
    smtp.greeting()
    offers = _offers(smtp.expect(f"EHLO {_host_name()}"))
    if not handover.is_ascii and "SMTPUTF8" not in offers:
        raise NotSent(os.EX_UNAVAILABLE, "the service takes only ASCII in addresses")
    smtp.expect(_mail(offers, arguments, handover, message), f"sender <{handover.sender}>")
    notify = f" NOTIFY={arguments.notify}" if arguments.notify and "DSN" in offers else ""
    _name_recipients(smtp, handover, notify)
    data = smtp.expect("DATA")
    if data.code < 300:
        raise NotSent(os.EX_PROTOCOL, f"the service does not take the message: {data.reply}")
    smtp.send_data(_chunks(handover, message))


def _offers(answer: Answer) -> Mapping[str, str]:
    """Return the extensions of an answer to EHLO by their names in upper case."""
    words = [line.partition(" ") for line in answer.lines[1:]]
    return {keyword.upper(): values for keyword, _, values in words}


def _mail(offers: Mapping[str, str], arguments: "Arguments", handover: "Handover", message: "Message") -> str:
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


def _name_recipients(smtp: SmtpConnection, handover: "Handover", notify: str) -> None:
    answers = {recipient: smtp.ask(f"RCPT TO:<{recipient}>{notify}").reply for recipient in handover.recipients}
    refusals = {recipient: reply for recipient, reply in answers.items() if not reply.is_success}
    if not refusals:
        return
    sentences = [f"<{recipient}>: {reply}" for recipient, reply in refusals.items()]
    if len(refusals) < len(answers):
        sentences.append("nothing was sent, not to the other recipients either")
    # What cannot be mended by waiting decides.
    worst = min(refusals.values(), key=lambda reply: not reply.is_permanent)
    raise NotSent(exit_status(worst), *sentences)


def _chunks(handover: "Handover", message: "Message") -> Iterator[bytes]:
    yield handover.header + b"\r\n"
    while chunk := message.body.read(_CHUNK):
        yield chunk


def _host_name() -> str:
    name = socket.gethostname()
    return name if is_host_name(name) else "localhost"


def pass_through(connection: socket.socket, source: int, sink: int) -> None:
    """Copy both ways until the service closes or nobody reads its answers; `source` and `sink` are file descriptors.

    The end of the input closes our half only, so that the last replies still come.
    """
    from threading import Thread

    connection.settimeout(None)
    # A daemon: when the service has closed, nothing waits for input that may never come.
    Thread(target=_send_input, args=(source, connection), daemon=True).start()
    with contextlib.suppress(OSError):
        while chunk := connection.recv(_CHUNK):
            _write(sink, chunk)


def _send_input(source: int, connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(source, _CHUNK):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)


def _write(sink: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(sink, rest) :]
