"""What the nouns that can log in at Relay share: channels, agents and applications."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relay.cli.ask import read_password

if TYPE_CHECKING:
    from relay.cli.session import Session


def set_login_password(session: "Session", kind: str, name: str, operation: str, *, from_stdin: bool) -> None:
    """Ask for the password with which somebody logs in at Relay, and set it by an operation. `kind` is the noun."""
    session.run(f"{kind}.show", name=name)  # a name that is nobody's is refused before anything is asked
    password = read_password(f"the login of {kind} {name}", from_stdin=from_stdin)
    session.run(operation, name=name, password=password)
    print(f"the login password of {kind} {name} is set")


def login_cell(record: Mapping[str, Any]) -> str:
    """Return what a table says in the column "login"."""
    return "set" if record["login_set"] else ""


def separated(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
