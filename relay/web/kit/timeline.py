"""The journey of one message as the steps of a timeline. Pure: a record of `messages.show` in, steps out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from relay.control.messages.results import AttemptRecord, JourneyRecord, ReportRecord
from relay.delivery.outcome import State
from relay.upstream.outcome import Phase
from relay.web.kit.site import size
from relay.web.kit.words import MEANINGS, PHASES, REPORTS, STATES, told

Look: TypeAlias = Literal["plain", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a step. `is_quoted`: the words are somebody else's, a server's or a client's. `where` is a page."""

    label: str
    text: str
    is_quoted: bool = False
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened to a message, or will. `at` is a time of RFC 3339."""

    title: str
    at: str | None = None
    look: Look = "plain"
    note: str = ""
    facts: Sequence[Fact] = field(default_factory=tuple)


def steps_of(record: JourneyRecord) -> list[Step]:
    """Return what happened to a message, in the order of time, and what comes next."""
    reports = [_report(one) for one in record.reports]
    happened = [_came(record), *map(_attempt, record.attempts), *_returned(record), *reports]
    # Times are whole seconds; what has the same one stays in the order in which it is made here.
    return [*sorted(happened, key=lambda step: step.at or ""), *_now(record)]


def _came(record: JourneyRecord) -> Step:
    if record.is_report:
        return Step(title="Relay wrote it", at=record.created, note="A report to the sender of another message.")
    facts = [
        Fact("From", f"{record.peer}, which called itself {record.helo}", is_quoted=True),
        Fact("Protocol", record.protocol),
        Fact("Size", size(record.size)),
    ]
    return Step(title=f"{record.client} handed it over", at=record.created, look="good", facts=facts)


def _attempt(attempt: AttemptRecord) -> Step:
    title = f"Attempt {attempt.number}"
    facts = [
        *([Fact("Account", attempt.account)] if attempt.account else []),
        *([Fact("Encryption", attempt.tls)] if attempt.tls else []),
        *([] if attempt.changes is None else [Fact("Header changes", _changed(attempt))]),
    ]
    if attempt.ended is None:
        until = PHASES.get(attempt.phase, attempt.phase)
        return Step(title=f"{title} is under way", at=attempt.started, note=f"It began with {until}.", facts=facts)
    facts += [
        *([] if attempt.tls or not attempt.final_dot else [Fact("Encryption", "none")]),
        *([Fact(_said_by(attempt), attempt.reply, is_quoted=True)] if attempt.reply else []),
        Fact("Took", _took(attempt.started, attempt.ended)),
    ]
    meaning = attempt.meaning
    if not meaning:
        return Step(title=f"{title}: the server took it", at=attempt.started, look="good", facts=facts)
    stopped = Fact("Stopped at", PHASES.get(attempt.phase, attempt.phase))
    if attempt.reply.startswith("2"):
        note = "The others were refused or have to wait; what the server said of each stands above."
        return Step(
            title=f"{title}: the server took it for some recipients",
            at=attempt.started,
            look="warn",
            note=note,
            facts=[stopped, *facts],
        )
    look: Look = "bad" if meaning in {"refused", "login-refused", "identity-refused"} else "warn"
    return Step(
        title=f"{title}: {meaning}",
        at=attempt.started,
        look=look,
        note=MEANINGS.get(meaning, ""),
        facts=[stopped, *facts],
    )


def _said_by(attempt: AttemptRecord) -> str:
    """Return whose words an attempt ended with: a server that nobody reached has said none."""
    return "What happened" if attempt.phase in {Phase.RESOLVE, Phase.CONNECT} else "The server said"


def _returned(record: JourneyRecord) -> Iterator[Step]:
    for one in record.recipients:
        back = one.returned
        if back is not None:
            facts = [
                Fact("Status", back.status),
                Fact("In words", back.words, is_quoted=True),
                Fact("Says", back.reporter, is_quoted=True),
            ]
            title = f"It came back from {one.address}"
            note = "The server had taken it; later a report said that it could not be delivered."
            yield Step(title=title, at=back.found, look="bad", note=note, facts=[fact for fact in facts if fact.text])


def _report(report: ReportRecord) -> Step:
    fact = Fact("Report", f"{report.id} ({report.state})", where=f"/messages/{report.id}")
    title = f"A report {REPORTS.get(report.kind, 'went to the sender')}"
    return Step(title=title, at=report.created, facts=[fact])


def _now(record: JourneyRecord) -> Iterator[Step]:
    """Yield where the message stands now."""
    state, note = State(record.state), STATES[record.state]
    why = [Fact("Why", told(record.reason), is_quoted=True)] if record.reason else []
    match state:
        case State.QUEUED | State.UNKNOWN:
            yield Step(title="Next attempt", at=record.next_attempt, look="warn", note=note, facts=why)
        case State.HELD:
            yield Step(title="Held", at=record.held_since, look="bad", note=note, facts=why)
        case State.SENDING:
            yield Step(title="Being sent", note=note, facts=why)
        case State.DELIVERED:
            yield Step(title="Delivered", at=record.delivered, look="good", note=note, facts=_at_once(record))
        case State.FAILED:
            yield Step(title="Failed", look="bad", note=note, facts=[*why, *_at_once(record)])
        case State.REMOVED:
            yield Step(title="Removed", note=note)


def _at_once(record: JourneyRecord) -> list[Fact]:
    """Return how a message left that was handed over while its client waited: of those no attempt is kept."""
    if record.attempts:
        return []
    account = [Fact("Account", record.account)] if record.account else []
    said = [Fact("The server said", record.reply, is_quoted=True)] if record.reply else []
    return [*account, *said]


def _changed(attempt: AttemptRecord) -> str:
    names = [one.field for one in attempt.changes or ()]
    more = f", and {attempt.changes_left_out} more" if attempt.changes_left_out else ""
    return ", ".join(names) + more if names else "none"


def _took(started: str, ended: str) -> str:
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    return f"{seconds:.0f} s" if seconds >= 1 else "less than a second"
