"""`relay queue` and `relay messages`: what waits and what can be done with it by hand, and what became of each message.

The history has every message for as long as it is kept; the journey of one says how it came, where it is, and what each
server said.
"""

import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeAlias

from typer import Argument, Context, Exit, Option

from relay.cli import complete
from relay.cli.invocation import Invocation, WrongUsage
from relay.cli.output import (
    JsonArray,
    JsonLines,
    TableRows,
    absolute,
    count,
    moment,
    print_json,
    print_record,
    relative,
    words,
)
from relay.cli.shared import AsJson, Profile, StateWord, command, noun
from relay.config.units import parse_duration
from relay.control.json_values import from_json
from relay.control.messages.results import (
    AttemptRecord,
    ChangedHeader,
    HistoryRecord,
    JourneyRecord,
    MessageChunk,
    MessageDone,
    QueueRecord,
    RecipientRecord,
    Retried,
    ReturnedRecord,
    changed_headers,
)

_QUEUE_COLUMNS = ("id", "state", "created", "next", "sender", "to")
_FOLLOW = Option("--follow", help="Print each that comes or changes its state, until Ctrl-C. JSON: one object a line.")
_MESSAGE_COLUMNS = ("id", "created", "state", "sender", "to")
_OPEN_WIDTHS = (12, len("12 min ago"), len("delivered"))


def _show(invocation: Invocation, operation: str, id_: str, *, as_json: bool) -> None:
    """Print one message that an operation tells of."""
    answer = invocation.run(operation, id=id_)
    if as_json:
        return print_json(answer)
    record = from_json(JourneyRecord, answer)
    return print_journey(replace(record, reason=invocation.told(record.reason)))


def print_journey(record: JourneyRecord) -> None:
    """Print a message with its recipients, its attempts, and what they changed in its header."""
    now = datetime.now(UTC)
    print_record(dict(_facts(record, now)))
    print("\nrecipients")
    for recipient in record.recipients:
        print(f"  {recipient.state:<9}  {words(recipient.address)}")
        if recipient.reply:
            print(f"             {words(recipient.reply)}")
        if recipient.returned:
            print(f"             {_returned(recipient.returned)}")
    if record.attempts:
        print("\nattempts")
    for attempt in record.attempts:
        print(f"  {_local(attempt.started)}  {words(attempt.account)}{_how_far(attempt)}")
        print(f"    {words(attempt.reply) or 'no answer yet'}")
    changed = changed_headers(record.attempts)
    for one in changed:
        print("\nheader changes" + (f", {one.whose}" if len(changed) > 1 else ""))
        for line in _changes(one):
            print(f"  {line}")


def recipients_in_short(recipients: Sequence[RecipientRecord]) -> str:
    """Return the first recipient, and how many there are beside it."""
    if not recipients:
        return ""
    more = f" +{len(recipients) - 1}" if len(recipients) > 1 else ""
    return f"{words(recipients[0].address)}{more}"


def _facts(record: JourneyRecord, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield what is known about a message; what there is nothing to say about is left out."""
    yield "id", words(record.id)
    yield "state", words(record.state)
    if record.reason:
        yield "reason", words(record.reason)
    times = {"next attempt": record.next_attempt, "held since": record.held_since, "delivered": record.delivered}
    for key, time in {"created": record.created, **times}.items():
        if time:
            yield key, absolute(moment(time), now)
    yield "client", f"{words(record.client)}, says it is {words(record.helo)}"
    yield "sender", words(record.sender) or "<>"
    ways = {"profile": record.profile, "server": record.server, "account": record.account}
    for key, value in {**ways, "subject": record.subject, "message-id": record.message_id}.items():
        if value:
            yield key, words(value)
    yield "size", _size(record.size)
    if record.reply:
        yield "reply", words(record.reply)


def _changes(changed: ChangedHeader) -> Iterator[str]:
    """Yield a line for each header field that was changed."""
    for one in changed.changes:
        name, before, after = words(one.field), words(one.before), words(one.after)
        if not after:
            yield f"{name}: removed, it was {before or 'empty'}"
        elif not before:
            yield f"{name}: added, {after}"
        else:
            yield f"{name}: rewritten from {before} to {after}"
    if changed.left_out:
        yield f"and {changed.left_out} more"
    if not changed.changes:
        yield "none: it left as it came, with one Received field on top"


def _returned(returned: ReturnedRecord) -> str:
    """Return what a report said that came later: its words mostly hold the status themselves."""
    said = words(returned.words)
    if returned.status not in said:
        said = f"{returned.status} {said}".rstrip()
    by = f" by {words(returned.reporter)}" if returned.reporter else ""
    return f"returned{by}: {said}, found at {_local(returned.found)}"


def _size(octets: int) -> str:
    size, units = float(octets), iter(("KiB", "MiB", "GiB"))
    unit = "bytes"
    while size >= 1024 and (larger := next(units, None)):
        size, unit = size / 1024, larger
    return f"{octets} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def _local(text: str) -> str:
    return f"{moment(text).astimezone():%Y-%m-%d %H:%M:%S}"


def _how_far(attempt: AttemptRecord) -> str:
    """Return where an attempt ended, where that was before its end."""
    if attempt.meaning:
        return f", {attempt.meaning} at {attempt.phase}"
    return "" if attempt.ended else f", now at {attempt.phase}"


queue_app = noun("The queue: messages that wait for an attempt, or for you.", "relay queue list")

Id: TypeAlias = Annotated[
    str,
    Argument(
        metavar="ID",
        autocompletion=complete.ids,
        help="The message's id, or how it begins (6 characters or more).",
        show_default=False,
    ),
]


@command(queue_app, "list", "relay queue list --profile support --state held")
def list_queue(context: Context, profile: Profile = None, state: StateWord = None, as_json: AsJson = False) -> None:
    """List the messages that wait, the oldest first, and why."""
    invocation: Invocation = context.obj
    if as_json:
        array = JsonArray()
        invocation.stream("queue.list", array.add, profile=profile, state=state)
        return array.close()
    now = datetime.now(UTC)
    chosen = profile is not None or state is not None
    table = TableRows(_QUEUE_COLUMNS, flexible=2, empty="no such message waits" if chosen else "the queue is empty")

    def add(answer: Any) -> None:
        record = from_json(QueueRecord, answer)
        table.add(_queue_row(record, now), invocation.told(words(record.reason)))

    invocation.stream("queue.list", add, profile=profile, state=state)
    return table.close()


@command(queue_app, "show", "relay queue show 6aq3kd1p0e4m")
def show_waiting(context: Context, id_: Id, as_json: AsJson = False) -> None:
    """Show one message that waits, and what the servers said to it."""
    _show(context.obj, "queue.show", id_, as_json=as_json)


@command(queue_app, "retry", "relay queue retry --profile support")
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


@command(queue_app, "hold", "relay queue hold 6aq3kd1p0e4m")
def hold(context: Context, id_: Id) -> None:
    """Let a message wait until you release it. Its sender is told nothing."""
    held = _do(context.obj, "hold", id_)
    go_on = context.obj.hint(f"relay queue release {held[:12]}")
    print(f"message {held} is held; let it go on with: {go_on}")


@command(queue_app, "release", "relay queue release 6aq3kd1p0e4m")
def release(context: Context, id_: Id) -> None:
    """Let a held message go on, with an attempt now."""
    print(f"message {_do(context.obj, 'release', id_)} goes on")


@command(queue_app, "remove", "relay queue remove 6aq3kd1p0e4m")
def remove(context: Context, id_: Id) -> None:
    """Take a message out of the queue for good. Its sender is told nothing; `export` keeps a copy before."""
    print(f"message {_do(context.obj, 'remove', id_)} is removed")


@command(queue_app, "export", "relay queue export 6aq3kd1p0e4m > message.eml")
def export(context: Context, id_: Id) -> None:
    """Write a message as it came to stdout, byte for byte."""
    out = sys.stdout.buffer
    context.obj.stream(
        "queue.export", lambda answer: out.write(b64decode(from_json(MessageChunk, answer).chunk)), id=id_
    )
    out.flush()


def _do(invocation: Invocation, verb: str, id_: str) -> str:
    """Do something with a message, and return its whole id."""
    return from_json(MessageDone, invocation.run(f"queue.{verb}", id=id_)).id


def _queue_row(record: QueueRecord, now: datetime) -> list[str]:
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


messages_app = noun("Messages: what became of each one.", "relay messages list --since 2h")


@messages_app.callback(invoke_without_command=True)
def messages(context: Context, follow: Annotated[bool, _FOLLOW] = False, as_json: AsJson = False) -> None:
    """Follow all messages where no verb is given."""
    if context.invoked_subcommand is None and follow:
        return _follow(context.obj, {}, as_json=as_json)
    if context.invoked_subcommand is None or follow or as_json:
        raise WrongUsage("options stand behind the verb; write: relay messages list --follow")
    return None


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment that `--since` means: "2h" is two hours ago, a time without a zone is this machine's.

    Raises WrongUsage.
    """
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongUsage(
            f"{text!r} is no time; write how long ago, such as 2h or 7d, or a time such as '2025-11-24 10:05'"
        ) from None


@command(messages_app, "list", "relay messages list --to ann@customer.example --since 7d")
def list_messages(
    context: Context,
    sender: Annotated[str | None, Option("--sender", metavar="A", help="From this envelope sender.")] = None,
    to: Annotated[str | None, Option("--to", metavar="A", help="To this recipient, among others.")] = None,
    since: Annotated[
        str | None, Option("--since", metavar="T", help="2h or 7d ago, or since '2025-11-24 10:05'.")
    ] = None,
    state: StateWord = None,
    message_id: Annotated[str | None, Option("--message-id", metavar="M", help="With this Message-ID.")] = None,
    follow: Annotated[bool, _FOLLOW] = False,
    as_json: AsJson = False,
) -> None:
    """List messages, the newest first; with --follow the oldest first."""
    now = datetime.now(UTC)
    chosen = {
        "sender": sender,
        "to": to,
        "since": parse_since(since, now).isoformat() if since else None,
        "state": state,
        "message_id": message_id,
    }
    if follow:
        return _follow(context.obj, chosen, as_json=as_json)
    printed: JsonArray | _MessageTable = JsonArray() if as_json else _MessageTable(empty="there is no such message")
    context.obj.stream("messages.list", printed.add, **chosen)
    return printed.close()


@command(messages_app, "show", "relay messages show 6aq3kd1p0e4m")
def show_message(context: Context, id_: Id, as_json: AsJson = False) -> None:
    """Show the journey of one message, and what the servers said."""
    _show(context.obj, "messages.show", id_, as_json=as_json)


def _follow(invocation: Invocation, chosen: Mapping[str, Any], *, as_json: bool) -> None:
    """Print messages as they come and whenever one is in another state, until Ctrl-C; those of `since` first."""
    printed: JsonLines | _MessageTable = JsonLines() if as_json else _MessageTable(empty="", is_open=True)
    with suppress(KeyboardInterrupt):
        invocation.watch("messages.follow", _Followed(printed).take, **chosen)


class _Followed:
    """Prints what `messages.follow` tells: what was there before the oldest first, then each as it comes."""

    def __init__(self, printed: "JsonLines | _MessageTable") -> None:
        self._printed = printed
        self._earlier: list[Any] | None = []

    def take(self, item: Any) -> None:
        """Take the next item: a message, that what follows is news, or nothing at all."""
        if "id" not in item:
            if "begun" in item:
                self._begin()
        elif self._earlier is not None:
            self._earlier.append(item)
        else:
            self._printed.add(item)
            self._printed.flush()

    def _begin(self) -> None:
        for record in reversed(self._earlier or []):
            self._printed.add(record)
        self._printed.flush()
        self._earlier = None


class _MessageTable:
    """Messages as rows for people. `is_open`: nobody knows what is still to come, and how wide."""

    def __init__(self, *, empty: str, is_open: bool = False) -> None:
        self._widths = _OPEN_WIDTHS if is_open else ()
        self._rows = TableRows(_MESSAGE_COLUMNS, flexible=2, empty=empty)

    def add(self, answer: Any) -> None:
        """Take the next message. What went wrong, and only that, stands below it in the server's words."""
        record = from_json(HistoryRecord, answer)
        note = words(record.reply) if record.state == "failed" else ""
        row = _message_row(record, datetime.now(UTC))
        for column, width in enumerate(self._widths):
            row[column] = row[column].ljust(width)
        self._rows.add(row, note)

    def flush(self) -> None:
        """Print what came so far."""
        self._rows.flush()

    def close(self) -> None:
        """Print the end."""
        self._rows.close()


def _message_row(record: HistoryRecord, now: datetime) -> list[str]:
    return [
        record.id[:12],
        relative(moment(record.created), now),
        record.state,
        words(record.sender) or "<>",
        recipients_in_short(record.recipients),
    ]
