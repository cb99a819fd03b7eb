"""Python's smtplib, as scripts and web frameworks use it."""

import smtplib
import socket
import ssl

from tests.peers.clients.letter import OPEN, Access, Endpoint, Letter
from tests.peers.clients.surroundings import SECONDS
from tests.peers.system import Finished


def python_smtplib(endpoint: Endpoint, letter: Letter, access: Access = OPEN) -> Finished:
    """Send by smtplib; the status is 0 only where every recipient was accepted. It knows no SCRAM."""
    try:
        with _session(endpoint, access) as session:
            session.ehlo("smtplib.test")
            if access.security == "starttls":
                session.starttls(context=_context(access))
                session.ehlo("smtplib.test")
            if access.logs_in:
                _log_in(session, access)
            content = letter.content.replace(b"\n", b"\r\n")  # as its send_message does
            refused = session.sendmail(letter.sender, letter.recipients, content)
    except (smtplib.SMTPException, ssl.SSLError) as error:
        return Finished(1, "", repr(error))
    return Finished(1 if refused else 0, "", repr(refused))


def _log_in(session: smtplib.SMTP, access: Access) -> None:
    """Log in by the one mechanism asked for; `login` of smtplib would go on to the next one."""
    if not access.mechanism:
        session.login(access.username, access.password)
        return
    session.user, session.password = access.username, access.password
    answer = session.auth_plain if access.mechanism == "PLAIN" else session.auth_login
    session.auth(access.mechanism, answer)


class _UnixSession(smtplib.SMTP):
    """smtplib over a unix socket: the host is the socket's path."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(host)
        return connection


def _session(endpoint: Endpoint, access: Access) -> smtplib.SMTP:
    if endpoint.path:
        return _UnixSession(str(endpoint.path), 25, timeout=SECONDS)
    if access.security == "tls":
        return smtplib.SMTP_SSL(endpoint.host, endpoint.port, timeout=SECONDS, context=_context(access))
    return smtplib.SMTP(endpoint.host, endpoint.port, timeout=SECONDS)


def _context(access: Access) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=access.ca_file)
