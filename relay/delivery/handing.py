"""One hand-over within what its account may send: as many recipients as go at once, at the pace of the account."""

from dataclasses import replace

from relay.beside import beside
from relay.delivery.accounts import Accounts
from relay.delivery.office import Office
from relay.delivery.turn import Turn
from relay.directory.model import Meaning, Server
from relay.directory.routing import Route
from relay.mail.reply import Reply
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Transfer

_REST = Failure(
    phase=Phase.RCPT,
    reply=Reply(452, "4.5.3", "This recipient follows in another transaction"),
    meaning=Meaning.TEMPORARY,
    from_server=False,
    in_next_transaction=True,
)
# After these the others have a chance of their own: the server judged, or may have, a message for the first ones.
_ABOUT_THE_FIRST = frozenset({Meaning.REFUSED, Meaning.UNKNOWN})


def at_once(server: Server, recipients: int) -> int:
    """Return how many of the recipients one transaction takes."""
    return min(recipients, server.recipients_per_message or recipients)


async def hand_over(
    office: Office, accounts: Accounts, route: Route, transfer: Transfer, progress: Progress, turn: Turn
) -> Outcome:
    """Hand a message over to as many recipients as the turn was charged with; the others follow, says the outcome.

    Ends the turn. May be cancelled as `Office.hand_over`.
    """
    first = transfer
    if turn.recipients < len(transfer.recipients):
        first = replace(transfer, recipients=transfer.recipients[: turn.recipients])
    connections = accounts.connections(transfer.server, transfer.account)
    if connections < transfer.server.max_connections:
        first = replace(first, server=replace(transfer.server, max_connections=connections))
    progress.on_mail = turn.begin
    outcome: Outcome | None = None
    try:
        outcome = await office.hand_over(route, first, progress)
    finally:
        with beside("what a limit gets back"):
            turn.end(_used(turn, outcome, progress))
    outcome = accounts.count(route.account, outcome)
    if transfer.sender is None and outcome.failure is not None and _is_about_null_sender(outcome.failure):
        outcome = _without_blame(outcome, outcome.failure.meaning)
    return _with_rest(outcome, turn.recipients, len(transfer.recipients))


def _is_about_null_sender(failure: Failure) -> bool:
    """Whether a server refused MAIL FROM:<> as such: at once, or later as an address that the account may not use."""
    if failure.meaning is Meaning.IDENTITY_REFUSED:
        return True
    is_refusal = failure.meaning in {Meaning.REFUSED, Meaning.LOGIN_REFUSED}
    return failure.phase is Phase.MAIL and failure.from_server and failure.reply.is_permanent and is_refusal


def _without_blame(outcome: Outcome, meaning: Meaning) -> Outcome:
    """Return the outcome as one that holds no account: a refusal stays one, and everything else may be tried again."""
    if meaning is Meaning.REFUSED:
        return replace(outcome, refuses_null_sender=True)

    def lenient(failure: Failure) -> Failure:
        return replace(failure, meaning=Meaning.TEMPORARY) if failure.meaning is meaning else failure

    assert outcome.failure is not None
    return replace(
        outcome,
        failure=lenient(outcome.failure),
        refused={index: lenient(failure) for index, failure in outcome.refused.items()},
        refuses_null_sender=True,
    )


def _used(turn: Turn, outcome: Outcome | None, progress: Progress) -> int:
    """Return for how many recipients the server has the message, or may have it: those count for the provider."""
    if outcome is None:  # cancelled, or a fault of ours
        return turn.recipients if progress.final_dot_sent else 0
    if outcome.failure is not None and outcome.failure.meaning is not Meaning.UNKNOWN:
        return 0
    return turn.recipients - len(outcome.refused)


def _with_rest(outcome: Outcome, done: int, total: int) -> Outcome:
    if done == total or (outcome.failure is not None and outcome.failure.meaning not in _ABOUT_THE_FIRST):
        return outcome
    return replace(outcome, refused={**outcome.refused, **dict.fromkeys(range(done, total), _REST)})
