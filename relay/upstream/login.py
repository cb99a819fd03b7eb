"""Logging in: one mechanism, chosen by what EHLO offers, and one attempt (RFC 4954).

aiosmtplib's login() tries the next mechanism after a refusal; three wrong logins for one attempt lock accounts.
SECURITY: a server may repeat in its answer what we sent; `masked` takes that out before anything is logged.
"""

import asyncio
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode

from relay.directory.model import Auth
from relay.upstream.bearer import oauthbearer, refusal_words, xoauth2
from relay.upstream.exchange import Exchange, ExchangeStopped
from relay.upstream.outcome import Failure

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


def _scram_sha_256(username: str, password: str) -> Exchange:
    from relay.upstream.scram import scram_sha_256  # noqa: PLC0415  2 MB, for the few servers that have it

    yield from scram_sha_256(username, password)


MECHANISMS = (
    Mechanism(name="SCRAM-SHA-256", auth=Auth.SCRAM_SHA_256, exchange=_scram_sha_256, is_mutual=True),
    Mechanism(name="CRAM-MD5", auth=Auth.CRAM_MD5, exchange=_cram_md5),
    Mechanism(name="PLAIN", auth=Auth.PLAIN, exchange=_plain, shows_secret=True),
    Mechanism(name="LOGIN", auth=Auth.LOGIN, exchange=_login, shows_secret=True),
    # XOAUTH2 first: where a provider offers both, it is the one that the provider documents and all clients use.
    Mechanism(name="XOAUTH2", auth=Auth.OAUTH2, exchange=xoauth2, shows_secret=True),
    Mechanism(name="OAUTHBEARER", auth=Auth.OAUTH2, exchange=oauthbearer, shows_secret=True),
)
"""All mechanisms, in the order in which one of those that fit is taken."""
