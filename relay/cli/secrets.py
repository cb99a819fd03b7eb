"""`relay secrets`: what the vault holds."""

from typing import Any

from typer import Context

from relay.cli.output import count, print_json, print_table
from relay.cli.shared import AsJson, command, noun

app = noun("Passwords: who has one, and where it is kept.", "relay secrets list")


@command(app, "list", "relay secrets list")
def list_(context: Context, as_json: AsJson = False) -> None:
    """List who has a password and where, never the password itself."""
    records = context.obj.run("secrets.list")
    if as_json:
        return print_json(records)
    move = context.obj.hint("relay secrets import")
    return print_table(
        ("owner", "kept in", "changed", "note"),
        [[record["owner"], record["source"], record["changed"] or "", _note(record, move)] for record in records],
        empty="no password is set yet",
    )


@command(app, "import", "relay secrets import")
def import_(context: Context) -> None:
    """Move the passwords that stand in the directory to the vault."""
    owners = context.obj.run("secrets.import")["imported"]
    print(f"{count(len(owners), 'password')} moved to the vault" + (f": {', '.join(owners)}" if owners else ""))


@command(app, "rotate", "relay secrets rotate")
def rotate(context: Context) -> None:
    """Encrypt every password anew, under a new master key."""
    result = context.obj.run("secrets.rotate")
    print(f"{count(result['secrets'], 'password')} encrypted under the new master key {result['key']}")


def _note(record: dict[str, Any], move: str) -> str:
    if not record["used"]:
        return "nobody of this name is in the directory"
    return f"readable; {move} moves it" if record["source"] == "directory" else ""
