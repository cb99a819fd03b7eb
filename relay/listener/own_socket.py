"""submit.sock: the relay's own unix socket, where the users of this machine hand over (`relay sendmail`)."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from relay.endpoint import UnixAddress
from relay.listener.passed import PassedSockets
from relay.settings import Listener, Settings

_LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_ROOT = 0


def places_of(settings: Settings, passed: PassedSockets | None = None) -> Mapping[str, tuple[str, ...]]:
    """Return the addresses of each listener by its name. An fd:NAME is what systemd `passed` and nobody took yet."""
    passed = passed or PassedSockets()
    return {listener.name: passed.addresses(listener.endpoint) for listener in settings.listeners}


def own_socket(settings: Settings, own_uid: int, places: Mapping[str, tuple[str, ...]]) -> Listener | None:
    """Return the listener on submit.sock; None where a [[listener]] has this path, with rules of its own.

    A user of this machine may do there what it may do over loopback at the first listener that trusts loopback.
    Where none does, root and the relay's own user may send as anybody, and everybody else needs a login.
    """
    address = str(UnixAddress(settings.submit_socket))
    if any(address in addresses for addresses in places.values()):
        return None
    own = Listener(name="submit", address=address)
    for listener in settings.listeners:
        is_unix = any(address.startswith("unix:") for address in places[listener.name])
        if not is_unix and _trusts_loopback(listener):
            return replace(own, may_send_as=listener.may_send_as, bounces=listener.bounces)
    return replace(own, users={str(uid): ("*",) for uid in (_ROOT, own_uid)})


def _trusts_loopback(listener: Listener) -> bool:
    if listener.auth == "required":
        return False
    return any(address in network for address in _LOOPBACK for network in listener.trusted_networks)
