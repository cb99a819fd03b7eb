"""The command line before anything is loaded for it: where `--config` stands, and which commands need no others."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

COMPLETING = "_RELAY_COMPLETE"
"""The variable in which a shell asks what may stand here, instead of running it."""


def for_sendmail(words: Sequence[str]) -> Sequence[str] | None:
    """Return what stands behind `sendmail` where that is the command, with or without `--config FILE`; else None."""
    skipped = 2 if words[:1] == ["--config"] else int(bool(words) and words[0].startswith("--config="))
    return words[skipped + 1 :] if words[skipped : skipped + 1] == ["sendmail"] else None


def is_serve(words: Sequence[str]) -> bool:
    """Whether the command is `serve`, with or without `--config FILE`, and nothing else is said."""
    return _apart(words)[1] == ["serve"]


def config_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `--config FILE` in front, wherever it stood before a `--`."""
    front, rest = _apart(arguments)
    return front + rest


def config_of(arguments: Sequence[str]) -> Path | None:
    """Return the settings file that arguments name which begin with `--config`; the last one counts."""
    named: str | None = None
    for before, argument in pairwise(["", *arguments]):
        if before == "--config":
            named = argument
        elif argument.startswith("--config="):
            named = argument.removeprefix("--config=")
        elif argument != "--config":
            break
    return None if named is None else Path(named)


def _apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return each `--config FILE` before a `--`, and the rest."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif argument == "--config":
            value = next(remaining, None)
            (rest if value is None else front).extend([argument] if value is None else [argument, value])
        elif argument.startswith("--config="):
            front.append(argument)
        else:
            rest.append(argument)
    return front, rest
