"""What the shell is offered when somebody presses the tab key: names, addresses of accounts, ids, keys, words.

Names are those in directory.toml, which is only scanned for its headers where it is large. The running relay, which has
a quarter of a second, is asked for ids, and for names that the database keeps. Whatever goes wrong, nothing is offered,
and nothing is said.
"""

import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from typer import Context

from relay.cli.startup import config_first, config_of
from relay.config.machine import default_runtime_dir, default_state_dir, find_settings_file
from relay.control.transport.client import ControlClient

Offer: TypeAlias = Callable[[Context, str], Iterable[str]]
Completion: TypeAlias = Callable[[Context, str], list[str]]

_HEADER = re.compile(rb"^[ \t]*\[(\w+)\.(?:\"([^\"\\\n]+)\"|'([^'\n]+)'|([\w-]+))\]", re.MULTILINE)
_SMALL = 200_000
_MOST_IDS = 50
# Who asks a relay first waits until what answers is loaded.
_ANSWER_SECONDS = 0.8
# What is asked of a running relay, and the key of the answer, by the noun.
_ASKED = {"admin": "admin.list", "token": "token.list"}
BOOLEANS = ("true", "false")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the relay that is meant keeps its things; no `directory` where the store keeps that."""

    state_dir: Path
    directory: Path | None
    control_socket: Path

    def ask(self) -> ControlClient:
        return ControlClient(self.control_socket, self.state_dir, seconds=_ANSWER_SECONDS)


def offered(offer: Offer) -> Completion:
    """Return the completion that offers what begins like the word, and nothing at all where it cannot be found."""

    def complete(context: Context, incomplete: str) -> list[str]:
        try:
            return [word for word in offer(context, incomplete) if word.startswith(incomplete)]
        except Exception:  # a directory with faults, a relay that does not answer: nobody asked to hear of it now
            return []

    return complete


def one_of(*words: str) -> Completion:
    """Return the completion of an option that knows these words."""
    return offered(lambda _context, _incomplete: words)


@offered
def names(context: Context, _incomplete: str) -> Iterable[str]:
    """Offer the names of the noun whose verb is typed; a new entry has none yet."""
    noun = context.parent.info_name if context.parent else ""
    if context.info_name == "add" or not noun:
        return ()
    if noun in _ASKED:
        return [record["name"] for record in _place(context).ask().run(_ASKED[noun], {})]
    return _names_of(context, f"{noun}s")


@offered
def servers(context: Context, _incomplete: str) -> Iterable[str]:
    """Offer the names of all servers."""
    return _names_of(context, "servers")


@offered
def profiles(context: Context, _incomplete: str) -> Iterable[str]:
    """Offer the names of all channels and agents."""
    return _names_of(context, "channels", "agents")


@offered
def scripts(context: Context, _incomplete: str) -> Iterable[str]:
    """Offer the names of all header scripts."""
    return _names_of(context, "scripts")


@offered
def logins(context: Context, _incomplete: str) -> Iterable[str]:
    """Offer the names of all who may log in at Relay."""
    return _names_of(context, "channels", "agents", "applications")


@offered
def accounts(context: Context, _incomplete: str) -> Iterable[str]:
    """Offer all accounts that the running relay knows."""
    return [record["account"] for record in _place(context).ask().run("account.list", {})]


@offered
def nodes(context: Context, _incomplete: str) -> Iterable[str]:
    """Offer all nodes that the running relay knows."""
    return [record["name"] for record in _place(context).ask().run("node.list", {})]


@offered
def ids(context: Context, _incomplete: str) -> Iterable[str]:
    """Offer the ids of the messages that have waited longest; behind `messages` those of the newest."""
    is_history = context.parent is not None and context.parent.info_name == "messages"
    with closing(_place(context).ask().stream("messages.list" if is_history else "queue.list", {})) as records:
        return [record["id"] for record in islice(records, _MOST_IDS)]


@offered
def providers(_context: Context, _incomplete: str) -> Iterable[str]:
    """Offer the names of the providers whose settings are known."""
    presets = Path(__file__).parent.parent / "directory/presets.toml"
    return sorted(tomllib.loads(presets.read_text()))


@offered
def changes(context: Context, incomplete: str) -> Iterable[str]:
    """Offer KEY= for every key of the noun, then the values of a key that knows a few."""
    from relay.config.schema import keys_of

    key, is_set, _ = incomplete.partition("=")
    if is_set:
        return [f"{key}={value}" for value in _values_of(context, key)]
    if split_key := _key_before_equals():
        return _values_of(context, split_key)
    hidden = {"name", "password", "oauth", "incoming", "answers"}
    return [f"{key}=" for key in keys_of(_model_of(context)) if key not in hidden]


def _key_before_equals() -> str:
    """Return the key where bash takes "key", "=" and "value" for three words, "" elsewhere."""
    typed, at = os.environ.get("COMP_WORDS", "").split(), int(os.environ.get("COMP_CWORD", "0"))
    return typed[at - 2] if at > 2 and typed[at - 1 : at] == ["="] else ""


def _values_of(context: Context, key: str) -> Iterable[str]:
    if key == "server":
        return _names_of(context, "servers")
    if key == "script":
        return _names_of(context, "scripts")
    if key == "bounces":
        return _names_of(context, "channels", "agents")
    return words_of(_model_of(context), key)


def words_of(model: type, key: str) -> tuple[str, ...]:
    """Return the words that a key of a noun knows; none where it takes any."""
    from relay.directory.tables import hint_of, plain_type

    hint = plain_type(hint_of(model, key))
    if hint is bool:
        return BOOLEANS
    is_words = isinstance(hint, type) and issubclass(hint, StrEnum)
    return tuple(word.value for word in hint) if is_words else ()


def _model_of(context: Context) -> type:
    """Return the model of the noun whose verb is typed."""
    from relay.directory.kinds import KINDS

    return KINDS[(context.parent and context.parent.info_name) or ""].model


SECURITIES = ("none", "starttls", "tls")
AUTHS = ("none", "plain", "login", "cram-md5", "scram-sha-256", "oauth2", "auto")
MODES = ("auto", "direct", "queued")
STATES = ("queued", "sending", "unknown", "held", "delivered", "failed", "removed")
ROLES = ("administrator", "viewer")


def _names_of(context: Context, *tables: str) -> list[str]:
    place = _place(context)
    if place.directory is None:
        return [record["name"] for table in tables for record in place.ask().run(f"{table[:-1]}.list", {})]
    content = place.directory.read_bytes()
    if len(content) > _SMALL:  # ten thousand agents take a second to read, and a moment to scan
        found = [
            (match[1].decode(), (match[2] or match[3] or match[4]).decode()) for match in _HEADER.finditer(content)
        ]
        return [name for table, name in found if table in tables]
    directory: dict[str, Any] = tomllib.loads(content.decode())
    return [name for table in tables for name in directory.get(table, {})]


def _place(context: Context) -> _Place:
    """Return where the files are. Only what is needed of the settings is read: to check them all takes longer."""
    file = find_settings_file(context.find_root().params.get("config_file") or _typed_config())
    table = tomllib.loads(file.read_text()) if file else {}
    state_dir = Path(table.get("state_dir") or default_state_dir(os.environ, os.geteuid())).expanduser()
    runtime_dir = Path(table.get("runtime_dir") or default_runtime_dir(os.environ, state_dir)).expanduser()
    named = table.get("directory", "directory.toml")
    directory = None if named == "database" else state_dir / named
    return _Place(state_dir, directory, runtime_dir / "control.sock")


def _typed_config() -> Path | None:
    """Return what `--config` says behind the command, where the parser does not look for it."""
    typed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return config_of(config_first(shlex.split(typed)[1:]))
