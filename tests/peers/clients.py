"""Mail clients as people use them: each sends one message without a login and says how that ended."""

import os
import smtplib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tests.peers.packages import program
from tests.peers.system import LOOPBACK, Finished, run

# No program reads a configuration of the person who runs the tests.
_NOBODYS_HOME = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client connects to: host and port, or the path of a unix socket."""

    host: str = LOOPBACK
    port: int = 0
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """What a client is to send. `content` has LF at its line ends, as files have them, and ends with one."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def open_content(self) -> bytes:
        """The content without its last LF, for clients that end it themselves whether it has one or not."""
        return self.content.removesuffix(b"\n")


Client: TypeAlias = Callable[[Endpoint, Letter], Finished]


def swaks(endpoint: Endpoint, letter: Letter) -> Finished:
    """Send by swaks."""
    if endpoint.path:
        where = ["--socket", str(endpoint.path)]
    else:
        where = ["--server", endpoint.host, "--port", str(endpoint.port)]
    who = ["--from", letter.sender, "--to", ",".join(letter.recipients), "--helo", "swaks.test"]
    return run([program("swaks"), *where, *who, "--data", "-"], data=letter.open_content, env=_NOBODYS_HOME)


def curl(endpoint: Endpoint, letter: Letter) -> Finished:
    """Send by curl, which passes its input on as it is: bare LF, and a dot behind it is not doubled."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    where = ["--url", f"smtp://{host}:{endpoint.port or 25}/curl.test"]
    if endpoint.path:
        where += ["--unix-socket", str(endpoint.path)]
    who = ["--mail-from", letter.sender]
    for recipient in letter.recipients:
        who += ["--mail-rcpt", recipient]
    talk = ["--disable", "--silent", "--show-error", "--verbose", "--upload-file", "-"]
    return run([program("curl"), *talk, *where, *who], data=letter.open_content, env=_NOBODYS_HOME)


def msmtp(endpoint: Endpoint, letter: Letter) -> Finished:
    """Send by msmtp."""
    where = [f"--host={endpoint.host}", f"--port={endpoint.port}"]
    if endpoint.path:
        where = ["--host=localhost", f"--socket={endpoint.path}"]
    talk = ["--auth=off", "--tls=off", "--domain=msmtp.test", "--debug"]
    argv = [program("msmtp"), *where, *talk, f"--from={letter.sender}", "--", *letter.recipients]
    return run(argv, data=letter.content, env=_NOBODYS_HOME)


def python_smtplib(endpoint: Endpoint, letter: Letter) -> Finished:
    """Send by Python's smtplib; the status is 0 only where every recipient was accepted."""
    try:
        with _session(endpoint) as session:
            session.ehlo("smtplib.test")
            content = letter.content.replace(b"\n", b"\r\n")  # as its send_message does
            refused = session.sendmail(letter.sender, letter.recipients, content)
    except smtplib.SMTPException as error:
        return Finished(1, "", repr(error))
    return Finished(1 if refused else 0, "", repr(refused))


CLIENTS: Mapping[str, Client] = {"swaks": swaks, "curl": curl, "msmtp": msmtp, "smtplib": python_smtplib}


class _UnixSession(smtplib.SMTP):
    """smtplib over a unix socket: the host is the socket's path."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(host)
        return connection


def _session(endpoint: Endpoint) -> smtplib.SMTP:
    if endpoint.path:
        return _UnixSession(str(endpoint.path), 25, timeout=_TIMEOUT)
    return smtplib.SMTP(endpoint.host, endpoint.port, timeout=_TIMEOUT)
