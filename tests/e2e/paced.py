"""A relay whose account has limits, and the windows of what its server took."""

from collections.abc import Mapping
from typing import Any

from tests.peers.canaries import RIGHT
from tests.peers.provider import Taken
from tests.peers.relay import one_channel, open_server

SUPPORT = "support@acmejets.example"
BODY = b"Subject: hello\r\n\r\nhello\r\n"
MINUTE = 60.0


def directory(port: int, names: tuple[str, ...] = ("support",), **limits: Any) -> dict[str, Any]:
    """Channels that each send with an account of their own, all at one server."""
    server = {**open_server(port), "auth": "plain", "username": "mailer@acmejets.example", **limits}
    found = one_channel(server)
    found["channels"] = {
        name: {"address": f"{name}@acmejets.example", "override": True, "password": RIGHT} for name in names
    }
    return found


def two_servers(day: int, minute: int, per_day: Mapping[str, int], per_minute: Mapping[str, int]) -> dict[str, Any]:
    """Channels at two servers, by their ports: "support" with the first limits, "sales" and "live" with the others.

    "live" sends by the account of "sales" while its client waits.
    """
    found, of_minute = directory(day, ("support",), **per_day), directory(minute, ("sales",), **per_minute)
    (found["servers"]["quick"],) = of_minute["servers"].values()
    sales = {**of_minute["channels"]["sales"], "server": "quick"}
    live = {**sales, "address": "live@acmejets.example", "mode": "auto"}
    found["channels"] |= {"sales": sales, "live": live}
    return found


def settings(mode: str, patience: str = "5s") -> dict[str, Any]:
    return {"delivery": {"mode": mode, "patience": patience, "retry": ["1s"], "unknown_pause": "1s"}}


def windows(taken: tuple[Taken, ...], minute: float = MINUTE) -> list[int]:
    """How many messages began in the minute that begins with each message, where that minute is over."""
    moments = sorted(message.at for message in taken)
    return [
        sum(start <= moment < start + minute for moment in moments)
        for start in moments
        if start + minute <= moments[-1]
    ]
