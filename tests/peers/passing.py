"""A program that passes the sockets it inherited to another and becomes it, by the rules of sd_listen_fds(3)."""

import fcntl
import os
import sys

_FIRST = 3
_ABOVE_ALL = 200  # where no descriptor is that another has still to be moved from


def main(numbers: str, names: str, *argv: str) -> None:
    """Move the descriptors ("5,7") to 3 and above, name them ("a:b") in the environment, and become `argv`."""
    moved = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, _ABOVE_ALL) for number in numbers.split(",") if number]
    for number, descriptor in enumerate(moved, _FIRST):
        os.dup2(descriptor, number)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)), LISTEN_FDNAMES=names)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
