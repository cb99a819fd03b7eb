"""Access tokens that every Dovecot of a run takes: JSON Web Tokens, signed with one key that only this run knows."""

import hmac
import json
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from string import Template

_PASSDB = Template("""\
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = $tokens
}
""")
_TOKENS = Template("""\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix=$keys/
username_attribute = sub
active_attribute = active
active_value = true
issuers = $issuer
""")
_ISSUER = "identity.test"
_HEADER = {"alg": "HS256", "typ": "JWT"}
_KEY = secrets.token_bytes(32)


def access_token(user: str, *, seconds: float = 3600, key: bytes | None = None, jti: str = "") -> str:
    """An access token of one user, good for so many seconds; signed with another key it is good for nothing.

    `jti` is its own name (RFC 7519 section 4.1.7), where it is to have one.
    """
    now = int(time.time())
    claims = {"sub": user, "iss": _ISSUER, "active": "true", "iat": now - 60, "nbf": now - 60, "exp": now + seconds}
    claims |= {"jti": jti} if jti else {}
    signed = ".".join(_without_padding(json.dumps(part).encode()) for part in (_HEADER, claims))
    return f"{signed}.{_without_padding(hmac.digest(key or _KEY, signed.encode(), 'sha256'))}"


def write_passdb(folder: Path) -> str:
    """Write what says whether a token is good, and return the part of a configuration that asks it.

    Dovecot looks for the key by the token's algorithm and the name "default".
    """
    keys = folder / "keys"
    place = keys / "default" / "HS256"
    place.mkdir(parents=True)
    (place / "default").write_bytes(b64encode(_KEY))
    tokens = folder / "tokens.conf"
    tokens.write_text(_TOKENS.substitute(keys=keys, issuer=_ISSUER))
    return _PASSDB.substitute(tokens=tokens)


def _without_padding(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
