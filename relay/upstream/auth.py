"""Logging in: one mechanism, chosen by what EHLO offers, and one attempt (RFC 4954); and who tries first.

aiosmtplib's login() tries the next mechanism after a refusal; three wrong logins for one attempt lock accounts.

A token logs in by XOAUTH2 as Google and Microsoft have it, or OAUTHBEARER (RFC 7628). After a refusal both servers
explain themselves in a challenge of JSON; it is answered with next to nothing, and then the refusal comes
(developers.google.com/gmail/imap/xoauth2-protocol, RFC 7628 section 3.2.3).

By SCRAM-SHA-256 (RFC 5802, RFC 7677, the library scramp) the password never leaves, and the server must prove that it
knows it too.

SECURITY: a server may repeat in its answer what we sent; `masked` takes that out before anything is logged. With SCRAM
the server chooses how often the password is hashed: what is asked beyond our bound is not done, and what is done runs
in a thread of its own (`Mechanism.is_mutual`).
"""

import asyncio
import ipaddress
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode

from relay.directory.model import Auth, Meaning
from relay.mail.reply import clean_text
from relay.upstream.outcome import Failed, Failure

Exchange: TypeAlias = Generator[bytes, str, None]
"""Yields the lines that we send, the first with its AUTH, and is sent the text of each 334."""


class ExchangeStopped(Exception):
    """We do not go on with this login. The message says why in one sentence, and shows no secret."""


# RFC 6750 section 2.1: b64token. What else stands in a token would end its field.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST_WORDS = 300
# What is said after a refusal that explains itself.
XOAUTH2_END = b""
OAUTHBEARER_END = b"\x01"


def xoauth2_message(username: str, token: str) -> bytes:
    """Return what XOAUTH2 says, in any protocol. Raises ExchangeStopped for what cannot be told so."""
    _check(username, token)
    return f"user={username}\x01auth=Bearer {token}\x01\x01".encode()


def oauthbearer_message(username: str, token: str) -> bytes:
    """Return what OAUTHBEARER says, in any protocol. Raises ExchangeStopped for what cannot be told so."""
    _check(username, token)
    # RFC 5801 section 4: in the name "," and "=" are written out.
    name = username.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={name},\x01auth=Bearer {token}\x01\x01".encode()


def xoauth2(username: str, token: str) -> Exchange:
    """Say the name and the token at once. Raises ExchangeStopped for those that cannot be told so."""
    yield b"AUTH XOAUTH2 " + b64encode(xoauth2_message(username, token))
    yield XOAUTH2_END


def oauthbearer(username: str, token: str) -> Exchange:
    """Say the name and the token at once. Raises ExchangeStopped for those that cannot be told so."""
    yield b"AUTH OAUTHBEARER " + b64encode(oauthbearer_message(username, token))
    yield b64encode(OAUTHBEARER_END)


def refusal_words(challenge: str) -> str:
    """Return what a server's challenge says about a token that it refuses ("status 400, scope mail"); "" for none.

    `challenge` is the text of a 334: base64 of a JSON object. SECURITY: anything may come; the words are one clean
    line of at most 300 characters.
    """
    try:
        said = json.loads(b64decode(challenge, validate=True))
    except (ValueError, RecursionError):
        return ""
    if not isinstance(said, dict):
        return ""
    words = ", ".join(f"{key} {value}" for key, value in said.items() if isinstance(value, str | int) and value != "")
    return clean_text(words)[:_MOST_WORDS]


def _check(username: str, token: str) -> None:
    if _CONTROL.search(username):
        raise ExchangeStopped("a name with a control character cannot log in by OAuth")
    if not _TOKEN.fullmatch(token):
        raise ExchangeStopped("the access token is none: it has a character that no token has (RFC 6750 section 2.1)")


_SCRAM = "SCRAM-SHA-256"
MOST_ITERATIONS = 1_000_000
"""Under a second of work. Servers use 4096 (RFC 7677 section 4) to some hundred thousand."""


def scram_sha_256(username: str, password: str) -> Exchange:
    """Say who we are, prove that we know the password, and hear the server's proof.

    Raises ExchangeStopped for a server that breaks the rules or proves nothing, and for a name or password that
    SASLprep does not allow.
    """
    from scramp import ScramClient  # noqa: PLC0415  2 MB, for the few servers that have it

    with _stopping("the name or the password cannot be told by SCRAM-SHA-256"):
        client: Any = ScramClient([_SCRAM], username, password)
    challenge = yield f"AUTH {_SCRAM} ".encode() + _encoded(client.get_client_first())
    with _stopping("the server's first message of SCRAM-SHA-256 is wrong"):
        client.set_server_first(_decoded(challenge))
    if int(client.iterations) > MOST_ITERATIONS:
        raise ExchangeStopped(f"the server wants the password hashed {client.iterations} times; that is too often")
    proof = yield _encoded(client.get_client_final())
    with _stopping("the server did not prove that it knows the password"):
        client.set_server_final(_decoded(proof))
    # RFC 4954 section 4: the proof comes as a challenge, and is answered with nothing.
    yield b""


@contextmanager
def _stopping(sentence: str) -> Iterator[None]:
    from scramp import ScramException  # noqa: PLC0415  as above

    try:
        yield
    except (ScramException, ValueError) as error:
        raise ExchangeStopped(f"{sentence}: {error}") from None


def _encoded(message: str) -> bytes:
    return b64encode(message.encode())


def _decoded(challenge: str) -> str:
    return b64decode(challenge, validate=True).decode()


_UNPROVEN = "the server says that the login is good, and did not prove that it knows the password"
# What may be a piece of base64 or of a token: a server that repeats a long line may cut it.
_PIECE = re.compile(r"[A-Za-z0-9+/=_~-]{8,}")


class NoMechanism(Exception):
    """There is no way to log in at this server. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """A way to log in. `name` is that of EHLO, `auth` the word of directory.toml that asks for it.

    `shows_secret`: whoever reads the connection has the password or token then. `is_mutual`: the server proves that
    it knows the password too, and nobody is logged in before; that takes much hashing, so it is done in a thread.
    """

    name: str
    auth: Auth
    exchange: Callable[[str, str], Exchange]
    shows_secret: bool = False
    is_mutual: bool = False


def choose(auth: Auth, offered: Collection[str], *, is_encrypted: bool, may_show_secret: bool) -> Mechanism:
    """Return the mechanism to log in with. `offered` are the names of EHLO's AUTH, in any case. Raises NoMechanism.

    `auto` takes scram-sha-256, then cram-md5 (only without TLS: within it the password is safe, and servers keep it
    better without), then plain, then login. `may_show_secret` says whether the password or token itself may go over
    this connection.
    """
    names = {name.upper() for name in offered}
    found = [each for each in MECHANISMS if each.name in names and _is_wanted(each, auth, is_encrypted=is_encrypted)]
    safe = [mechanism for mechanism in found if may_show_secret or not mechanism.shows_secret]
    if safe:
        return safe[0]
    if found and auth is Auth.OAUTH2:
        raise NoMechanism('the token would go in clear over the network; set security = "starttls" or "tls"')
    if found:
        raise NoMechanism("the password would go in clear over the network; allow_plaintext_password is not set")
    listed = " ".join(sorted(names)) or "no login at all"
    raise NoMechanism(f"the server offers {listed}, and {auth.value} was to be used")


def may_show_secret(peer: str, *, is_encrypted: bool, allow_plaintext: bool) -> bool:
    """Whether a secret may go in clear to the address we are connected to (not its name, which could lie)."""
    return is_encrypted or allow_plaintext or ipaddress.ip_address(peer.partition("%")[0]).is_loopback


class Login:
    """One login, tried once: what is said next, and what may be shown of what came of it."""

    def __init__(self, mechanism: Mechanism, username: str, secret: str) -> None:
        self._mechanism = mechanism
        self._exchange = mechanism.exchange(username, secret)
        self._secret = secret
        self._said: list[str] = []
        self._challenge = ""

    async def begin(self) -> bytes:
        """Return the first line. Raises ExchangeStopped, ValueError for what cannot be told so."""
        line = await self._step(None)
        assert line is not None
        return line

    async def answer(self, challenge: str) -> bytes | None:
        """Return the line that answers the text of a 334, None where there is nothing to say. Raises as `begin`."""
        self._challenge = challenge
        return await self._step(challenge)

    async def confirm(self) -> None:
        """Take note that the server says we are in. Raises ExchangeStopped where it owes a proof."""
        if self._mechanism.is_mutual:
            try:
                is_over = await self._step("") is None
            except ExchangeStopped:
                is_over = False
            if not is_over:
                raise ExchangeStopped(_UNPROVEN)

    def told(self, failure: Failure) -> Failure:
        """Return a failure with the server's words about a token, and without anything of the secret."""
        detail = failure.detail
        if self._mechanism.auth is Auth.OAUTH2 and not detail:
            detail = refusal_words(self._challenge)
        reply = replace(failure.reply, text=self._masked(failure.reply.text))
        return replace(failure, reply=reply, detail=self._masked(detail))

    def _masked(self, text: str) -> str:
        # A token is long and random: any piece of it is told by what it is. A piece of a password may be a word.
        said = [*self._said, self._secret] if self._mechanism.auth is Auth.OAUTH2 else self._said
        return masked(text, self._secret, said)

    async def _step(self, challenge: str | None) -> bytes | None:
        if self._mechanism.is_mutual:
            line = await asyncio.to_thread(self._next, challenge)
        else:
            line = self._next(challenge)
        if line is not None:
            words = line.decode().split(" ")
            self._said += words[2:] if words[0] == "AUTH" else words
        return line

    def _next(self, challenge: str | None) -> bytes | None:
        try:
            return next(self._exchange) if challenge is None else self._exchange.send(challenge)
        except StopIteration:
            return None


def masked(text: str, secret: str, said: Iterable[str]) -> str:
    """Return text without the secret, and without what was said of it (base64), whole or cut."""
    spellings = [word for word in said if word]
    for spelling in sorted([*spellings, *filter(None, [secret])], key=len, reverse=True):
        text = text.replace(spelling, "***")
    whole = " ".join(spellings)
    return _PIECE.sub(lambda piece: "***" if piece[0] in whole else piece[0], text)


def _is_wanted(mechanism: Mechanism, auth: Auth, *, is_encrypted: bool) -> bool:
    if auth is Auth.AUTO:
        return mechanism.auth is not Auth.OAUTH2 and not (is_encrypted and mechanism.auth is Auth.CRAM_MD5)
    return mechanism.auth is auth


def _plain(username: str, password: str) -> Exchange:
    # RFC 4616 section 2: NUL parts the fields, so none of them holds one.
    if "\0" in username + password:
        raise ValueError("a name or password with a NUL cannot be told by PLAIN")
    yield b"AUTH PLAIN " + auth_plain_encode(username, password)


def _login(username: str, password: str) -> Exchange:
    # The name as an answer of its own: not every server takes it behind AUTH LOGIN.
    yield b"AUTH LOGIN"
    user, word = auth_login_encode(username, password)
    yield user
    yield word


def _cram_md5(username: str, password: str) -> Exchange:
    challenge = yield b"AUTH CRAM-MD5"
    yield auth_crammd5_verify(username, password, challenge)


MECHANISMS = (
    Mechanism(name="SCRAM-SHA-256", auth=Auth.SCRAM_SHA_256, exchange=scram_sha_256, is_mutual=True),
    Mechanism(name="CRAM-MD5", auth=Auth.CRAM_MD5, exchange=_cram_md5),
    Mechanism(name="PLAIN", auth=Auth.PLAIN, exchange=_plain, shows_secret=True),
    Mechanism(name="LOGIN", auth=Auth.LOGIN, exchange=_login, shows_secret=True),
    # XOAUTH2 first: where a provider offers both, it is the one that the provider documents and all clients use.
    Mechanism(name="XOAUTH2", auth=Auth.OAUTH2, exchange=xoauth2, shows_secret=True),
    Mechanism(name="OAUTHBEARER", auth=Auth.OAUTH2, exchange=oauthbearer, shows_secret=True),
)
"""All mechanisms, in the order in which one of those that fit is taken."""


class FirstLogin:
    """Lets connections be opened one at a time until a login has worked, and all at once from then on."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._has_worked = False
        self.refusals = 0
        self._refusal: Failure | None = None
        self.untold: Failure | None = None  # a refusal that no caller has been told of yet

    async def open(self, opening: Callable[[], Awaitable[None]], since: int) -> None:
        """Open a connection in its turn. Raises Failed: what the opening raised, or a refusal that came meanwhile.

        `since` is what `refusals` was when the message began to wait.
        """
        if not self._has_worked:
            async with self._turn:
                if self._refusal is not None and self.refusals != since:
                    raise Failed(self._refusal)
                if not self._has_worked:
                    await self._open(opening)
                    return
        await self._open(opening)

    def told(self, failure: Failure) -> None:
        """A caller is told of a failure now."""
        if failure is self.untold:
            self.untold = None

    async def _open(self, opening: Callable[[], Awaitable[None]]) -> None:
        try:
            await opening()
        except Failed as failed:
            if failed.failure.meaning is Meaning.LOGIN_REFUSED:
                self._has_worked = False
                self.refusals += 1
                self._refusal = self.untold = failed.failure
            raise
        self._has_worked = True
        self.untold = None
