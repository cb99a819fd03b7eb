"""What the workers of a machine tell each other and nobody keeps: pauses that a server asked for, and servers away.

Who misses a word meets the same pause, or the same server, by itself; one that begins is told what is known. What may
not be lost is in the store.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from relay.cluster.ipc import Message
from relay.cluster.peers import Peers
from relay.delivery.holds import Accounts, ServerHealth, Slowness, Unreached
from relay.upstream.outcome import Phase

_PAUSE, _REACH = "pause", "reach"


def share_pauses(peers: Peers, accounts: Accounts) -> None:
    """Let a pause that one worker's account has to make be made by all."""

    def tell(scope: str, pause: Slowness | None, to: int | None = None) -> None:
        facts = asdict(pause) | {"until": pause.until.isoformat()} if pause else None
        peers.tell(_PAUSE, to=to, scope=scope, pause=facts)

    def heard(_: int, message: Message) -> None:
        facts: dict[str, Any] | None = message["pause"]
        pause = Slowness(**facts | {"until": datetime.fromisoformat(facts["until"])}) if facts else None
        accounts.follow_pause(message["scope"], pause)

    def begun(who: int) -> None:
        for scope, pause in accounts.pauses.items():
            tell(scope, pause, who)

    accounts.on_pause = tell
    peers.on(_PAUSE, heard)
    peers.on_begun(begun)


def share_server_health(peers: Peers, servers: ServerHealth) -> None:
    """Let all workers know which servers nobody gets through to."""

    def tell(server: str, unreached: Unreached | None, to: int | None = None) -> None:
        moments = {"since": unreached.since.isoformat(), "last": unreached.last.isoformat()} if unreached else {}
        peers.tell(_REACH, to=to, server=server, unreached=asdict(unreached) | moments if unreached else None)

    def heard(_: int, message: Message) -> None:
        facts: dict[str, Any] | None = message["unreached"]
        if facts is None:
            servers.follow(message["server"], None)
            return
        moments = {key: datetime.fromisoformat(facts[key]) for key in ("since", "last")}
        servers.follow(message["server"], Unreached(**facts | moments | {"phase": Phase(facts["phase"])}))

    def begun(who: int) -> None:
        for server, unreached in servers.known.items():
            tell(server, unreached, who)

    servers.on_change = tell
    peers.on(_REACH, heard)
    peers.on_begun(begun)
