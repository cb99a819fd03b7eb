"""What becomes of new settings while a relay runs: which keys change, and which need a restart. Pure.

`relay.config.settings` marks the keys that are read at the start alone; all others may change (`relay.app.reload`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

from relay.config.settings import LISTS, Listener, Settings, Tls
from relay.config.types import NEEDS_RESTART


@dataclass(frozen=True, slots=True)
class Merged:
    """The settings that are in effect after a reload.

    `changed` are the keys that are others than before ("delivery.retry", "listener.local.auth"), `waiting` those that
    say something else in the file and need a restart; "listener.lan" is one that comes, or goes, as a whole.
    """

    settings: Settings
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def keys_for_restart(kind: type = Settings, prefix: str = "") -> Iterator[str]:
    """Yield the keys that need a restart, as etc/relay.toml writes them: "state_dir", "listener.address"."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if isinstance(hint, type) and is_dataclass(hint):
            yield from keys_for_restart(hint, f"{prefix}{field.name}.")
        elif field.name == "listeners":
            yield from keys_for_restart(Listener, "listener.")
        elif NEEDS_RESTART in getattr(hint, "__metadata__", ()):
            yield prefix + field.name


def merged(old: Settings, new: Settings) -> Merged:
    """Return the new settings with everything that needs a restart as it is in the old ones.

    A listener that is another address now, or goes, stays as it is as a whole: half of its new rules at the old address
    would be a third thing that nobody wrote. What it needs of [tls] stays with it.
    """
    changed: list[str] = []
    waiting: list[str] = []
    settings = _taken(old, new, "", changed, waiting)
    settings = replace(settings, listeners=tuple(_listeners(old, new, changed, waiting)))
    if settings.tls == Tls() and any(listener.security != "none" for listener in settings.listeners):
        keys = [key for key in changed if key.startswith("tls.")]
        changed = [key for key in changed if key not in keys]
        waiting += keys
        settings = replace(settings, tls=old.tls)
    return Merged(settings, tuple(changed), tuple(waiting))


def _taken(old: Any, new: Any, prefix: str, changed: list[str], waiting: list[str]) -> Any:
    """Return the old value with what may change of the new one, and take note of the keys."""
    fixed = set(keys_for_restart(type(old), prefix))
    values: dict[str, Any] = {}
    for field in fields(old):
        key, before, after = (
            prefix + LISTS.get(field.name, field.name),
            getattr(old, field.name),
            getattr(new, field.name),
        )
        if is_dataclass(before):
            values[field.name] = _taken(before, after, f"{key}.", changed, waiting)
        elif before != after and field.name != "listeners":
            (waiting if key in fixed else changed).append(key)
            values[field.name] = before if key in fixed else after
    return replace(old, **values)


def _listeners(old: Settings, new: Settings, changed: list[str], waiting: list[str]) -> Iterator[Listener]:
    by_name = {listener.name: listener for listener in new.listeners}
    for listener in old.listeners:
        after = by_name.pop(listener.name, None)
        key = f"listener.{listener.name}"
        if after is None:
            waiting.append(key)
            yield listener
        elif after.address != listener.address:
            _taken(listener, after, f"{key}.", waiting, waiting)
            yield listener
        else:
            yield _taken(listener, after, f"{key}.", changed, waiting)
    waiting += [f"listener.{name}" for name in by_name]
