"""`relay status`: whether a relay runs here, and how it is."""

from typing import Any

from typer import Context, Exit, Typer

from relay.cli.options import AsJson, command
from relay.cli.output import fault_record, print_json, print_record, words
from relay.cli.session import Session
from relay.control.client import NoRelay
from relay.control.not_running import NOT_RUNNING
from relay.faults import Faults


def register(app: Typer) -> None:
    """Add the command."""
    command(app, "status", "relay status --json")(status)


def status(context: Context, as_json: AsJson = False) -> None:
    """Show whether a relay runs here, and how it is. Exit code 1 when none runs."""
    try:
        found = context.obj.client.status()
    except NoRelay:
        found = {**NOT_RUNNING, "directory": _directory(context.obj)}
    if as_json:
        print_json(found)
    else:
        _print(found)
    if not found["running"]:
        raise Exit(1)


def _print(found: dict[str, Any]) -> None:
    if not found["running"]:
        print("no relay is running; start it with: relay serve")
        return
    directory = found["directory"]
    print_record(
        {
            "relay": f"{found['version']}, running as process {found['pid']} since {found['since']}",
            "listeners": words(found["listeners"]),
            "directory": "ok" if directory["ok"] else "has faults; the one from before them is in effect",
            "queue": ", ".join(f"{number} {state}" for state, number in found["queue"].items()) or "empty",
            "held": words(found["accounts_held"]),
        }
    )
    for fault in directory["faults"]:
        print(f"  {fault['file']}: {fault['key']}: {fault['message']}")


def _directory(session: Session) -> dict[str, Any]:
    """Return what a relay would say about the directory if it ran."""
    from relay.directory.file import DirectoryFile

    try:
        DirectoryFile(session.settings.directory_path).read()
    except Faults as error:
        return {"ok": False, "faults": [fault_record(fault) for fault in error.faults]}
    return {"ok": True, "faults": []}
