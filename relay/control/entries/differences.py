"""What differs between two directories, key by key. Pure; ten thousand agents take a moment, so not for the loop."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from relay.control.audit_details import Change
from relay.directory.model import Directory

_TABLES = ("servers", "channels", "agents", "applications", "scripts")
_SECRETS = frozenset({"password", "password_from"})


def differences(before: Directory, after: Directory) -> Iterator[Change]:
    """Yield the changes from one directory to the next, in the order of their keys; of a secret only that it is one."""
    if before is after:
        return
    if before.default_server != after.default_server:
        yield Change("default_server", before.default_server, after.default_server)
    for table in _TABLES:
        old, new = getattr(before, table), getattr(after, table)
        if old is not new:
            for name in sorted(_others(old, new)):
                yield from _of_entries(f"{table}.{name}", old.get(name), new.get(name))


def _others(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the entries that may be others. Most of a hundred thousand are the very same values."""
    yield from (name for name, entry in old.items() if new.get(name) is not entry)
    yield from (name for name in new if name not in old)


def _of_entries(key: str, old: Any, new: Any) -> Iterator[Change]:
    """Yield what differs between two entries or two tables in them; None is one that is not there."""
    if old is new or old == new:
        return
    for field in fields(new if old is None else old):
        if field.name == "name":
            continue
        was, is_ = _value(old, field.name), _value(new, field.name)
        below = f"{key}.{field.name}"
        if field.name in _SECRETS:
            yield from _of_secrets(below, was, is_)
        elif is_dataclass(was) or is_dataclass(is_):
            yield from _of_entries(below, was or None, is_ or None)
        elif (old is None or new is None) and (is_ if old is None else was) == _default(field):
            continue
        elif was != is_:
            yield Change(below, plain(was), plain(is_))


def _value(entry: Any, name: str) -> Any:
    return None if entry is None else getattr(entry, name)


def _of_secrets(key: str, old: str | None, new: str | None) -> Iterator[Change]:
    if (old or "") != (new or ""):
        yield Change(key, "set" if old else None, ("changed" if old else "set") if new else None)


def _default(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def plain(value: Any) -> Any:
    """Return a value of the directory as JSON has it. Passwords in it are left out."""
    if is_dataclass(value):
        shown = (field.name for field in fields(value) if field.name not in _SECRETS)
        return {name: plain(getattr(value, name)) for name in shown}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, str) else value
