"""Logging in: one mechanism, chosen by what EHLO offers, and one attempt (RFC 4954).

aiosmtplib's login() tries the next mechanism after a refusal; three wrong logins for one attempt lock accounts.
SECURITY: a server may repeat in its answer what we sent; `masked` takes that out before anything is logged.
"""

import ipaddress
from collections.abc import Callable, Collection, Generator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode

from relay.directory.model import Auth

Exchange: TypeAlias = Generator[bytes, str, None]
"""Yields the lines that we send, is sent the text of each 334."""

_PREFERENCE = (Auth.CRAM_MD5, Auth.PLAIN, Auth.LOGIN)
_SENDS_PASSWORD = frozenset({Auth.PLAIN, Auth.LOGIN})


class NoMechanism(Exception):
    """There is no way to log in at this server. The message says why."""


def choose(auth: Auth, offered: Collection[str], *, is_encrypted: bool, may_send_password: bool) -> Auth:
    """Return the mechanism to log in with. `offered` are the names of EHLO's AUTH, in any case. Raises NoMechanism.

    `auto` takes cram-md5 (only without TLS: within it the password is safe, and servers keep it better without),
    then plain, then login. `may_send_password` says whether the password itself may go over this connection.
    """
    names = {name.lower() for name in offered}
    wanted = _PREFERENCE if auth is Auth.AUTO else (auth,)
    found = [mechanism for mechanism in wanted if mechanism.value in names and mechanism in EXCHANGES]
    if auth is Auth.AUTO and is_encrypted:
        found = [mechanism for mechanism in found if mechanism is not Auth.CRAM_MD5]
    safe = [mechanism for mechanism in found if may_send_password or mechanism not in _SENDS_PASSWORD]
    if safe:
        return safe[0]
    if found:
        raise NoMechanism("the password would go in clear over the network; allow_plaintext_password is not set")
    listed = " ".join(sorted(name.upper() for name in names)) or "no login at all"
    raise NoMechanism(f"the server offers {listed}, and {auth.value} was to be used")


def may_send_password(peer: str, *, is_encrypted: bool, allow_plaintext: bool) -> bool:
    """Whether a password may go in clear to the address we are connected to (not its name, which could lie)."""
    return is_encrypted or allow_plaintext or ipaddress.ip_address(peer.partition("%")[0]).is_loopback


def masked(text: str, username: str, password: str) -> str:
    """Return text without the password, in any of the spellings in which it was sent."""
    user, word = username.encode(errors="replace"), password.encode(errors="replace")
    spellings = (auth_plain_encode(user, word), auth_login_encode(user, word)[1], word)
    for spelling in filter(None, spellings):
        text = text.replace(spelling.decode(), "***")
    return text


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


EXCHANGES: Mapping[Auth, Callable[[str, str], Exchange]] = MappingProxyType(
    {Auth.PLAIN: _plain, Auth.LOGIN: _login, Auth.CRAM_MD5: _cram_md5}
)
