"""`relay messages`: what became of every message, as long as its history is kept."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Annotated, Any

from typer import Context, Option

from relay.cli.journey import print_journey, recipients_in_short
from relay.cli.listing import JsonArray, JsonLines, TableRows
from relay.cli.options import AsJson, StateWord, command, noun
from relay.cli.output import print_json, words
from relay.cli.queue import Id
from relay.cli.session import Session
from relay.cli.times import moment, parse_since, relative

app = noun("Messages: what became of each one.", "relay messages list --since 2h")

_COLUMNS = ("id", "created", "state", "sender", "to")
_POLL_SECONDS = 1.0
_LATE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)  # times in JSON are cut to it


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
    follow: Annotated[
        bool, Option("--follow", help="Print new ones as they come, until Ctrl-C. With --json one object a line.")
    ] = False,
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
    record = context.obj.run("messages.show", id=id_)
    if as_json:
        return print_json(record)
    return print_journey({**record, "reason": context.obj.told(record["reason"])})


def _follow(session: Session, chosen: Mapping[str, Any], *, as_json: bool) -> None:
    """Print messages as they come, until Ctrl-C: those of `since` first, where it is given."""
    news = News(parse_since(chosen["since"] or "0s", datetime.now(UTC)))
    printed: JsonLines | _Table = JsonLines() if as_json else _Table(empty="")
    with suppress(KeyboardInterrupt):
        while True:
            found: list[dict[str, Any]] = []
            session.stream("messages.list", found.append, **{**chosen, "since": news.since.isoformat()})
            for record in news.among(found):
                printed.add(record)
            printed.flush()
            sleep(_POLL_SECONDS)


class News:
    """Tells which messages were not there before.

    A message is listed when its client has its answer, which may be later than those that came after it. So each poll
    looks back by `_LATE`, and what was seen already is left out.
    """

    def __init__(self, since: datetime) -> None:
        self._start = since
        self._newest = since
        self._seen: dict[str, datetime] = {}

    @property
    def since(self) -> datetime:
        """From when on to ask."""
        return max(self._start, self._newest - _LATE)

    def among(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the new ones, the oldest first. `records` are the newest first."""
        new = [record for record in reversed(records) if record["id"] not in self._seen]
        for record in new:
            self._seen[record["id"]] = moment(record["created"])
        self._newest = max([self._newest, *self._seen.values()])
        self._seen = {id_: created for id_, created in self._seen.items() if created >= self.since - _SECOND}
        return new


class _Table:
    """Messages as rows for people."""

    def __init__(self, *, empty: str) -> None:
        self._rows = TableRows(_COLUMNS, flexible=2, empty=empty)

    def add(self, record: Mapping[str, Any]) -> None:
        """Take the next message. What went wrong, and only that, stands below it in the server's words."""
        note = words(record["reply"]) if record["state"] == "failed" else ""
        self._rows.add(_row(record, datetime.now(UTC)), note)

    def flush(self) -> None:
        """Print what came so far."""
        self._rows.flush()

    def close(self) -> None:
        """Print the end."""
        self._rows.close()


def _row(record: Mapping[str, Any], now: datetime) -> list[str]:
    return [
        record["id"][:12],
        relative(moment(record["created"]), now),
        record["state"],
        words(record["sender"]) or "<>",
        recipients_in_short(record["recipients"]),
    ]
