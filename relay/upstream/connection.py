"""One connection to a server: opened and logged in step by step, then used for one transaction after the other.

Every step raises Failed with the phase, the server's words or our own, and what they mean; nothing else but
CancelledError comes out. Whatever is no answer by the rules, and any cancellation, ends the connection: it is closed
at once and never used again, so that an answer never meets the wrong question.

SECURITY: no step goes back to less protection than the directory asks for. Without TLS where TLS is asked for there
is no login and no MAIL, and what EHLO said before TLS is forgotten (RFC 3207 sections 4.2 and 6).
"""

import asyncio
import socket
import ssl
from dataclasses import replace
from types import TracebackType

from aiosmtplib.errors import SMTPResponseException
from aiosmtplib.response import SMTPResponse

from relay.directory.model import Auth, Meaning, Security, Server
from relay.mail.reply import Reply
from relay.secrets.secret import Secret
from relay.upstream.auth import ExchangeStopped, Login, Mechanism, NoMechanism, choose, may_show_secret
from relay.upstream.dial import Contexts, Endpoint, dial, keep_session, resolve
from relay.upstream.outcome import MAPPED, Failed, Failure, Peer, Phase, Tls, failure_of, garbage, own_failure, refusal
from relay.upstream.protocol import Link, RawReply, response_of
from relay.upstream.transaction import Offers, Progress, Timeouts

_NO_STARTTLS = Reply(451, "4.7.4", "No secure connection to the mail server")
_UNWANTED = frozenset({521, 530, 550})  # RFC 7504, RFC 4954 section 6 and policy: the server knows EHLO well
_NO_LOGIN = Reply(535, "5.7.8", "The login at the mail server is not possible")


class Connection:
    """A connection to one server. Make it, `open` it (or take the steps one by one), transact, `close` it.

    `progress` is that of whoever waits for it, `nobody` where nobody does. `messages` counts the accepted ones.
    `needs_reset`: the last transaction did not come to its end, so RSET goes before the next. `is_pipelined`: commands
    may leave in groups (RFC 2920).
    """

    def __init__(self, server: Server, *, hello: str, timeouts: Timeouts, contexts: Contexts) -> None:
        self.server = server
        self.timeouts = timeouts
        self.progress = self.nobody = Progress()
        self.offers = Offers()
        self.tls: Tls | None = None
        self.messages = 0
        self.needs_reset = False
        self.is_pipelined = False
        self._hello = hello.encode("ascii")
        self._contexts = contexts
        self._peer = ""
        self._socket: socket.socket | None = None
        self.link = Link()

    @property
    def is_usable(self) -> bool:
        """Whether the next command may be sent: the connection is open and answers and commands are in step."""
        return self.link.is_in_step

    @property
    def left_over(self) -> str:
        """What the server said that nobody asked for, "" where that is nothing that matters."""
        return self.link.left_over

    @property
    def takes_chunks(self) -> bool:
        """Whether a message goes by BDAT: the directory wants it, and the server offers it (RFC 3030)."""
        return self.server.chunking and "chunking" in self.offers.extensions

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate in DER."""
        session = self.link.ssl_object
        return session.getpeercert(binary_form=True) if session else None

    async def open(self, username: str, secret: Secret | None) -> None:
        """Take every step up to a logged-in connection."""
        await self.connect(await self.resolve())
        await self.begin()
        await self.hello()
        await self.login(username, secret)

    async def resolve(self) -> tuple[Endpoint, ...]:
        """Look the server's name up."""
        with self.step(Phase.RESOLVE):
            async with asyncio.timeout(self.timeouts.connect):
                return await resolve(self.server.host, self.server.effective_port)

    async def connect(self, endpoints: tuple[Endpoint, ...]) -> str:
        """Connect to the first endpoint that answers, and return its address."""
        with self.step(Phase.CONNECT):
            async with asyncio.timeout(self.timeouts.connect):
                self._socket = await dial(endpoints)
            self._peer = str(self._socket.getpeername()[0])
            return self._peer

    async def begin(self) -> None:
        """Hear the greeting, within TLS unless the server's security is "none"."""
        if self.server.security is Security.TLS:
            with self.step(Phase.STARTTLS):
                await self._take_line(await self._context())
        else:
            with self.step(Phase.CONNECT):
                await self._take_line(None)
        with self.step(Phase.GREETING):
            response = await self.link.greeting(self.timeouts.reply)
            self.demand(self._reply(response), "2")
        if self.server.security is Security.STARTTLS:
            await self.hello()
            await self._starttls()
        self._note_tls()

    async def hello(self) -> None:
        """EHLO, or HELO where the server knows no EHLO and neither TLS nor a login is asked for."""
        with self.step(Phase.EHLO):
            response = await self.link.ask(b"EHLO " + self._hello, self.timeouts.reply)
            reply = self._reply(response)
            if self._may_say_helo and _knows_no_ehlo(reply):
                self.offers = Offers()
                self.demand(await self.ask(Phase.EHLO, b"HELO " + self._hello), "2")
                return
            self.demand(reply, "2")
            self.offers = Offers.parse(response.message)
            self.is_pipelined = self.offers.has("pipelining")
            if (session := self.link.ssl_object) is not None:
                keep_session(session)

    async def login(self, username: str, secret: Secret | None) -> str:
        """Log in with one mechanism, once, and return its name; "" where the server's auth is "none"."""
        if self.server.auth is Auth.NONE:
            return ""
        self.progress.phase = Phase.LOGIN
        if not username or secret is None:
            raise _no_login("there is no name or no password to log in with")
        try:
            mechanism = self._mechanism()
        except NoMechanism as none:
            raise _no_login(str(none)) from None
        login = Login(mechanism, username, secret.value)
        try:
            await self._log_in(login)
        except Failed as failed:
            # The chain ends here: an exception below may hold what the server repeated of the password.
            raise Failed(login.told(failed.failure)) from None
        return mechanism.name.lower()

    async def ask(self, phase: Phase, line: bytes) -> Reply:
        """Send one command and return its answer, whatever its code. After a 421 the connection is closed."""
        with self.step(phase):
            return self._reply(await self.link.ask(line, self.timeouts.reply))

    async def check_in_step(self) -> None:
        """Ask for what is answered like nothing else, and end the transaction by it. Raises Failed where it is not.

        An answer too many, whose own command is answered later, looks like a refusal until more is asked. The answer to
        EHLO is no other's, and it does what RSET does (RFC 5321 section 4.1.4). A server that refuses it, or closes,
        has not answered anything else before.
        """
        try:
            with self.step(Phase.RCPT):
                response = await self.link.ask(b"EHLO " + self._hello, self.timeouts.reply)
        except Failed as failed:
            if not isinstance(failed.__cause__, ConnectionError):
                raise Failed(replace(failed.failure, out_of_step=True)) from None
            return
        if response.code == 250 and Offers.parse(response.message).extensions:
            self.needs_reset = False
        elif response.code // 100 != 5:
            self.abort()
            if response.code != 421:
                raise Failed(garbage(Phase.RCPT, f"EHLO was answered {response.code} {response.message}"))

    def fault(self, phase: Phase, raw: RawReply, digit: bytes) -> Failure | None:
        """Return what is wrong with the answer to a command, None where its code begins with that digit.

        A 4xx or 5xx is the refusal it is; anything else ends the connection.
        """
        if raw[0][:1] == digit:
            return None
        response = response_of(raw)
        if 400 <= response.code <= 599:
            reply = Reply.of_upstream(response.code, response.message)
            return refusal(phase, reply, self.server.answers)
        self.abort()
        return garbage(phase, f"{response.code} {response.message}")

    def demand(self, reply: Reply, digit: str) -> Reply:
        """Return the reply if its code begins with that digit, else raise Failed.

        A 4xx or 5xx is the refusal it is; anything else ends the connection, because the server answers something
        that was not asked.
        """
        if str(reply.code)[0] != digit:
            raise self._unwanted(reply)
        return reply

    async def close(self) -> None:
        """Say QUIT where that makes sense, and close."""
        await self.link.close(self.timeouts.quit)
        self.abort()

    def abort(self) -> None:
        """Close at once, without a word."""
        self.link.abort()
        if self._socket is not None:
            self._socket.close()

    @property
    def _may_say_helo(self) -> bool:
        # SECURITY: without EHLO there is neither STARTTLS nor AUTH, so whoever needs one of them never gets here.
        return self.server.security is Security.NONE and self.server.auth is Auth.NONE

    def step(self, phase: Phase) -> "_Step":
        """Name the phase, and let only Failed and CancelledError out. Both but a plain refusal end the connection."""
        self.progress.phase = phase
        return _Step(self)

    def failure_of(self, error: BaseException) -> Failure:
        """Return the failure that one of MAPPED is in this phase. The connection is closed."""
        self.abort()
        phase, server = self.progress.phase, self.server
        peer = Peer(server.host, server.effective_port, self.timeouts.of(phase))
        return failure_of(error, phase, peer, server.answers)

    def refusal(self, raw: RawReply) -> Failed:
        """Return what an answer is that does not begin with the right digit. Raises SMTPResponseException for none."""
        return self._unwanted(self._reply(response_of(raw)))

    def _reply(self, response: SMTPResponse) -> Reply:
        if not 200 <= response.code <= 599:
            raise SMTPResponseException(-1, str(response))
        if response.code == 421:  # RFC 5321 section 3.8: the server closes, and so do we
            self.abort()
        return Reply.of_upstream(response.code, response.message)

    def _unwanted(self, reply: Reply) -> Failed:
        phase = self.progress.phase
        if reply.code >= 400:
            return Failed(refusal(phase, reply, self.server.answers))
        self.abort()
        return Failed(garbage(phase, str(reply)))

    async def _take_line(self, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        host = self.server.host if context else None
        deadline = self.timeouts.connect if context else None
        await loop.create_connection(
            lambda: self.link, sock=self._socket, ssl=context, server_hostname=host, ssl_handshake_timeout=deadline
        )
        self._socket = None  # it is the transport's now

    async def _context(self) -> ssl.SSLContext:
        return await self._contexts.get(verify=self.server.verify_tls, ca_file=self.server.ca_file)

    async def _starttls(self) -> None:
        self.progress.phase = Phase.STARTTLS
        if not self.offers.has("starttls"):
            raise Failed(own_failure(Phase.STARTTLS, _NO_STARTTLS, Meaning.TEMPORARY, "the server offers no STARTTLS"))
        with self.step(Phase.STARTTLS):
            self.offers = Offers()
            await self.link.secure(await self._context(), self.server.host, self.timeouts.connect)

    def _note_tls(self) -> None:
        session = self.link.ssl_object
        if session is not None:
            cipher = session.cipher()
            self.tls = Tls(session.version() or "", cipher[0] if cipher else "")

    def _mechanism(self) -> Mechanism:
        server, is_encrypted = self.server, self.tls is not None
        # SECURITY: what a person allowed for a password holds for no token.
        is_allowed = server.allow_plaintext_password and server.auth is not Auth.OAUTH2
        is_safe = may_show_secret(self._peer, is_encrypted=is_encrypted, allow_plaintext=is_allowed)
        return choose(server.auth, self.offers.mechanisms, is_encrypted=is_encrypted, may_show_secret=is_safe)

    async def _log_in(self, login: Login) -> None:
        with self.step(Phase.LOGIN):
            try:
                reply = await self.ask(Phase.LOGIN, await login.begin())
                while reply.code == 334 and (line := await login.answer(reply.text)) is not None:
                    reply = await self.ask(Phase.LOGIN, line)
                self.demand(reply, "2")
                await login.confirm()
            except ExchangeStopped as stopped:
                self.abort()  # in the middle of an exchange nothing else can be said
                raise _no_login(str(stopped)) from None


class _Step:
    """What `Connection.step` gives. A class, because a generator for each command costs more than what it does."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Failed):
            return
        self._connection.abort()
        if isinstance(error, MAPPED):
            # Without its frames: one of them keeps the error, a circle, and others keep the message. For the same
            # reason the new error has no name here.
            raise Failed(self._connection.failure_of(error)) from error.with_traceback(None)


def _knows_no_ehlo(reply: Reply) -> bool:
    """Whether an answer to EHLO says that the command is not known (RFC 5321 section 3.2), not that we are unwanted."""
    return reply.is_permanent and reply.code not in _UNWANTED and not reply.enhanced.startswith("5.7.")


def _no_login(detail: str) -> Failed:
    return Failed(own_failure(Phase.LOGIN, _NO_LOGIN, Meaning.LOGIN_REFUSED, detail))
