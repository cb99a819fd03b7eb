"""The keys of relay.toml and directory.toml, as their dataclasses declare them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from docs.generate.blocks import Block, Code, Heading, Table, Text
from relay.config import settings as settings_module
from relay.config.notification import Alert, Webhook
from relay.config.schema import Duration, Size, keys_of, meanings_of
from relay.config.settings import Listener, Settings, as_table
from relay.config.types import NEEDS_RESTART, Durations
from relay.directory.directory import Directory
from relay.directory.model import Agent, AnswerRule, Application, Channel, Profile, Script, Server
from relay.directory.tables import Incoming, OAuthClient

_HEADS = ("key", "value", "default", "meaning")
_UNITS = 'Durations are written "15s", "2m", "4h", "4d"; sizes "64KiB", "36MiB", or as a number of bytes.'


def settings_page() -> Iterator[Block]:
    """Yield the page about relay.toml."""
    yield Heading(1, "relay.toml")
    yield Text(
        "The settings of the service. Relay only reads this file. It is looked for as `--config FILE`, then "
        "`$RELAY_CONFIG`, then `~/.config/relay/relay.toml`, then `/etc/relay/relay.toml`; where there is none, all "
        "defaults hold. `relay check` names everything that is wrong with it, `relay config show` says what is in "
        "effect. A key marked (restart) is read at the start alone, as are listeners that come, go or move; all others "
        f"change at `systemctl reload relay`. {_UNITS} "
        "Every key can come from the environment of the service too, which counts before the file: "
        "`RELAY_HOSTNAME=mx.example`, `RELAY_DELIVERY__MODE=queued` (two underscores behind the section), "
        "`RELAY_LISTENER__0__ADDRESS=0.0.0.0:2525` (tables of a list by their numbers from 0); lists and tables are "
        "JSON. `relay config show` marks what comes from there, and an unknown name with two underscores is a fault."
    )
    defaults = as_table(Settings())
    lists = {"listener": Listener, "alert": Alert, "webhook": Webhook}
    top = {key: value for key, value in defaults.items() if key not in lists and not _is_table(value)}
    yield Heading(2, "The service itself")
    yield _table(Settings, top)
    hints = get_type_hints(Settings)
    for key, value in defaults.items():
        if key in lists:
            yield from _section(f"[[{key}]]", lists[key], value[0] if value else None)
        elif key not in top:
            yield from _section(f"[{key}]", hints[key], value)
    yield Heading(2, "Example")
    yield Text("Mail clients of the office network log in under TLS; programs of this machine send as support alone.")
    yield Code(_SETTINGS_EXAMPLE, "toml")


def directory_page() -> Iterator[Block]:
    """Yield the page about directory.toml."""
    yield Heading(1, "directory.toml")
    yield Text(
        "Who may send, and how. People edit this file, and so do `relay server`, `relay channel`, `relay agent`, "
        "`relay application` and the web pages: they keep comments and order. A running relay has a change within 2 "
        "seconds; where the new file has a fault, the old one stays in effect, and `relay check` and `relay status` "
        "name the fault. It is in `state_dir`, unless relay.toml says otherwise. NAME is what you call an entry: "
        "letters, digits and `. _ @ + -`, at most 64; channels and agents share one set of names. A key that "
        f"must be there says needed instead of a default. {_UNITS}"
    )
    yield Heading(2, "The file itself")
    yield _table(Directory, {"default_server": None})
    server = "[servers.NAME]"
    yield from _section(server, Server)
    yield from _section("[[servers.NAME.answers]]", AnswerRule)
    yield from _section("[servers.NAME.oauth]", OAuthClient)
    yield from _section("[channels.NAME]", Channel)
    yield from _section(
        "[agents.NAME]", Agent, without=frozenset(keys_of(Profile)), first="All keys of a channel, and:"
    )
    yield from _section(
        "[channels.NAME.incoming]", Incoming, first="An agent and a server may have one as well, each for its address."
    )
    yield from _section("[applications.NAME]", Application)
    yield from _section("[scripts.NAME]", Script)
    yield Heading(2, "Example")
    yield Text("One server for all, a channel with an account of its own, and a login for the contact center.")
    yield Code(_DIRECTORY_EXAMPLE, "toml")


_SETTINGS_EXAMPLE = """\
hostname = "relay.acmejets.example"

[[listener]]
name = "office"
address = "0.0.0.0:587"
security = "starttls"
auth = "required"

[[listener]]
name = "local"
may_send_as = ["support"]

[tls]
certificate = "/etc/relay/tls/fullchain.pem"
key = "/etc/relay/tls/key.pem\""""

_DIRECTORY_EXAMPLE = """\
default_server = "acmejets"

[servers.acmejets]
host = "smtp.gmail.com"
username = "mailer@acmejets.example"

[channels.support]
address = "support@acmejets.example"
aliases = ["help@acmejets.example"]
override = true

[agents.jane]
address = "jane@acmejets.example"
full_name = "Jane Doe"

[applications.contact-center]
may_send_as = ["support", "jane"]"""


def _section(
    title: str,
    kind: type,
    values: Mapping[str, Any] | None = None,
    *,
    without: frozenset[str] = frozenset(),
    first: str = "",
) -> Iterator[Block]:
    yield Heading(2, title)
    yield Text(first or _meaning_of_table(kind))
    defaults = values if values is not None else _defaults(kind)
    yield _table(kind, {key: value for key, value in defaults.items() if key not in {*without, "name"} or values})


def _table(kind: type, defaults: Mapping[str, Any]) -> Table:
    meanings = meanings_of(kind)
    hints = get_type_hints(kind, include_extras=True)
    rows = []
    for key, value in defaults.items():
        default = "" if value is None else "needed" if value is MISSING else f"`{_as_toml(value)}`"
        mark = "(restart) " if NEEDS_RESTART in getattr(hints[key], "__metadata__", ()) else ""
        meaning = mark + meanings[key] + _is_it_here(kind, key)
        rows.append([f"`{key}`", _value_words(hints[key]), default, meaning])
    return Table(_HEADS, rows)


def _is_it_here(kind: type, key: str) -> str:
    is_unbuilt = kind is Settings and key in settings_module._UNBUILT
    return " Not every value is in this version; `relay check` says which is not." if is_unbuilt else ""


def _defaults(kind: Any) -> dict[str, Any]:
    """Return the default of every key of a table: MISSING where there is none, None where it may be left out."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        factory = field.default_factory
        found[field.name] = field.default if factory is MISSING else factory()
    return found


def _meaning_of_table(kind: type) -> str:
    """Return what a dataclass says of itself: the first sentence, without the name of its table in front."""
    words = (kind.__doc__ or "").partition("\n")[0]
    words = words.partition(": ")[2] if words.startswith("`") else words
    return words[:1].upper() + words[1:]


def _value_words(hint: Any) -> str:
    """Return what a key takes, in a few words."""
    if hint == Duration:
        return "duration"
    args = get_args(hint)
    if get_origin(hint) is Annotated:
        bare = [extra for extra in args[1:] if not isinstance(extra, str)]
        if any(extra in get_args(Duration) for extra in bare):
            return "duration"
        if any(extra in get_args(Size) for extra in bare):
            return "size"
        if any(extra in get_args(Durations) for extra in bare):
            return "list of durations"
        return _value_words(args[0])
    if get_origin(hint) in {Union, UnionType}:
        return " or ".join(_value_words(arg) for arg in args if arg is not type(None))
    if get_origin(hint) is Literal:
        return ", ".join(f"`{word}`" for word in args)
    if get_origin(hint) is tuple:
        return "tables" if keys_of(args[0]) else "list"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{word.value}`" for word in hint)
    if keys_of(hint) or get_origin(hint) is not None:
        return "table"
    return _PLAIN.get(hint, "text")


_PLAIN: Mapping[Any, str] = {bool: "`true`, `false`", int: "number"}


def _as_toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_as_toml(item) for item in value)}]"
    return json.dumps(value.value if isinstance(value, Enum) else value, ensure_ascii=False)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))
