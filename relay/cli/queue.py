"""`relay queue`: the messages that wait, and what can be done with them by hand."""

import sys
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from typer import Argument, Context, Exit, Option

from relay.cli import complete
from relay.cli.journey import print_journey, recipients_in_short
from relay.cli.listing import JsonArray, TableRows
from relay.cli.options import AsJson, Profile, StateWord, command, noun
from relay.cli.output import count, print_json, words
from relay.cli.session import Session, WrongUsage
from relay.cli.times import moment, relative
from relay.control.json_values import from_json
from relay.control.messages.results import JourneyRecord, MessageChunk, MessageDone, QueueRecord, Retried

app = noun("The queue: messages that wait for an attempt, or for you.", "relay queue list")

Id: TypeAlias = Annotated[
    str,
    Argument(
        metavar="ID",
        autocompletion=complete.ids,
        help="The message's id, or how it begins (6 characters or more).",
        show_default=False,
    ),
]
_COLUMNS = ("id", "state", "created", "next", "sender", "to")


@command(app, "list", "relay queue list --profile support --state held")
def list_(context: Context, profile: Profile = None, state: StateWord = None, as_json: AsJson = False) -> None:
    """List the messages that wait, the oldest first, and why."""
    session: Session = context.obj
    if as_json:
        array = JsonArray()
        session.stream("queue.list", array.add, profile=profile, state=state)
        return array.close()
    now = datetime.now(UTC)
    chosen = profile is not None or state is not None
    table = TableRows(_COLUMNS, flexible=2, empty="no such message waits" if chosen else "the queue is empty")

    def add(answer: Any) -> None:
        record = from_json(QueueRecord, answer)
        table.add(_row(record, now), session.told(words(record.reason)))

    session.stream("queue.list", add, profile=profile, state=state)
    return table.close()


@command(app, "show", "relay queue show 6aq3kd1p0e4m")
def show(context: Context, id_: Id, as_json: AsJson = False) -> None:
    """Show one message that waits, and what the servers said to it."""
    answer = context.obj.run("queue.show", id=id_)
    if as_json:
        return print_json(answer)
    record = from_json(JourneyRecord, answer)
    return print_journey(replace(record, reason=context.obj.told(record.reason)))


@command(app, "retry", "relay queue retry --profile support")
def retry(
    context: Context,
    ids: Annotated[
        list[str] | None,
        Argument(metavar="ID", autocompletion=complete.ids, help="These messages, each by its id or how it begins."),
    ] = None,
    profile: Profile = None,
    all_: Annotated[bool, Option("--all", help="All messages that wait.")] = False,
) -> None:
    """Try messages now instead of at their next time.

    What is held stays held. A message whose fate is unknown may be at its server: it is tried only by its id.
    """
    if bool(ids) + (profile is not None) + all_ != 1:
        raise WrongUsage("say which messages: their ids, or --profile P, or --all")
    retried = from_json(Retried, context.obj.run("queue.retry", ids=ids or None, profile=profile)).retried
    print(f"{count(retried, 'message')} will be tried now")
    if ids and retried < len(ids):
        why = context.obj.hint("relay queue show")
        print(f"{len(ids) - retried} could not: held, or under way; see {why}", file=sys.stderr)
        if not retried:
            raise Exit(1)


@command(app, "hold", "relay queue hold 6aq3kd1p0e4m")
def hold(context: Context, id_: Id) -> None:
    """Let a message wait until you release it. Its sender is told nothing."""
    held = _do(context.obj, "hold", id_)
    go_on = context.obj.hint(f"relay queue release {held[:12]}")
    print(f"message {held} is held; let it go on with: {go_on}")


@command(app, "release", "relay queue release 6aq3kd1p0e4m")
def release(context: Context, id_: Id) -> None:
    """Let a held message go on, with an attempt now."""
    print(f"message {_do(context.obj, 'release', id_)} goes on")


@command(app, "remove", "relay queue remove 6aq3kd1p0e4m")
def remove(context: Context, id_: Id) -> None:
    """Take a message out of the queue for good. Its sender is told nothing; `export` keeps a copy before."""
    print(f"message {_do(context.obj, 'remove', id_)} is removed")


@command(app, "export", "relay queue export 6aq3kd1p0e4m > message.eml")
def export(context: Context, id_: Id) -> None:
    """Write a message as it came to stdout, byte for byte."""
    out = sys.stdout.buffer
    context.obj.stream(
        "queue.export", lambda answer: out.write(b64decode(from_json(MessageChunk, answer).chunk)), id=id_
    )
    out.flush()


def _do(session: Session, verb: str, id_: str) -> str:
    """Do something with a message, and return its whole id."""
    return from_json(MessageDone, session.run(f"queue.{verb}", id=id_)).id


def _row(record: QueueRecord, now: datetime) -> list[str]:
    return [
        record.id[:12],
        record.state,
        relative(moment(record.created), now),
        _next(moment(record.next_attempt), now) if record.next_attempt else "",
        words(record.sender) or "<>",
        recipients_in_short(record.recipients),
    ]


def _next(when: datetime, now: datetime) -> str:
    return relative(when, now) if when > now else "now"
