"""The verb `authorize`: lets an account log in by OAuth, by a link, by a code at another machine, or by itself."""

import sys
from typing import Annotated, Any

from typer import Context, Exit, Option, Typer

from relay.cli.ask import ask, is_person
from relay.cli.options import Name, command
from relay.cli.output import words
from relay.cli.session import Session
from relay.control.refused import Refused

_RedirectStdin = Annotated[
    bool, Option("--redirect-stdin", help="Read where the browser ended as one line from stdin, also at a terminal.")
]


def register_authorize(app: Typer, noun: str, example: str) -> None:
    """Add the verb. `noun` is "server", "channel" or "agent"."""

    @command(app, "authorize", f"relay {noun} authorize {example}", f"Let the account of one {noun} log in by OAuth.")
    def authorize(context: Context, name: Name, redirect_stdin: _RedirectStdin = False) -> None:
        try:
            _authorize(context.obj, noun, name, from_stdin=redirect_stdin)
        except KeyboardInterrupt:
            print("\nnothing was changed", file=sys.stderr)
            raise Exit(1) from None


def _authorize(session: Session, noun: str, name: str, *, from_stdin: bool) -> None:
    items: list[dict[str, Any]] = []

    def tell(item: dict[str, Any]) -> None:
        items.append(item)
        if item["step"] == "visit":
            _show(item)

    session.stream(f"{noun}.authorize", tell, name=name)
    last = items[-1]
    if last["step"] == "visit":
        redirect = _redirect(from_stdin=from_stdin)
        last = session.run(
            f"{noun}.authorized", name=name, redirect=redirect, state=last["state"], verifier=last["verifier"]
        )
    print(f"{words(last['account'])} is authorized; its token is renewed by itself")
    if last["warning"]:
        print(f"but {words(last['warning'])}", file=sys.stderr)


def _show(item: dict[str, Any]) -> None:
    """Say what a person has to do; the address stands alone on its line, to be copied."""
    if item["flow"] == "device":
        print(f"Open this page on any machine:\n\n  {words(item['url'])}\n")
        print(f"and type this code:\n\n  {words(item['code'])}\n")
        print(f"Waiting for at most {item['seconds'] // 60} minutes; Ctrl-C ends it.", flush=True)
        return
    print(f"Open this page in a browser and allow the access:\n\n  {words(item['url'])}\n")
    print(
        "The browser then ends at a page on localhost that it cannot open. That is right: copy the whole\n"
        "address from its address line.",
        flush=True,
    )


def _redirect(*, from_stdin: bool) -> str:
    """Return where the browser ended. Without a person at a terminal nobody is asked: it is the next line of stdin."""
    if is_person() and not from_stdin:
        return ask("That address")
    line = sys.stdin.readline().strip()
    if not line:
        raise Refused("the input ended before there was an address; nothing was changed")
    return line
