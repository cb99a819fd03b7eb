"""`relay backup` and `relay restore`: everything that a relay is, in one file, and back."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option, Typer

from relay.cli.invocation import Invocation
from relay.cli.output import count, print_json, words
from relay.cli.shared import AsJson, command
from relay.control.json_values import from_json
from relay.control.refused import Refused
from relay.control.results import Status, StoreCopy, StoreState
from relay.control.transport.client import NoRelay

_File = Annotated[Path, Argument(metavar="FILE", show_default=False)]


def register(app: Typer) -> None:
    """Add the commands."""
    command(app, "backup", "relay backup /var/backups/relay.tar.gz")(backup)
    command(app, "restore", "relay restore /var/backups/relay.tar.gz")(restore)


def backup(
    context: Context,
    file: _File,
    without_key: Annotated[bool, Option("--without-key", help="Leave the master key out; keep it elsewhere.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write all that a relay is to one file, also while it runs.

    That is queue, history, passwords, directory, settings and master key, at one moment. With the master key in it the
    file is worth as much as all passwords together: its mode is 0600, and it stays where only you can read it.
    Where relay.db was deleted or replaced under a running relay, that relay writes out what it still has open.
    """
    from relay.control.backups import write_backup
    from relay.control.operation import refusals

    invocation: Invocation = context.obj
    rescued = _rescued(invocation)
    try:
        with refusals():
            manifest = write_backup(
                invocation.settings, invocation.settings_file, file, with_key=not without_key, rescued=rescued
            )
    finally:
        if rescued is not None:
            rescued.unlink(missing_ok=True)
    if as_json:
        return print_json({"file": str(file), "files": manifest.files, "created": manifest.created})
    key = "" if "master.key" in manifest.files else "; the master key is not in it"
    return print(f"{file}: {words(list(manifest.files))}{key}")


def _rescued(invocation: Invocation) -> Path | None:
    """Return a copy of the store by the running relay, where only that has its files any more; None elsewhere."""
    try:
        if from_json(StoreState, invocation.client.run("store.state", {})).reason != "gone":
            return None
        return Path(from_json(StoreCopy, invocation.client.run("store.copy", {})).file)
    except NoRelay:
        invocation.refuse_beside_service()
        return None


def restore(context: Context, file: _File, as_json: AsJson = False) -> None:
    """Put back a backup. What is there now is kept beside it.

    Whatever waited in the queue is held: it may have been sent after the backup was taken. FILE may also be the copy of
    the database that a new version left beside it.
    """
    from relay import log
    from relay.control.backups import restore_backup
    from relay.control.operation import refusals

    log.configure("auto", "error", sys.stderr)  # what is told of an older store is no part of the answer

    invocation: Invocation = context.obj
    try:
        status = from_json(Status, invocation.client.status())
    except NoRelay:
        invocation.refuse_beside_service()
    else:
        raise Refused(f"relay runs here, as process {status.pid}; stop it first")
    with refusals():
        restored = restore_backup(invocation.settings, invocation.settings_file, file)
    if as_json:
        print_json(
            {
                "created": restored.manifest.created,
                "files": restored.manifest.files,
                "held": restored.held,
                "kept": [str(path) for path in restored.kept],
                "settings_differ": restored.settings_differ,
            }
        )
        return
    print(f"restored as of {restored.manifest.created} in {invocation.settings.state_dir}")
    for path in restored.kept:
        print(f"  what was there before is in {path}")
    if restored.held:
        held = invocation.hint("relay queue list --state held")
        print(f"held: {count(restored.held, 'message')} that waited and may have been sent since; see {held}")
    if restored.settings_differ:
        print(f"the settings are others than in the backup; to see those: tar -xzOf {file} relay.toml", file=sys.stderr)
