"""How the tokens of the accounts that log in by OAuth are, as `status` and `account list` show them."""

from relay.control.context import Parts
from relay.control.messages.records import rfc3339
from relay.control.results import TokenState
from relay.secrets.secret import token_refs


async def token_states(parts: Parts) -> list[TokenState]:
    """Return for each account that logs in by OAuth when its token expires, and how the last renewal went."""
    states: dict[str, TokenState] = {}
    for ref in token_refs(parts.directory.routing().directory):
        assert ref.token is not None
        account = f"{ref.token.server}/{ref.token.username}"
        if ref.source or account in states:
            continue
        state = await parts.secrets.tokens.state(ref)
        states[account] = TokenState(
            account=account,
            expires=rfc3339(state.expires),
            refreshed=rfc3339(state.refreshed),
            state=state.state,
            error=state.error,
        )
    return list(states.values())
