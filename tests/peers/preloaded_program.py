"""A process that has loaded all of `relay`, and forks one for each call (`tests.peers.preloaded`)."""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
from typing import Any, NoReturn

import relay
import relay.cli
from relay.directory.reader_process import ReaderProcess

_MOST_DESCRIPTORS = 64
_HIGH = 512


def main(descriptor: int) -> None:
    """Answer each call with a process id, and later with its exit status, until nobody is left at the other end."""
    line = socket.socket(fileno=descriptor)
    for module in pkgutil.walk_packages(relay.__path__, relay.__name__ + "."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            with contextlib.suppress(ImportError):  # what needs a library of an extra
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # what is loaded stays shared
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is line:
                    if not _fork(line, selector):
                        return
                else:
                    selector.unregister(key.fileobj)
                    _tell_end(key.fd, *key.data)


def _fork(line: socket.socket, selector: selectors.BaseSelector) -> bool:
    """Start what was asked for; False where nobody asks any more."""
    octets, descriptors, _, _ = socket.recv_fds(line, 1 << 20, _MOST_DESCRIPTORS)
    if not octets:
        return False
    call = json.loads(octets)
    report, *given = descriptors
    child = os.fork()
    if child == 0:
        _become(call, given)
    for number in given:
        os.close(number)
    told = socket.socket(fileno=report)
    told.send(str(child).encode())
    selector.register(os.pidfd_open(child), selectors.EVENT_READ, (child, told))
    return True


def _tell_end(ended: int, child: int, told: socket.socket) -> None:
    _, status = os.waitpid(child, 0)
    os.close(ended)
    with told, contextlib.suppress(BrokenPipeError):  # who asked may be gone
        told.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(call: dict[str, Any], given: list[int]) -> NoReturn:
    """Run `relay` with these arguments, environment and descriptors, as if it had just been started."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # First out of the way of each other: a descriptor has the same number here as in the process that gives it.
    high = [os.dup2(number, _HIGH + index) for index, number in enumerate(given)]
    os.closerange(3, _HIGH)  # and nothing of what this process has of others
    for number, wanted in zip(high, call["descriptors"], strict=True):
        os.dup2(number, wanted)
        os.close(number)
    os.environ.clear()
    os.environ.update(call["environment"])
    if "folder" in call:
        os.chdir(call["folder"])
        os.umask(call["umask"])
    sys.argv[1:] = call["arguments"]
    # Reading files by another process spares memory where the modules that read are not loaded; here they are.
    ReaderProcess.begin = lambda *_: None  # type: ignore[method-assign]
    if call["before"]:
        module, _, name = call["before"][0].partition(":")
        getattr(importlib.import_module(module), name)(*call["before"][1:])
    try:
        relay.cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    else:
        code = 0
    # As the interpreter ends, but for what it takes apart, which is for nothing.
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
