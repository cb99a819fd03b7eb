"""Reads the answer of a token endpoint (RFC 6749 section 5.1): anything may stand in it, and only good tokens count."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from relay.mail.reply import clean_text
from relay.secrets.oauth.answers import Grant

# RFC 6749 appendix A.12: visible ASCII. Microsoft's tokens have some 2,000 characters.
_TOKEN = re.compile(r"[\x20-\x7e]{1,65536}")
# Where the provider does not say (RFC 6749 section 5.1 only recommends it): what most of them give.
_USUAL_SECONDS = 3600
_MOST_SECONDS = 366 * 24 * 3600
# The claims by which a provider names a login: OpenID Connect Core section 5.1, and Microsoft's own.
_NAMES = ("preferred_username", "email", "upn")
_MOST_NAME = 320


def grant_of(said: Mapping[str, Any]) -> Grant:
    """Return what a token endpoint gave. Raises ValueError where it is no usable access token."""
    if str(said.get("token_type") or "bearer").lower() != "bearer":
        raise ValueError("no bearer token")
    return Grant(
        access_token=_token(said.get("access_token")),
        refresh_token=_token(said["refresh_token"]) if said.get("refresh_token") else "",
        seconds=_seconds(said.get("expires_in")),
        scope=clean_text(str(said.get("scope") or "")),
        who=_who(said.get("id_token")),
    )


def _token(value: Any) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("no token")
    return value


def _seconds(value: Any) -> int:
    """Return a lifetime. Microsoft has been seen to write it as text."""
    try:
        seconds = int(value)
    except (TypeError, ValueError):
        return _USUAL_SECONDS
    return min(seconds, _MOST_SECONDS) if seconds > 0 else _USUAL_SECONDS


def _who(id_token: Any) -> str:
    """Return whom an ID token names, "" for nobody.

    Its signature is not looked at: it came from the provider itself over TLS (OpenID Connect Core section 3.1.3.7),
    and serves a warning alone.
    """
    try:
        payload = str(id_token).split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        named = next((claims[name] for name in _NAMES if isinstance(claims.get(name), str)), "")
    except (IndexError, ValueError, AttributeError, RecursionError):
        return ""
    return clean_text(named)[:_MOST_NAME]
