"""Who sends by which server and account, by the files of Postfix: relayhost, tables by sender, passwords. Pure.

Postfix rewrites a sender when mail comes in (canonical(5)), chooses by the result, and rewrites once more when mail
leaves (generic(5)). Each sender that has a row of its own in any of these tables is followed that way.
"""

from collections.abc import Iterator, Mapping

from relay.moving.found import Found, FoundSender, Login, Place, address_key
from relay.moving.postfix_lines import Entry
from relay.moving.postfix_others import not_taken_over, suggestions
from relay.moving.postfix_rows import Rows
from relay.moving.postfix_servers import NextHop, Servers, login_in
from relay.moving.postfix_settings import PostfixSettings, TableSource

_CANONICAL = ("sender_canonical_maps", "canonical_maps")
_TRANSPORTS = frozenset({"smtp", "relay"})


def read_postfix(text: str, file: str, source: TableSource, hostname: str) -> Found:
    """Return what a main.cf and the tables that it names say. `hostname` is this machine's name."""
    settings = PostfixSettings(text, file, source, defaults(file, hostname))
    return _Reading(settings).found()


def defaults(file: str, hostname: str) -> Mapping[str, str]:
    """Return the values of settings that nobody wrote, as far as others refer to them or Relay asks for them."""
    return {
        "config_directory": file.rpartition("/")[0] or ".",
        "default_database_type": "hash",
        "myhostname": hostname,
        "mydomain": hostname.partition(".")[2] or "localdomain",
        "myorigin": "$myhostname",
        "smtp_sasl_security_options": "noplaintext, noanonymous",
    }


class _Reading:
    def __init__(self, settings: PostfixSettings) -> None:
        self._settings = settings
        self._servers = Servers(settings)
        # The null sender's row: Relay's reports leave by the route of whom they are about.
        self._hosts = settings.rows("sender_dependent_relayhost_maps")
        self._transports = settings.rows("sender_dependent_default_transport_maps")
        self._generic = settings.rows("smtp_generic_maps")
        has_logins = settings.flag("smtp_sasl_auth_enable")
        by_sender = has_logins and settings.flag("smtp_sender_dependent_authentication")
        self._passwords = settings.rows("smtp_sasl_password_maps") if by_sender else Rows({})

    def found(self) -> Found:
        relayhost = self._settings.text("relayhost")
        default = self._servers.next_hop(relayhost, self._settings.place("relayhost")) if relayhost else None
        found = (self._sender(address, place, default) for address, place in self._addresses(default))
        senders = tuple(sender for sender in found if sender is not None)
        servers = self._servers.all()
        not_taken_over(self._settings)
        suggested = tuple(suggestions(self._settings, servers[default.key] if default else None))
        return Found(servers, senders, default.key if default else None, self._settings.notes, suggested)

    def _addresses(self, default: NextHop | None) -> Iterator[tuple[str, Place]]:
        """Yield each address or "@domain" with a row of its own, exact ones first, with that of relayhost's account."""
        tables = [self._hosts, self._transports, self._generic, *map(self._settings.rows, _CANONICAL)]
        rows = [row for table in tables for row in table.senders()]
        rows += [row for row in self._passwords.senders() if "@" in row[1].key]
        account = self._servers.account(default) if default else None
        if account and address_key(account[0].username):
            rows.append((account[0].username.lower(), Entry("@", "", account[1])))
        seen: set[str] = set()
        for address, entry in sorted(rows, key=lambda row: row[0].startswith("@")):
            if address in seen or entry.key == "<>":
                continue
            seen.add(address)
            if not address_key(address):
                self._settings.note(entry.place, f"{address!r} is no sender's address that Relay could send as")
                continue
            yield address, entry.place

    def _sender(self, address: str, place: Place, default: NextHop | None) -> FoundSender | None:
        came = self._rewritten(
            self._rewritten(address, self._settings.rows(_CANONICAL[0])), self._settings.rows(_CANONICAL[1])
        )
        hop = self._next_hop(came) or default
        if hop is None:
            self._settings.note(
                place, f"{address}: Postfix delivers its mail by DNS itself, and Relay needs a server for it"
            )
            return None
        leaves_as = self._rewritten(came, self._generic)
        if not address_key(leaves_as):
            self._settings.note(place, f"{address}: what it is rewritten to, {leaves_as!r}, is no address")
            return None
        login = self._login(came, hop)
        if login is not None:
            self._servers.needs_login(hop)
        return FoundSender(address, hop.key, leaves_as, place, login)

    def _rewritten(self, address: str, rows: Rows) -> str:
        entry = rows.of(address)
        if entry is None:
            return address
        if entry.value.startswith("@"):
            return address.rpartition("@")[0] + entry.value.lower()
        value = entry.value if "@" in entry.value else f"{entry.value}@{self._settings.origin}"
        return value.lower()

    def _next_hop(self, address: str) -> NextHop | None:
        entry = self._transports.of(address)
        if entry is not None:
            transport, _, destination = entry.value.partition(":")
            if transport not in _TRANSPORTS:
                self._settings.note(
                    entry.place, f"the transport {transport!r} is not taken over; only smtp and relay are"
                )
            elif destination:
                return self._servers.next_hop(destination, entry.place)
        return self._by_host(self._hosts.of(address))

    def _by_host(self, entry: Entry | None) -> NextHop | None:
        if entry is None or entry.value.upper() == "DUNNO":
            return None
        return self._servers.next_hop(entry.value, entry.place)

    def _login(self, address: str, hop: NextHop) -> Login | None:
        entry = self._passwords.of(address)
        if entry is not None:
            return login_in(entry.value)
        account = self._servers.account(hop)
        return account[0] if account else None
