"""The descriptors of this process: how many it may have open (RLIMIT_NOFILE), and those that it is given."""

import os
import resource
from contextlib import suppress
from pathlib import Path

_BESIDES = 512  # the pages' clients, the store, the log, upstream connections that wait, whatever a library opens

_LAST_STANDARD = 2  # stderr


def allow(connections: int) -> None:
    """Raise our own limit, as far as we are allowed to, to what so many clients need.

    A client may cost three: its connection, the file of a large message, and one connection upstream while that is
    handed over. systemd and most shells give 1,024 and allow many more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * connections + _BESIDES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def keep_standard() -> None:
    """Fill the places of stdin, stdout and stderr that are closed, so that no file of ours is opened there.

    For reading alone: what is written there fails, and counts as lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDONLY)  # the lowest that is free
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.set_inheritable(number, True)


def keep_to_ourselves() -> None:
    """Let no program that we start have what we were given: sockets of systemd, or a line to the supervisor.

    What we open ourselves is closed in it anyway. uvloop closes nothing else, and a listening socket in a command that
    hangs would keep our address taken.
    """
    with suppress(OSError):  # no /dev/fd: then nobody knows what there is
        for number in [int(one.name) for one in Path("/dev/fd").iterdir()]:
            with suppress(OSError):  # that of the listing is closed by now
                if number > _LAST_STANDARD:
                    os.set_inheritable(number, False)
