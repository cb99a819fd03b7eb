"""`relay node`: the relays that use one store, each on a machine of its own."""

from datetime import UTC, datetime
from typing import Annotated

from typer import Argument, Context, Option

from relay.cli import complete
from relay.cli.listing import TableRows
from relay.cli.options import AsJson, command, noun
from relay.cli.output import print_json, words
from relay.cli.times import moment, relative
from relay.control.json_values import from_json, list_from_json
from relay.control.results import NodeRecord

app = noun("Nodes: the relays that share a store.", "relay node list")

_COLUMNS = ("node", "state", "version", "seen", "since", "leads", "workers", "clients", "messages")


@command(app, "list", "relay node list --json")
def list_(context: Context, as_json: AsJson = False) -> None:
    """List the nodes, and what each of them does.

    That is: whether it leads (does for all what must be done once: probes, mailboxes of returned mail, tokens ahead,
    deletions), its processes, its clients, and the messages that it hands over now.
    """
    answer = context.obj.run("node.list")
    if as_json:
        return print_json(answer)
    now = datetime.now(UTC)
    table = TableRows(_COLUMNS, flexible=0, empty="no relay has used this store yet")
    for record in list_from_json(NodeRecord, answer):
        table.add(_row(record, now), _note(record))
    return table.close()


@command(app, "drain", "relay node drain one")
def drain(
    context: Context,
    name: Annotated[
        str, Argument(metavar="NAME", autocompletion=complete.nodes, help="As `node list` has it.", show_default=False)
    ],
    undo: Annotated[bool, Option("--undo", help="Let it take clients and mail again.")] = False,
) -> None:
    """Let a node end what it has, and take nothing new.

    It takes no more clients (421) and no mail from the queue, until that is undone or it starts anew.
    """
    record = from_json(NodeRecord, context.obj.run("node.drain", name=name, undo=undo))
    if undo:
        print(f"node {words(record.name)} serves again")
    else:
        print(f"node {words(record.name)} is drained; when it has no messages, stop it: {_look(context)}")


def _look(context: Context) -> str:
    return str(context.obj.hint("relay node list"))


def _row(record: NodeRecord, now: datetime) -> list[str]:
    return [
        words(record.name),
        record.state,
        words(record.version),
        relative(moment(record.seen), now),
        relative(moment(record.since), now),
        "yes" if record.leads else "",
        str(record.workers),
        str(record.clients),
        str(record.messages),
    ]


def _note(record: NodeRecord) -> str:
    """Return what is to come."""
    if record.drain and record.state == "serving":
        return "is to be drained, and has not heard of it yet"
    return ""
