"""Keys that name files and programs of this machine, which only who has the machine may set.

SECURITY: `password_from = "command:…"` runs a program as the relay's user, and `"file:…"` reads any of its files into a
login that a server of one's own would see. A `ca_file` or `key_file` is opened, and what is said of it tells which
files there are.
`keep_passwords` lets passwords go to another host. Who has a password of the pages or a token of the API has not the
machine.
"""

from collections.abc import Mapping
from typing import Any

from relay.control.actor import Actor, Way
from relay.control.refused import Forbidden
from relay.directory.tables import MACHINE_KEYS

MACHINE_SENTENCE = "this names a file or a program of the machine; set it there, in directory.toml or by a command"
# Whose password it is may be taken over into the vault; which authorities count is the machine's alone.
_FREE_TO_LEAVE = frozenset({"password_from"})
_FROM_AFAR = frozenset({Way.PAGE, Way.API})


def check_machine_keys(actor: Actor, params: Mapping[str, Any]) -> None:
    """Raise Forbidden where somebody sets such a key over the pages or the API, or takes a `ca_file` away."""
    if actor.way not in _FROM_AFAR:
        return
    if params.get("keep_passwords"):
        raise Forbidden(
            "keep_passwords: that passwords may go to another host is for the machine's own user to say: "
            "relay server set NAME host=HOST --keep-passwords",
            key="keep_passwords",
        )
    key = _found(params.get("values")) or _assigned(params.get("changes"))
    if key:
        raise Forbidden(f"{key}: {MACHINE_SENTENCE}", key=key)


def without_machine_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without such keys, also in the tables within."""
    return {
        key: without_machine_keys(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if key not in MACHINE_KEYS
    }


def _found(values: Any) -> str:
    if isinstance(values, Mapping):
        for key, value in values.items():
            if str(key).rpartition(".")[2] in MACHINE_KEYS and not (key in _FREE_TO_LEAVE and value in (None, "")):
                return str(key)
            if inner := _found(value):
                return f"{key}.{inner}"
    return ""


def _assigned(changes: Any) -> str:
    texts = changes if isinstance(changes, list) else []
    keys = (str(text).partition("=")[0].strip() for text in texts)
    return next((key for key in keys if key.rpartition(".")[2] in MACHINE_KEYS), "")
