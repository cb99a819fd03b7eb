"""Tables in an entry (`incoming`, `oauth`): a form asks for keys one by one, the directory takes a whole table."""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any, get_args, get_type_hints

from relay.directory.keys import MACHINE_KEYS
from relay.directory.values import Editable


def folded(
    values: Mapping[str, Any], worded: Collection[str], model: Editable, record: Mapping[str, Any]
) -> dict[str, Any]:
    """Return values with those of tables ("incoming.host") put together to the tables that they belong to.

    A table of which no key in `worded` has a value is None. What a record says of a table and no form asks for stays;
    keys of the machine are not named at all, which leaves them as they are.
    """
    whole = {key: value for key, value in values.items() if "." not in key}
    for table in dict.fromkeys(key.partition(".")[0] for key in values if "." in key):
        inner = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{table}.")}
        is_there = any(inner[key] for key in inner if f"{table}.{key}" in worded)
        kept = {key: value for key, value in (record.get(table) or {}).items() if key not in MACHINE_KEYS} | inner
        whole[table] = _without_defaults(model, table, kept) if is_there else None
    return whole


def default_of(model: type, key: str) -> Any:
    """Return what a key is where nobody says it; None where that is nothing, and for one without a default."""
    for one in fields(model):
        if one.name == key:
            return list(one.default) if isinstance(one.default, tuple) else _known(one.default)
    return None


def _without_defaults(model: Editable, table: str, inner: Mapping[str, Any]) -> dict[str, Any]:
    hint = get_type_hints(model)[table]
    kind = next(part for part in get_args(hint) if part is not type(None))
    return {key: value for key, value in inner.items() if value not in (None, default_of(kind, key))}


def _known(value: Any) -> Any:
    return None if value is MISSING else value
