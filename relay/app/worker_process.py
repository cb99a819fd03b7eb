"""What the process of one worker does: its service is one of several, and the supervisor stands for systemd."""

import asyncio
import socket

from relay.app.clustered import Clustered
from relay.app.process import prepare, run_to_end, serve
from relay.app.service import Service
from relay.cluster.bootstrap import Bootstrap
from relay.cluster.ipc import IpcConnection
from relay.cluster.peers import Peers
from relay.directory.reader_process import ReaderProcess
from relay.system.systemd import Systemd


def work(bootstrap: Bootstrap, apart: ReaderProcess) -> int:
    """Run one worker of a relay until SIGTERM, or until the supervisor is gone; return the exit status."""
    prepare(bootstrap.settings)
    return run_to_end(_work(bootstrap, apart))


async def _work(bootstrap: Bootstrap, apart: ReaderProcess) -> None:
    line = await IpcConnection.over(socket.socket(fileno=bootstrap.line))
    peers = Peers(line, bootstrap.place, bootstrap.store)
    # The supervisor is told what a service tells systemd.
    systemd = Systemd(
        watchdog_seconds=bootstrap.beat_seconds,
        descriptors=bootstrap.descriptors,
        tell_instead=lambda lines: line.tell({"to": "supervisor", "lines": lines}),
    )
    service = Service(
        bootstrap.settings,
        bootstrap.settings_file,
        systemd=systemd,
        read_settings=apart.settings,
        read_directory=apart.read,
        cluster=Clustered(peers),
    )
    stop = asyncio.Event()
    hearing = asyncio.create_task(peers.listen(stop.set))
    try:
        # Ctrl-C reaches all processes of a relay: the supervisor says when a worker ends.
        await serve(service, stop, minds_interrupt=False)
    finally:
        hearing.cancel()
        line.close()
