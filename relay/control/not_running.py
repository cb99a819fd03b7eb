"""The status where no relay runs: the same keys, so that scripts need no second case."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# What of a status the store has.
NOTHING_STORED: Mapping[str, Any] = MappingProxyType(
    {
        "store": {"ok": True, "reason": "", "trouble": ""},
        "queue": {},
        "oldest": None,
        "accounts_held": [],
        "oauth": [],
    }
)
NOT_RUNNING: Mapping[str, Any] = MappingProxyType(
    {
        "running": False,
        "pid": None,
        "version": None,
        "node": None,
        "leads": None,
        "state": None,
        "since": None,
        "state_dir": None,
        "listeners": [],
        "connections": 0,
        "workers": [],
        "settings": {"ok": True, "faults": [], "needs_restart": []},
        "directory": {"ok": True, "faults": []},
        **NOTHING_STORED,
        "log": {"dropped": 0},
        "web": {"address": None, "trouble": ""},
        "mailboxes": [],
    }
)
