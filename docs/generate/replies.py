"""The page about replies, and that about what answers of servers mean."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.generate.blocks import Block, Heading, Items, Table, Text
from relay.directory.http_apis import HTTP_APIS
from relay.directory.model import Meaning
from relay.upstream.http.meaning import TABLES, ApiRow
from relay.upstream.outcome import TABLE, Phase, Row

_EXPLAINED = Path(__file__).parent / "replies.toml"


def groups() -> list[dict[str, Any]]:
    """Return the groups of replies: title, intro, replies [{reply, when, do}]."""
    found: list[dict[str, Any]] = tomllib.loads(_EXPLAINED.read_text())["groups"]
    return found


def reply_page() -> Iterator[Block]:
    """Yield the page about replies."""
    yield Heading(1, "Replies")
    yield Text(
        "Every reply of Relay, by its words. What is filled in stands in capital letters: `<SENDER>` is an address. "
        "4xx means that the same may work later, 5xx that something has to change first. Other words behind a code are "
        "[a server's own answers](answers.md). [Troubleshooting](../troubleshooting.md) leads there "
        "from what one sees."
    )
    for group in groups():
        yield Heading(2, group["title"])
        if group["intro"]:
            yield Text(group["intro"])
        rows = [[f"`{_shown(one['reply'])}`", one["when"], one["do"]] for one in group["replies"]]
        yield Table(("reply", "when", "what to do"), rows)


def answer_page() -> Iterator[Block]:
    """Yield the page about what a server's answer means."""
    yield Heading(1, "Answers of servers")
    yield Text(
        "What an answer of a mail server means decides what becomes of the message. The table is read from top to "
        "bottom, and the first row in which all fits counts; `[[servers.NAME.answers]]` in "
        "[directory.toml](directory.md) is asked before it. `relay messages show ID` and `relay queue show ID` have "
        "the server's words."
    )
    yield Heading(2, "What follows from each meaning")
    yield Table(("meaning", "what Relay does"), [[f"`{each}`", _FOLLOWS[each]] for each in Meaning])
    yield Heading(2, "Which answer means what")
    yield Table(("code", "enhanced code", "words", "said at", "meaning"), [_row(row) for row in TABLE])
    for api, rows in TABLES.items():
        yield Heading(2, f"What errors of {_APIS.get(api) or HTTP_APIS[api].title} mean")
        yield Table(("HTTP status", "error", "words", "meaning"), [_api_row(row) for row in rows])
    yield Text("Codes and words are regular expressions; `.` stands for any character. Words are found without case.")
    yield Heading(2, "An answer that Relay misreads")
    yield Items(
        [
            "Copy a part of the server's words that is always the same.",
            "Write it, and what it means, as `[[servers.NAME.answers]]` with `match` and `means` into directory.toml.",
            "`relay check` says whether it is well formed; the running relay has it within 2 seconds.",
        ]
    )


_APIS = {"msgraph": "Microsoft Graph", "gmail": "the Gmail API"}
_FOLLOWS: dict[Meaning, str] = {
    Meaning.REFUSED: "This recipient, or this message, for good. The client hears it, or the sender gets a report.",
    Meaning.TEMPORARY: "This message waits and is tried again after the pauses of `delivery.retry`.",
    Meaning.THROTTLE: "The account slows down by steps, and becomes faster again by itself.",
    Meaning.QUOTA: "The account is held, and tried once an hour until its limit is free again.",
    Meaning.LOCK_OUT: "The account is held for 4 hours, and nothing is tried meanwhile.",
    Meaning.LOGIN_REFUSED: "The account is held; a new password or token releases it at once, and `delivery.probe` "
    "says when the old one is tried again.",
    Meaning.IDENTITY_REFUSED: "This address is held with this account, until somebody releases it.",
    Meaning.ACCOUNT_FULL: "The account is held, and tried once an hour until there is room in its mailbox.",
    Meaning.UNKNOWN: "No answer came after the final dot. One try after `delivery.unknown_pause`; then it is held.",
}


def _row(row: Row) -> list[str]:
    return [
        "any" if row.code == "..." else f"`{row.code}`",
        "any" if row.enhanced == ".*" else f"`{_unescaped(row.enhanced)}`",
        f"`{_unescaped(row.text)}`" if row.text else "any",
        _phase_words(row.phases),
        f"`{row.meaning}`",
    ]


def _api_row(row: ApiRow) -> list[str]:
    return [
        "any" if row.status == "..." else f"`{row.status}`",
        "any" if row.reason == ".*" else f"`{_unescaped(row.reason)}`",
        f"`{_unescaped(row.words)}`" if row.words else "any",
        f"`{row.meaning}`",
    ]


def _phase_words(phases: frozenset[Phase]) -> str:
    """Return where an answer is given, in the shorter of two ways."""
    others = [str(each) for each in Phase if each not in phases]
    if len(others) < len(phases):
        return f"anywhere but {', '.join(others)}" if others else "anywhere"
    return ", ".join(each for each in Phase if each in phases)


def _unescaped(pattern: str) -> str:
    return pattern.replace("(?:", "(").replace(r"\b", "")


def _shown(reply: str) -> str:
    """Return a reply as a client sees it: 451 4.4.1 The…; what the code calls otherwise has a plain name."""
    for name, plain in _PLAIN_NAMES.items():
        reply = re.sub(rf"\b{name}\b", plain, reply)
    return reply.replace("accountWHERE", "account; set it at URL")


_PLAIN_NAMES = {
    "MESSAGE": "ID",
    "FIRST_BARE_LF": "NUMBER",
    "line LINE": "line NUMBER",
    "LINE WHAT": "line NUMBER …",
    "LARGEST_HEADER": "NUMBER",
    "MOST_FIELDS": "NUMBER",
    "LEN": "NUMBER",
    "OURS": "NUMBER",
    "OTHERS": "ADDRESS",
    "CAPITALIZE": "To or Cc",
    "RECIPIENTS": "NUMBER",
    "MOST": "NUMBER",
    "OCTETS": "NUMBER",
    "SHOWN": "TEXT",
    "FAULT": "REASON",
}
