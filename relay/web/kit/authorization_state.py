"""What the browser keeps while somebody is away at an identity provider: the state and verifier of one authorization.

SECURITY: both are in a cookie that no script reads, and not in an address. It is signed with a key of the session, so
that it counts in that session alone: nobody can lay one of their own into another's browser and so have the other's
mail leave with an account of theirs (login CSRF, RFC 6749 section 10.12).
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from dataclasses import asdict, dataclass, field

from starlette.responses import Response

from relay.web.kit.page_request import PageRequest, cookie_of

_NAME = "relay-oauth"
_PATH = "/"
_SECONDS = 15 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An authorization that has begun: of which account, and what its end must bring."""

    name: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)


def keep(visit: PageRequest, response: Response, pending: Pending) -> None:
    """Let the browser keep an authorization that has begun, in place of an earlier one."""
    said = urlsafe_b64encode(json.dumps(asdict(pending)).encode()).decode()
    response.set_cookie(
        _NAME,
        f"{said}.{_signature(visit, said)}",
        max_age=_SECONDS,
        path=_PATH,
        httponly=True,
        samesite="lax",
        secure=visit.site.is_secure,
    )


def kept(visit: PageRequest) -> Pending | None:
    """Return the authorization that this session began; None where there is none, or where it is too long ago."""
    said, _, signature = (cookie_of(visit.request, _NAME) or "").partition(".")
    if not said or not hmac.compare_digest(signature.encode(), _signature(visit, said).encode()):
        return None
    try:
        return Pending(**json.loads(urlsafe_b64decode(said)))
    except (Error, ValueError, TypeError):  # signed by another version of ours
        return None


def forget(response: Response) -> None:
    """Let the browser forget it."""
    response.delete_cookie(_NAME, path=_PATH)


def _signature(visit: PageRequest, said: str) -> str:
    assert visit.session is not None
    return hmac.digest(visit.session.form_key.encode(), f"oauth:{said}".encode(), "sha256").hex()
