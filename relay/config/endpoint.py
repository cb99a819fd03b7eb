"""Where a listener listens: a TCP address, a unix socket, or a socket that systemd opened. Pure."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# Octets; Linux keeps 108 for a path and the NUL behind it (unix(7)).
LONGEST_SOCKET_PATH = 107

# Octets (RFC 1035 section 2.3.4, as text).
_LONGEST_NAME, _LONGEST_LABEL = 253, 63
# "_" is not a host name letter, but machines with it exist.
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """host:port or [v6]:port. `host` has no brackets; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """unix:/path."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """fd:NAME, as systemd passes it."""

    name: str

    def __str__(self) -> str:
        return f"fd:{self.name}"


Endpoint: TypeAlias = TcpAddress | UnixAddress | InheritedSocket


def parse_endpoint(text: str) -> Endpoint:
    """Return what "host:port", "[v6]:port", "unix:/path" or "fd:NAME" says. Raises ValueError with a sentence."""
    kind, _, rest = text.partition(":")
    if kind == "unix":
        if not rest.startswith("/") or "\0" in rest:
            raise ValueError(f"{text!r} is not an absolute path; write unix:/path")
        return UnixAddress(Path(rest))
    if kind == "fd" and rest:
        return InheritedSocket(rest)
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address; write host:port, [v6]:port or unix:/path")
    return TcpAddress(_bare_host(host, text), int(port))


def is_host_name(text: str) -> bool:
    """Whether the text can name a machine: ASCII letters, digits, dots, hyphens, underscores, as long as DNS has."""
    labels = text.split(".")
    is_short = len(text) <= _LONGEST_NAME and all(0 < len(label) <= _LONGEST_LABEL for label in labels)
    return is_short and _HOST.fullmatch(text) is not None


def _bare_host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"{host!r} is no IPv6 address") from None
    if ":" in host:
        raise ValueError(f"{text!r} is not an address; write an IPv6 address in brackets, such as [::1]:2525")
    if not is_host_name(host):
        raise ValueError(f"{text!r} names no host; write host:port, such as 127.0.0.1:2525")
    return host
