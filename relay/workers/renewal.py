"""The renewal of access tokens, which the first worker does for all."""

from collections.abc import Callable, Iterable
from typing import Any

from relay.secrets.oauth import Tokens
from relay.secrets.oauth_answers import TokenRefused
from relay.secrets.secret import SecretRef
from relay.secrets.sources import SecretDelayed, SecretUnavailable
from relay.workers.siblings import Siblings

_KIND = "renewal"
_SECONDS = 60.0
_ERRORS = {kind.__name__: kind for kind in (TokenRefused, SecretDelayed, SecretUnavailable)}


class ByTheFirst:
    """Lets the first worker renew (`relay.secrets.oauth.Elsewhere`)."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings

    async def renew(self, owner: str, version: str) -> None:
        """Let it renew the tokens of an owner."""
        try:
            answer = await self._siblings.ask_first(_KIND, [owner, version], _SECONDS)
        except TimeoutError:
            raise SecretDelayed("the worker that renews access tokens does not answer") from None
        if answer["error"]:
            raise _ERRORS[answer["kind"]](answer["error"])


def renew_for_all(siblings: Siblings, tokens: Tokens, refs: Callable[[], Iterable[SecretRef]]) -> None:
    """Renew when another worker asks for it. `refs` returns the accounts of the directory that have tokens."""

    async def answer(question: Any) -> dict[str, str]:
        owner, version = question
        ref = next((ref for ref in refs() if ref.owner == owner), None)
        try:
            if ref is None:
                raise SecretUnavailable("the directory has this account no more")
            await tokens.renew_for(ref, version)
        except SecretUnavailable as error:
            kind = type(error).__name__
            return {"error": str(error), "kind": kind if kind in _ERRORS else SecretUnavailable.__name__}
        return {"error": "", "kind": ""}

    siblings.answer(_KIND, answer)
