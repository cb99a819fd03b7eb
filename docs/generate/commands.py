"""The commands with their arguments, options and examples, as the command line itself knows them."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from docs.generate.blocks import Block, Code, Heading, Terms, Text
from relay.cli.app import app

_EXAMPLE = re.compile(r"\x08\nExamples?:\n(.*)", re.DOTALL)


def command_page() -> Iterator[Block]:
    """Yield the page about the commands."""
    yield Heading(1, "Commands")
    yield Text(
        "A command that needs passwords, the queue or holds asks the running relay over its control socket; where none "
        "runs, it opens the files itself. So it is run by the service's user or by root. Changes take effect in a "
        "running relay at once."
    )
    yield Text(
        "Exit status: 0 done, 1 refused or failed, 2 wrong usage. Results go to stdout, what went wrong to stderr. "
        'With `--json` a failure is {"ok": false, "error": "…"} on stdout. Nothing is asked when stdin is no terminal. '
        "Colours are for terminals alone, and never where `NO_COLOR` is set."
    )
    root: Any = get_command(app)
    yield Heading(2, "Options before or after every command")
    yield Terms(("option", "meaning"), [option_words(param) for param in root.params])
    for name, command in root.commands.items():
        verbs = getattr(command, "commands", None)
        yield Heading(2, f"relay {name}")
        if verbs is None:
            yield from _command(f"relay {name}", command)
            continue
        yield Text(_whole(command.help))
        for verb, inner in verbs.items():
            yield Heading(3, f"relay {name} {verb}")
            yield from _command(f"relay {name} {verb}", inner)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command: "relay server add" and what typer made of it."""
    root: Any = get_command(app)
    for name, command in root.commands.items():
        verbs = getattr(command, "commands", None)
        for verb, inner in ({"": command} if verbs is None else verbs).items():
            yield f"relay {name} {verb}".rstrip(), inner


def examples_of(command: Any) -> list[str]:
    """Return the examples of a command's help, each as one line for a shell."""
    found = _EXAMPLE.search(command.epilog or "")
    return [] if found is None else inspect.cleandoc(found[1]).replace("\\\n", "").splitlines()


def option_words(param: Any) -> tuple[str, str]:
    """Return how an option is written, and what it means."""
    names = ", ".join(sorted([*param.opts, *param.secondary_opts], key=len))
    value = "" if param.is_flag else f" {param.metavar or param.type.name.upper()}"
    needed = " It is needed." if param.required else ""
    return names + value, (param.help or "") + needed


def _command(name: str, command: Any) -> Iterator[Block]:
    if name == "relay sendmail":
        yield Text("Takes a message on stdin, as sendmail(1) does; it is also installed as `relay-sendmail`.")
        yield Text("Its options are those of sendmail: [the page about it](../sendmail.md).")
        return
    for paragraph in inspect.cleandoc(command.help).split("\n\n"):
        yield Text(_whole(paragraph))
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and param.name != "help"]
    words = [argument_word(param) for param in arguments]
    needed = ["{} {}".format(*option_words(param)[0].split(" ")) for param in options if param.required]
    yield Code(" ".join([name, *needed, *(["[OPTIONS]"] if len(options) > len(needed) else []), *words]))
    explained = [(argument_word(param), param.help) for param in arguments if param.help]
    terms = [*explained, *map(option_words, options)]
    if terms:
        yield Terms(("option", "meaning"), terms)
    shown = _EXAMPLE.search(command.epilog or "")
    if shown is not None:
        yield Text("Example:")
        yield Code(inspect.cleandoc(shown[1]), "sh")


def argument_word(param: Any) -> str:
    """Return an argument as it stands in a line of usage."""
    word = str(param.metavar or param.name.upper())
    return (word if param.required else f"[{word}]") + ("" if param.nargs == 1 else "...")


def _whole(text: str) -> str:
    return " ".join(text.split())
