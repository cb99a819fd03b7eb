"""The operations on accounts: whom we log in as, and who of them is held."""

from asyncio import to_thread

from relay.config.faults import did_you_mean
from relay.control.audit_log import note
from relay.control.context import ControlContext
from relay.control.json_values import fields_of
from relay.control.messages.records import rfc3339
from relay.control.operation import Operation
from relay.control.overview import advice, holder_of
from relay.control.refused import NotFound, Refused
from relay.control.results import AccountRecord, AccountReleased, AdvisedAccount, HeldAccount, TokenState
from relay.directory.model import Account
from relay.secrets.secret import token_refs


class Accounts:
    """What can be asked about accounts, and done with them."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "account.list": Operation(self.list_),
            "account.troubled": Operation(self.troubled),
            "account.release": Operation(self.release, is_change=True),
        }

    async def list_(self) -> list[AccountRecord]:
        """Return all accounts, those in trouble first."""
        tokens = {token.account: token for token in await token_states(self._parts)}
        records = [
            AccountRecord(**fields_of(one), oauth=tokens.get(one.account))
            for one in self._parts.queue_actions.accounts()
        ]
        return sorted(records, key=lambda one: (one.state == "ok", one.account, one.address))

    async def troubled(self, *, server: str | None = None) -> list[AdvisedAccount]:
        """Return the accounts that are held or slowed, of one server or all, with what to do about each (`advice`)."""
        directory = self._parts.directory.routing().directory
        records = [one for one in await to_thread(self._parts.queue_actions.troubled) if server in (None, one.server)]
        return [
            AdvisedAccount(
                **fields_of(one),
                advice=advice(one, holder_of(directory, Account(one.server, one.username), one.profiles)),
            )
            for one in sorted(records, key=lambda one: (one.state != "held", one.account, one.address))
        ]

    async def release(self, *, account: str) -> AccountReleased:
        """Let the mail of an account ("SERVER/USERNAME") go on, and return which it is."""
        records = self._parts.queue_actions.accounts()
        known = {record.account for record in records}
        if account not in known:
            raise NotFound(f"there is no account '{account}'{did_you_mean(account, known)}; see relay account list")
        server, _, username = account.partition("/")
        if not await self._parts.queue_actions.release_account(server, username):
            raise Refused(f"account {account} is not held")
        for one in records:
            if one.account == account and one.state != "ok":
                note(f"state as {one.address}" if one.address else "state", one.state, "ok")
        return AccountReleased(account=account)


async def accounts_held(parts: ControlContext) -> list[HeldAccount]:
    """Return the accounts that are held, as `status` has them."""
    return [
        HeldAccount(
            account=f"{hold.server}/{hold.username}",
            address=hold.address,
            held_since=rfc3339(hold.since),
            reason=hold.reason,
        )
        for hold in await parts.queue.holds()
    ]


async def token_states(parts: ControlContext) -> list[TokenState]:
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
