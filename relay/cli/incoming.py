"""What the nouns that may have a mailbox share: servers, channels and agents."""

from typing import TYPE_CHECKING

from relay.cli.ask import read_password

if TYPE_CHECKING:
    from relay.cli.session import Session


def set_incoming_password(session: "Session", kind: str, name: str, *, from_stdin: bool) -> None:
    """Ask for the password of somebody's mailbox, where mail arrives, and set it. `kind` is the noun."""
    session.run(f"{kind}.show", name=name)  # a name that is nobody's is refused before anything is asked
    password = read_password(f"the mailbox of {kind} {name}", from_stdin=from_stdin)
    session.run(f"{kind}.incoming", name=name, password=password)
    print(f"the password of the mailbox of {kind} {name} is set")
