"""Limits over SIGKILL: a relay that is killed again and again under load never sends more than it may.

RELAY_LIMITS_SEED plays the moments of the kills again.
"""

import os
import random
import signal
import time
from contextlib import ExitStack

import pytest

from tests.e2e.paced import MINUTE, settings, two_servers, windows
from tests.peers.fixtures import StartRelay
from tests.peers.provider import Provider, provider_server
from tests.peers.relay import Relay

KILLS = 25
PER_DAY, PER_MINUTE = 60, 60
SEED = int(os.environ.get("RELAY_LIMITS_SEED") or time.time())
# Each kill may cost the recipients of what was under way at that moment, with three connections.
MOST_LOST = KILLS


DAY_LIMITS = {"max_connections": 3, "recipients_per_day": PER_DAY, "messages_per_minute": 40}  # a pace lets them last
MINUTE_LIMITS = {"max_connections": 3, "messages_per_minute": PER_MINUTE}


def fill(relay: Relay, chance: random.Random) -> None:
    """Let more wait than may leave: 90 messages, and 150 recipients in messages of one to three."""
    body = b"Subject: hello\r\n\r\nhello\r\n"
    with relay.connect() as client:
        for number in range(90):
            assert client.submit("sales@acmejets.example", f"s{number}@customer.example", body).startswith("250 ")
        for number in range(75):
            some = [f"d{number}-{one}@customer.example" for one in range(chance.randint(1, 3))]
            client.envelope("support@acmejets.example", *some)
            client.say("DATA")
            client.send(body + b".\r\n")
            assert client.reply().startswith("250 ")


@pytest.mark.long
@pytest.mark.timeout(200)
def test_twenty_five_kills_pass_no_limit(start_relay: StartRelay) -> None:
    print(f"RELAY_LIMITS_SEED={SEED}")  # noqa: T201 - to play it again
    chance = random.Random(SEED)
    with ExitStack() as stack:
        day = stack.enter_context(provider_server(Provider(per_day=PER_DAY)))
        minute = stack.enter_context(provider_server(Provider(per_minute=PER_MINUTE)))
        relay = start_relay(two_servers(day.port, minute.port, DAY_LIMITS, MINUTE_LIMITS), settings("queued"))
        fill(relay, chance)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.2, 3.5))
            relay.signal(signal.SIGKILL)
            assert relay.process is not None
            relay.process.wait(30)
            relay.start()
        said = f"RELAY_LIMITS_SEED={SEED}"
        assert day.refusals == [], said
        assert minute.refusals == [], said
        assert max(windows(minute.taken), default=0) <= PER_MINUTE, said
        used = sum(len(message.recipients) for message in day.taken)
        assert PER_DAY - MOST_LOST <= used <= PER_DAY, said
        spread = minute.taken[-1].at - minute.taken[0].at
        assert len(minute.taken) >= PER_MINUTE * spread / MINUTE - 2 * KILLS, said
