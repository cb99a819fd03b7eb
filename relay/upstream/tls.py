"""TLS towards servers: at least 1.2 (RFC 8997), names checked (RFC 7817), contexts made once and kept.

A context keeps the last session with each host, so that the next connection need not begin from nothing (RFC 8446
section 2.2).

SECURITY: `verify_tls = false` encrypts without knowing to whom; it is the directory's explicit choice. A session that
is taken up again brings no certificate. So it belongs to one way of checking, one set of authorities and one host name,
and after an hour a certificate is asked for anew, so that one that has expired or was taken back is noticed.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

from relay.regular_file import in_file_thread, read_regular_file

_SESSION_SECONDS = 3600.0


class ResumingContext(ssl.SSLContext):
    """A context for clients that takes up the last session with a host, where there is one."""

    clock: Callable[[], float] = time.monotonic

    def __init__(self, _protocol: int) -> None:
        super().__init__()
        self._sessions: dict[str, tuple[ssl.SSLSession, float]] = {}  # by host, with when it showed its certificate

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection. Called by the event loops, which know nothing of sessions."""
        kept, since = self._sessions.get(str(server_hostname), (session, 0.0))
        if self.clock() - since > _SESSION_SECONDS:
            kept = session
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, kept)

    def keep_session(self, connection: ssl.SSLObject) -> None:
        """Keep the session of a connection on which the server has said something (with TLS 1.3: also its tickets)."""
        host, session = str(connection.server_hostname), connection.session
        if session is None:
            return
        is_new = not connection.session_reused or host not in self._sessions
        self._sessions[host] = (session, self.clock() if is_new else self._sessions[host][1])


def keep_session(connection: ssl.SSLObject) -> None:
    """Keep a session for the next connection to the same host with the same context."""
    context = connection.context
    if isinstance(context, ResumingContext):
        context.keep_session(connection)


class Contexts:
    """The TLS contexts, one for each (verify, CA file); a CA file that changed is read again. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[tuple[bool, str], tuple[int, ResumingContext]] = {}

    async def get(self, *, verify: bool, ca_file: str) -> ssl.SSLContext:
        """Return the context. Raises OSError (ssl.SSLError is one) for a CA file that cannot be used."""
        # Nothing about a file is asked in the event loop: one on a network may take for ever.
        changed = await in_file_thread(_changed, ca_file) if ca_file else 0
        kept = self._kept.get((verify, ca_file))
        if kept is None or kept[0] != changed:
            # Reading the system's CA bundle takes tens of milliseconds.
            kept = (changed, await in_file_thread(_make_context, verify=verify, ca_file=ca_file))
            kept[1].clock = self._clock
            self._kept[verify, ca_file] = kept
        return kept[1]


def _changed(ca_file: str) -> int:
    return Path(ca_file).stat().st_mtime_ns


def _make_context(*, verify: bool, ca_file: str) -> ResumingContext:
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    # What Python's own default contexts check beyond that, from 3.13 on. Those for servers load no authorities.
    context.verify_flags |= ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).verify_flags
    if ca_file:
        # What is not ASCII stands between the certificates, and is for people.
        context.load_verify_locations(cadata=read_regular_file(ca_file).decode("ascii", "ignore"))
    else:
        context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
