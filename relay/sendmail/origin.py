"""Who calls: the user's address on this machine, and the domain of names that stand without one."""

import os
import pwd
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from relay.config.endpoint import is_host_name
from relay.config.machine import machine_name

# Debian Policy 11.6: what programs write behind the "@" of a local user's address.
_MAIL_NAME = Path("/etc/mailname")


@dataclass(frozen=True, slots=True)
class Origin:
    """This user on this machine. What takes time is looked up when it is first needed."""

    user: int
    mail_name: Path = _MAIL_NAME

    @property
    def domain(self) -> str:
        """The domain of local names: from /etc/mailname, else the machine's full name, for which DNS may be asked."""
        return _domain(self.mail_name)

    @property
    def address(self) -> str:
        """The user's own address."""
        return self.complete(_user_name(self.user))

    def complete(self, name: str) -> str:
        """Return a local name with its domain."""
        return f"{name}@{self.domain}"


@cache
def _domain(mail_name: Path) -> str:
    try:
        words = mail_name.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        words = []
    return words[0] if words and is_host_name(words[0]) else machine_name()


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid{user}"


def this_user() -> Origin:
    """Return the user who runs this process."""
    return Origin(os.getuid())
