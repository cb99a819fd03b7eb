"""Logging in with an OAuth access token: XOAUTH2 as Google and Microsoft have it, and OAUTHBEARER (RFC 7628).

After a refusal both servers explain themselves in a challenge of JSON; it is answered with next to nothing, and then
the refusal comes (developers.google.com/gmail/imap/xoauth2-protocol, RFC 7628 section 3.2.3).
"""

import json
import re
from base64 import b64decode, b64encode

from relay.mail.reply import clean_text
from relay.upstream.exchange import Exchange, ExchangeStopped

# RFC 6750 section 2.1: b64token. What else stands in a token would end its field.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST_WORDS = 300


def xoauth2(username: str, token: str) -> Exchange:
    """Say the name and the token at once. Raises ExchangeStopped for those that cannot be told so."""
    _check(username, token)
    yield b"AUTH XOAUTH2 " + b64encode(f"user={username}\x01auth=Bearer {token}\x01\x01".encode())
    yield b""


def oauthbearer(username: str, token: str) -> Exchange:
    """Say the name and the token at once. Raises ExchangeStopped for those that cannot be told so."""
    _check(username, token)
    # RFC 5801 section 4: in the name "," and "=" are written out.
    name = username.replace("=", "=3D").replace(",", "=2C")
    yield b"AUTH OAUTHBEARER " + b64encode(f"n,a={name},\x01auth=Bearer {token}\x01\x01".encode())
    yield b64encode(b"\x01")


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
