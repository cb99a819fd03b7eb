"""A process that has loaded every command of `relay`, and forks one for each call (`tests.peers.questions`)."""

import gc
import importlib
import json
import os
import pkgutil
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

import relay.cli
import relay.control
import relay.directory
import relay.secrets
import relay.store


def main(descriptor: int) -> None:
    """Answer each call with an exit status, until nobody is left at the other end."""
    line = socket.socket(fileno=descriptor)
    for package in (relay.cli, relay.control, relay.directory, relay.secrets, relay.store):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    gc.freeze()  # what is loaded stays shared
    while True:
        octets, outputs, _, _ = socket.recv_fds(line, 65536, 2)
        if not octets:
            return
        child = os.fork()
        if child == 0:
            line.close()
            _become(json.loads(octets), outputs)
        for output in outputs:
            os.close(output)
        _, status = os.waitpid(child, 0)
        line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(arguments: Sequence[str], outputs: Sequence[int]) -> NoReturn:
    """Run `relay` with these arguments, as if it had just been started."""
    for number, output in enumerate(outputs, start=1):
        os.dup2(output, number)
        os.close(output)
    sys.argv[1:] = arguments
    relay.cli.main()
    raise AssertionError("it ends the process")


if __name__ == "__main__":
    main(int(sys.argv[1]))
