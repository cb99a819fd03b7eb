"""How many files and connections this process may have open (RLIMIT_NOFILE)."""

import resource

_BESIDES = 512  # the pages' clients, the store, the log, upstream connections that wait, whatever a library opens


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
