"""One attempt as a value: its message, where it goes, and how it ended."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from relay.delivery.lifecycle import State
from relay.delivery.office import Refused
from relay.delivery.verdict import Verdict
from relay.directory.model import Meaning
from relay.directory.routing import Route
from relay.mail.content import Content
from relay.store.messages import Attempt, HoldRow, NewMessage, Settlement, StoredMessage
from relay.upstream.outcome import Failure, Outcome, Phase


@dataclass(slots=True)
class Work:
    """One attempt under way: the message with its copies SENDING, as it came, and where it goes.

    `make` gives the message where somebody asks for it: what goes well while its client waits is never stored so.
    """

    make: Callable[[], StoredMessage]
    content: Content
    attempt: Attempt
    route: Route | None = None
    secret_version: str = ""
    hold: HoldRow | None = None  # over its account when it was let go; any other stops it
    _message: StoredMessage | None = None

    @classmethod
    def of(cls, message: StoredMessage, content: Content, attempt: Attempt, route: Route | None = None) -> "Work":
        """Return the attempt for a message that is stored."""
        return cls(lambda: message, content, attempt, route)

    @property
    def message(self) -> StoredMessage:
        """The message, the same one every time."""
        if self._message is None:
            self._message = self.make()
        return self._message


class Held(Exception):
    """A hold came over the account of an attempt that had not begun: it would have been in vain."""

    def __init__(self, hold: HoldRow) -> None:
        super().__init__(hold.reason)
        self.hold = hold


def ended(attempt: Attempt, outcome: Outcome, now: datetime) -> Attempt:
    """Return an attempt with what came of it."""
    failure = outcome.first_failure
    return Attempt(
        number=attempt.number,
        started=attempt.started,
        server=attempt.server,
        username=attempt.username,
        changes=attempt.changes,
        ended=now,
        phase=str(failure.phase if failure else Phase.FINAL),
        final_dot=outcome.failure is None or outcome.failure.phase is Phase.FINAL,
        reply=str(outcome.failure.reply if outcome.failure else outcome.accepted),
        meaning=str(failure.meaning) if failure else "",
        tls=outcome.tls.version if outcome.tls else "",
    )


def may_have(outcome: Outcome) -> bool:
    """Whether the server has the message for anybody, or may have it."""
    failures = [failure for failure in (outcome.failure, *outcome.refused.values()) if failure is not None]
    return outcome.accepted is not None or any(failure.meaning is Meaning.UNKNOWN for failure in failures)


def failure_of(refusal: Refused) -> Failure:
    """Return our own refusal as what ended an attempt."""
    meaning = refusal.meaning or (Meaning.REFUSED if refusal.reply.is_permanent else Meaning.TEMPORARY)
    return Failure(phase=Phase.MAIL, reply=refusal.reply, meaning=meaning, from_server=False, detail=refusal.detail)


def settlement_of(
    before: StoredMessage, verdict: Verdict, attempt: Attempt | None, reports: tuple[NewMessage, ...]
) -> Settlement:
    """Return what is to be written: the verdict's message, with those of its recipients that changed."""
    after, is_finished = verdict.message, State(verdict.message.state).is_final
    was = {one.number: one for one in before.recipients}
    return Settlement(
        id=after.id,
        fence=after.fence,
        recipients=tuple(one for one in after.recipients if was[one.number] != one or one.state == State.SENDING),
        state=after.state,
        next_attempt=after.next_attempt,
        reason=after.reason,
        held_by=after.held_by,
        unknowns=after.unknowns,
        warned=after.warned,
        held_since=after.held_since,
        held_seconds=after.held_seconds,
        delivered=after.delivered,
        reply=after.reply,
        attempt=_as_kept(attempt, is_finished=is_finished) if attempt else None,
        is_finished=is_finished,
        reports=reports,
    )


def _as_kept(attempt: Attempt, *, is_finished: bool) -> Attempt:
    """Return an attempt as history has it: of a header that never left, and is made anew, no changes are kept."""
    return attempt if attempt.final_dot or is_finished else replace(attempt, changes=None)
