"""A relay's listener in a process of its own, for tests that measure it. Run as a module, it prints its port.

A line on stdin makes it print its CPU seconds and the most memory it has held (bytes); the end of stdin ends it.
"""

import asyncio
import resource
import sys

from relay import log
from relay.config.settings import Limits, Listener
from relay.directory.client import Client
from relay.listener.server import Listeners
from relay.mail.content import Content
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from tests.dialogs.listener.listener_kit import FakeAcceptance, FakeLogins, FakeSubmission, Handed


class _Forgetful(FakeAcceptance):
    def open(self, client: Client, envelope: Envelope, arrival: Arrival) -> FakeSubmission:
        return _Measured(self, Handed(client, envelope, arrival))


class _Measured(FakeSubmission):
    async def complete(self, content: Content) -> Reply:
        return Reply(250, "2.0.0", f"Ok: {content.size} octets")


async def _serve() -> None:
    listeners = Listeners([Listener(address="127.0.0.1:0")], Limits(), _Forgetful(), logins=FakeLogins())
    await listeners.open()
    await listeners.serve()
    sys.stdout.write(f"{listeners.addresses[0].rpartition(':')[2]}\n")
    sys.stdout.flush()
    while await asyncio.to_thread(sys.stdin.readline):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        sys.stdout.write(f"{usage.ru_utime + usage.ru_stime} {usage.ru_maxrss * 1024}\n")
        sys.stdout.flush()
    await listeners.stop(patience=1)


if __name__ == "__main__":
    log.configure(level="error")
    asyncio.run(_serve())
