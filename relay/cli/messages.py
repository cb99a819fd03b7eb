"""`relay messages`: what became of every message, as long as its history is kept."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from typer import Context, Option

from relay.cli.journey import print_journey, recipients_in_short
from relay.cli.listing import JsonArray, JsonLines, TableRows
from relay.cli.options import AsJson, StateWord, command, noun
from relay.cli.output import print_json, words
from relay.cli.queue import Id
from relay.cli.session import Session, WrongUsage
from relay.cli.times import moment, parse_since, relative
from relay.control.json_values import from_json
from relay.control.messages.results import HistoryRecord, JourneyRecord

app = noun("Messages: what became of each one.", "relay messages list --since 2h")
_FOLLOW = Option("--follow", help="Print each that comes or changes its state, until Ctrl-C. JSON: one object a line.")

_COLUMNS = ("id", "created", "state", "sender", "to")
_OPEN_WIDTHS = (12, len("12 min ago"), len("delivered"))


@app.callback(invoke_without_command=True)
def messages(context: Context, follow: Annotated[bool, _FOLLOW] = False, as_json: AsJson = False) -> None:
    """Follow all messages where no verb is given."""
    if context.invoked_subcommand is None and follow:
        return _follow(context.obj, {}, as_json=as_json)
    if context.invoked_subcommand is None or follow or as_json:
        raise WrongUsage("options stand behind the verb; write: relay messages list --follow")
    return None


@command(app, "list", "relay messages list --to ann@customer.example --since 7d")
def list_(
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
    printed: JsonArray | _Table = JsonArray() if as_json else _Table(empty="there is no such message")
    context.obj.stream("messages.list", printed.add, **chosen)
    return printed.close()


@command(app, "show", "relay messages show 6aq3kd1p0e4m")
def show(context: Context, id_: Id, as_json: AsJson = False) -> None:
    """Show the journey of one message, and what the servers said."""
    answer = context.obj.run("messages.show", id=id_)
    if as_json:
        return print_json(answer)
    record = from_json(JourneyRecord, answer)
    return print_journey(replace(record, reason=context.obj.told(record.reason)))


def _follow(session: Session, chosen: Mapping[str, Any], *, as_json: bool) -> None:
    """Print messages as they come and whenever one is in another state, until Ctrl-C; those of `since` first."""
    printed: JsonLines | _Table = JsonLines() if as_json else _Table(empty="", is_open=True)
    with suppress(KeyboardInterrupt):
        session.watch("messages.follow", _Followed(printed).take, **chosen)


class _Followed:
    """Prints what `messages.follow` tells: what was there before the oldest first, then each as it comes."""

    def __init__(self, printed: "JsonLines | _Table") -> None:
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


class _Table:
    """Messages as rows for people. `is_open`: nobody knows what is still to come, and how wide."""

    def __init__(self, *, empty: str, is_open: bool = False) -> None:
        self._widths = _OPEN_WIDTHS if is_open else ()
        self._rows = TableRows(_COLUMNS, flexible=2, empty=empty)

    def add(self, answer: Any) -> None:
        """Take the next message. What went wrong, and only that, stands below it in the server's words."""
        record = from_json(HistoryRecord, answer)
        note = words(record.reply) if record.state == "failed" else ""
        row = _row(record, datetime.now(UTC))
        for column, width in enumerate(self._widths):
            row[column] = row[column].ljust(width)
        self._rows.add(row, note)

    def flush(self) -> None:
        """Print what came so far."""
        self._rows.flush()

    def close(self) -> None:
        """Print the end."""
        self._rows.close()


def _row(record: HistoryRecord, now: datetime) -> list[str]:
    return [
        record.id[:12],
        relative(moment(record.created), now),
        record.state,
        words(record.sender) or "<>",
        recipients_in_short(record.recipients),
    ]
