"""`relay doctor` and `relay route`: how mail of a sender would leave, and whether it arrives.

Both send nothing.
"""

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from typer import Argument, Context, Exit, Option, Typer

from relay.cli import complete
from relay.cli.invocation import Invocation
from relay.cli.output import count, print_json, print_record, print_table, words
from relay.cli.shared import AsJson, command
from relay.control.json_values import fields_of, from_json
from relay.control.tests.results import FindingRecord
from relay.mail.encoded_words import decode_words
from relay.system.terminal import Colour, Progress, painted

_LEVELS = ("good", "warn", "bad")
_CHECKS = ("server", "certificate", "tls", "login", "send-as", "mx", "spf", "dkim", "dmarc", "alignment")
_COLOURS: Mapping[str, Colour] = {"good": "green", "warn": "yellow", "bad": "red"}
_INDENT = " " * 19
_MOST_NAMES = 5
_LEAST_WIDTH = 60
_COMMAND = re.compile(r": (relay [a-z]+ .*)$")


def register_route(app: Typer) -> None:
    """Add the command."""
    command(app, "route", "relay route support@acmejets.example --from 'Jane <jane@acmejets.example>'")(route)


def route(
    context: Context,
    sender: Annotated[
        str, Argument(metavar="SENDER", help="The envelope sender; '<>' is the null sender.", show_default=False)
    ],
    from_header: Annotated[
        str | None, Option("--from", metavar="HEADER", help="The From header. Default: the sender.")
    ] = None,
    login: Annotated[
        str | None,
        Option(
            "--login",
            metavar="NAME",
            autocompletion=complete.logins,
            help="As the client with this login. Default: a client without.",
        ),
    ] = None,
    to: Annotated[
        str | None, Option("--to", metavar="ADDR", help="The recipient; the bounce of a mail server leaves by it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain how mail of a sender would leave, and why. Exit code 1 when it would be refused."""
    result = context.obj.run("route", sender=sender, from_header=from_header, login=login, to=to)
    if as_json:
        return print_json(result)
    shown = result | {"from": decode_words(result["from"])}  # as a reader's program shows it
    return print_record({key.replace("_", "-"): words(value) for key, value in shown.items()})


def register(app: Typer) -> None:
    """Add the command."""
    command(app, "doctor", "relay doctor support")(doctor)


def doctor(
    context: Context,
    profile: Annotated[
        str | None,
        Argument(
            metavar="PROFILE",
            autocompletion=complete.profiles,
            help="A channel or agent. Default: all of them.",
            show_default=False,
        ),
    ] = None,
    selector: Annotated[
        list[str] | None,
        Option("--selector", metavar="S", help="The s= of the server's DKIM-Signature. As often as needed."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine server, login and DNS of one profile or of all. Sends nothing. Exit code 1 when something is bad."""
    found: list[FindingRecord] = []
    with Progress("examining") as progress:

        def tell(answer: Any) -> None:
            found.append(from_json(FindingRecord, answer))
            progress.tell(f"examining: {count(len(found), 'finding')} so far")

        context.obj.stream("doctor", tell, name=profile, selectors=selector)
    findings = grouped(found)
    is_good = all(finding.level != "bad" for finding in findings)
    if as_json:
        print_json({"ok": is_good, "findings": by_profile(findings)})
    else:
        _print(findings, context.obj, profile)
    raise Exit(0 if is_good else 1)


def grouped(found: Iterable[FindingRecord]) -> list[FindingRecord]:
    """Return the findings with equal ones as one, in the order of the checks.

    What is said of several profiles has all of them in `profiles`, and None as `profile`.
    """
    groups: dict[tuple[str, str, str, str], list[FindingRecord]] = {}
    for record in found:
        groups.setdefault((record.check, record.level, record.why, record.fix), []).append(record)
    return sorted(map(_joined, groups.values()), key=_place)


def _joined(alike: Sequence[FindingRecord]) -> FindingRecord:
    """Return findings that say the same as one."""
    names = list(dict.fromkeys(name for record in alike for name in record.profiles))
    is_one_server = len({record.server for record in alike}) == 1
    return replace(
        alike[0],
        profile=names[0] if len(names) == 1 else None,
        profiles=names,
        server=alike[0].server if is_one_server else None,
    )


def by_profile(findings: Iterable[FindingRecord]) -> list[dict[str, Any]]:
    """Return the findings as JSON has them: one for each profile that it is about, so that a script may ask for one.

    `profile` is null where nobody uses the server.
    """
    nobody: list[str | None] = [None]
    return [
        {key: value for key, value in fields_of(finding).items() if key != "profiles"} | {"profile": name}
        for finding in findings
        for name in finding.profiles or nobody
    ]


def _place(finding: FindingRecord) -> tuple[int, str]:
    return _CHECKS.index(finding.check), finding.server or ""


def _print(findings: Sequence[FindingRecord], invocation: Invocation, profile: str | None) -> None:
    if not findings:
        print("there is nothing to examine yet")
        return
    if profile is None:
        _print_summary(findings)
    shown = [finding for finding in findings if profile is not None or finding.level != "good"]
    for finding in shown:
        _print_finding(finding, invocation, with_names=profile is None)
    if profile is None and not shown:
        print("\neverything is good")


def _print_summary(findings: Sequence[FindingRecord]) -> None:
    """How many profiles are how in each check; what concerns a server that nobody uses counts as one."""
    rows = []
    for check in _CHECKS:
        of_check = [finding for finding in findings if finding.check == check]
        numbers = [sum(max(1, len(each.profiles)) for each in of_check if each.level == level) for level in _LEVELS]
        if of_check:
            rows.append([check, *(str(number) if number else "" for number in numbers)])
    print_table(["check", *_LEVELS], rows, empty="")


def _print_finding(finding: FindingRecord, invocation: Invocation, *, with_names: bool) -> None:
    level = finding.level.upper() if finding.level == "bad" else finding.level
    if with_names:
        print()
    lines = _folded(words(finding.why))
    if finding.fix:
        lines += _advice(invocation.told(words(finding.fix)), words(finding.record))
    if with_names:
        lines += _folded(f"for: {_names(finding)}")
    print(f"{painted(f'{level:<4}', _COLOURS[finding.level])}  {finding.check:<11}  {lines[0]}")
    for line in lines[1:]:
        print(_INDENT + line)


def _advice(fix: str, record: str) -> list[str]:
    """Return what to do. A record or command at its end has a line of its own, whole, so that it can be copied."""
    found = _COMMAND.search(fix)
    whole = record or (found[1] if found else "")
    return [*_folded(f"do: {fix.removesuffix(whole)}"), *([whole] if whole else [])]


def _names(finding: FindingRecord) -> str:
    names = finding.profiles
    if not names:
        return f"server {finding.server}"
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {count(rest, 'more profile')}" if rest > 0 else "")


def _folded(text: str) -> list[str]:
    """Return a text in lines that fit the terminal; a word that is longer stands alone, whole."""
    width = max(_LEAST_WIDTH, shutil.get_terminal_size((80, 24)).columns) - len(_INDENT)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
