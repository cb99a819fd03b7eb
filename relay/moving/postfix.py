"""What the files of Postfix say: servers and senders with their accounts, settings for relay.toml, and the rest. Pure.

Postfix rewrites a sender when mail comes in (canonical(5)), chooses the server by the result, and rewrites once more
when mail leaves (generic(5)). Each sender that has a row of its own in any of these tables is followed that way. A next
hop ("[smtp.example.org]:587") becomes a server, with its TLS and its own account. Last come the settings that are
neither a server nor a sender: suggestions for relay.toml, and what is not taken over, each with the reason.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relay.directory.model import Security
from relay.directory.rules.servers import host_faults, is_loopback
from relay.moving.found import SYSTEM_BUNDLES, Found, FoundSender, FoundServer, Login, Place, Suggestion, address_key
from relay.moving.postfix_settings import Entry, LookupTable, PostfixSettings, TableSource

# RFC 6335: the names of these ports in /etc/services.
_PORTS: Mapping[str, int] = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465, "ssmtp": 465, "urd": 465}
_NEXT_HOP = re.compile(r"(?:\[(?:ipv6:)?([^\]\s]+)\]|([^\[\]:\s]+))(?::([0-9A-Za-z-]+))?", re.IGNORECASE)
_MECHANISMS: Mapping[str, str] = {
    "plain": "plain",
    "login": "login",
    "cram-md5": "cram-md5",
    "scram-sha-256": "scram-sha-256",
}
_UNCHECKED = "Postfix checks no certificate at this level, Relay does; where it does not hold, set verify_tls=false"
_CANONICAL = ("sender_canonical_maps", "canonical_maps")
_TRANSPORTS = frozenset({"smtp", "relay"})


@dataclass(frozen=True, slots=True)
class NextHop:
    """A next hop, as it is written and as it is meant."""

    text: str
    host: str
    port: int

    @property
    def key(self) -> str:
        """What names its server."""
        return f"{self.host}:{self.port}"


class Servers:
    """The servers of the next hops that were asked for, in that order."""

    def __init__(self, settings: PostfixSettings) -> None:
        self._settings = settings
        self._hops: dict[str, tuple[NextHop, Place]] = {}
        self._with_login: set[str] = set()

    def next_hop(self, text: str, place: Place) -> NextHop | None:
        """Return a next hop, noted as one whose server is wanted; None for what is none, which is noted."""
        first, *others = [item.strip() for item in text.split(",")]
        if others:
            what = f"only the first of these is taken over, {first}"
            self._settings.note(place, f"{what}; add the next as a server of its own, and name it as its backup")
        match = _NEXT_HOP.fullmatch(first)
        port = _port(match[3]) if match else None
        host = (match[1] or match[2]).lower() if match else ""
        if port is None or next(iter(host_faults(host)), None):
            self._settings.note(
                place, f"{first!r} is not a host with a port that Relay could connect to; add it by hand"
            )
            return None
        if match and match[2]:
            self._settings.note(
                place,
                f"without brackets Postfix asks DNS for the mail servers of {host}; Relay connects to {host} itself",
            )
        hop = NextHop(first, host, port)
        self._hops.setdefault(hop.key, (hop, place))
        return hop

    def needs_login(self, hop: NextHop) -> None:
        """Take note that somebody logs in there."""
        self._with_login.add(hop.key)

    def account(self, hop: NextHop) -> tuple[Login, Place] | None:
        """Return the login for everybody at a next hop: the row of its host, or of the next hop as it is written."""
        if not self._settings.flag("smtp_sasl_auth_enable"):
            return None
        rows = self._settings.rows("smtp_sasl_password_maps")
        entry = rows.get(hop.host) or rows.get(hop.text)
        return (login_in(entry.value), entry.place) if entry else None

    def all(self) -> dict[str, FoundServer]:
        """Return the servers by the keys of their next hops."""
        return {key: self._server(hop, place) for key, (hop, place) in self._hops.items()}

    def _server(self, hop: NextHop, place: Place) -> FoundServer:
        account = self.account(hop)
        security = self._security(hop)
        keys: dict[str, Any] = {"security": security.value}
        bundle = self._settings.text("smtp_tls_CAfile")
        if bundle and bundle not in SYSTEM_BUNDLES and security is not Security.NONE:
            keys["ca_file"] = bundle
        if account or hop.key in self._with_login:
            keys |= self._auth(hop, security)
        else:
            keys["auth"] = "none"
        return FoundServer(hop.host, hop.port, keys | self._limits(), place, account[0] if account else None)

    def _security(self, hop: NextHop) -> Security:
        level, place = self._level(hop)
        if level in {"may", "encrypt", "fingerprint", "dane", "dane-only"}:
            self._settings.note(place, f"level {level}: {_UNCHECKED}")
        if self._settings.flag("smtp_tls_wrappermode"):
            return Security.TLS
        if level == "may":
            self._settings.note(place, "level may: Postfix encrypts where it can, Relay always; security=none does not")
        return Security.NONE if level in {"", "none"} else Security.STARTTLS

    def _level(self, hop: NextHop) -> tuple[str, Place]:
        """Return the TLS level for a next hop, and where that is said: in a policy table, or in main.cf."""
        policies = self._settings.rows("smtp_tls_policy_maps")
        entry = policies.get(hop.text) or policies.get(hop.host)
        if entry is not None:
            level, *attributes = entry.value.split()
            if attributes:
                self._settings.note(entry.place, f"of this policy only the level is taken over, not {attributes[0]}")
            return level.lower(), entry.place
        if level := self._settings.text("smtp_tls_security_level").lower():
            return level, self._settings.place("smtp_tls_security_level")
        for name, meant in (("smtp_enforce_tls", "encrypt"), ("smtp_use_tls", "may")):
            if self._settings.flag(name):
                return meant, self._settings.place(name)
        return "", self._settings.place("smtp_tls_security_level")

    def _auth(self, hop: NextHop, security: Security) -> dict[str, Any]:
        wanted = [item.lower() for item in self._settings.items("smtp_sasl_mechanism_filter")]
        known = [_MECHANISMS[item] for item in wanted if item in _MECHANISMS]
        if wanted and not known:
            place = self._settings.place("smtp_sasl_mechanism_filter")
            self._settings.note(place, f"Relay chooses by what the server offers, and not by {', '.join(wanted)}")
        keys: dict[str, Any] = {"auth": known[0]} if len(known) == 1 and len(wanted) == 1 else {}
        if security is Security.NONE and not is_loopback(hop.host):
            place = self._settings.place("smtp_sasl_password_maps")
            if "noplaintext" in self._settings.items("smtp_sasl_security_options"):
                self._settings.note(
                    place, f"{hop.host} without TLS: only cram-md5 does not send the password in the clear"
                )
                return {"auth": "cram-md5"}
            self._settings.note(
                place, f"{hop.host} without TLS: the password goes over the network in the clear, as before"
            )
            keys["allow_plaintext_password"] = True
        return keys

    def _limits(self) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for key, names in {
            "max_connections": ("smtp_destination_concurrency_limit", "default_destination_concurrency_limit"),
            "recipients_per_message": ("smtp_destination_recipient_limit", "default_destination_recipient_limit"),
        }.items():
            number = next((found for name in names if (found := self._settings.number(name)) is not None), None)
            if number:
                keys[key] = number
        delay = self._settings.text("smtp_destination_rate_delay") or self._settings.text(
            "default_destination_rate_delay"
        )
        match = re.fullmatch(r"([0-9]{1,6})(s|m)?", delay)
        if match and int(match[1]):
            keys["messages_per_minute"] = max(1, 60 // (int(match[1]) * (60 if match[2] == "m" else 1)))
        return keys


def login_in(value: str) -> Login:
    """Return the login in a row of smtp_sasl_password_maps: "user:password", the password with all its colons."""
    username, _, password = value.partition(":")
    return Login(username, password)


def _port(text: str | None) -> int | None:
    """Return a port by its number or name; 25 where none is given, None for what is none."""
    if text is None:
        return 25
    port = _PORTS.get(text.lower(), 0)
    if text.isascii() and text.isdigit() and len(text) <= 5:
        port = int(text)
    return port if 1 <= port <= 65535 else None


def read_postfix(text: str, file: str, source: TableSource, hostname: str) -> Found:
    """Return what a main.cf and the tables that it names say. `hostname` is this machine's name."""
    settings = PostfixSettings(text, file, source, defaults(file, hostname))
    return _PostfixReader(settings).found()


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


class _PostfixReader:
    def __init__(self, settings: PostfixSettings) -> None:
        self._settings = settings
        self._servers = Servers(settings)
        # The null sender's row: Relay's reports leave by the route of whom they are about.
        self._hosts = settings.rows("sender_dependent_relayhost_maps")
        self._transports = settings.rows("sender_dependent_default_transport_maps")
        self._generic = settings.rows("smtp_generic_maps")
        has_logins = settings.flag("smtp_sasl_auth_enable")
        by_sender = has_logins and settings.flag("smtp_sender_dependent_authentication")
        self._passwords = settings.rows("smtp_sasl_password_maps") if by_sender else LookupTable({})

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
                self._settings.note(entry.place, f"{address!r} is not a sender's address that Relay could send as")
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
            self._settings.note(place, f"{address}: what it is rewritten to, {leaves_as!r}, is not an address")
            return None
        login = self._login(came, hop)
        if login is not None:
            self._servers.needs_login(hop)
        return FoundSender(address, hop.key, leaves_as, place, login)

    def _rewritten(self, address: str, rows: LookupTable) -> str:
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


_HEADERS = "Relay changes headers by scripts alone (relay channel set NAME script=); write what you need of it there"
_COPIES = "Relay sends no copies of mail; let the sending program add the recipient"
_ADDRESSES = "Relay rewrites no recipients; the mail leaves to whom it was sent"
_DOMAINS = "Relay delivers no mail on this machine; all of it leaves through a server"
_NEXT = "Relay chooses the server by the sender, never by the recipient"
_CLIENT = "Relay presents no certificate of its own to a server"
_FILTER = "Relay passes mail to no filter; the server that takes it may"
_TOKENS = "Relay takes over no logins of clients; set them with relay agent password NAME --login"
_FALLBACK = "add it as a server of its own, and name it as the backup of the server that it is for"

# What changes how mail leaves, or where it goes, and is not taken over.
_NOT_TAKEN_OVER: Mapping[str, str] = {
    "transport_maps": _NEXT,
    "relay_transport": _NEXT,
    "default_transport": _NEXT,
    "smtp_fallback_relay": _FALLBACK,
    "fallback_relay": _FALLBACK,
    "recipient_canonical_maps": _ADDRESSES,
    "virtual_alias_maps": _ADDRESSES,
    "masquerade_domains": "Relay takes no part off a domain; name such senders as aliases",
    "always_bcc": _COPIES,
    "sender_bcc_maps": _COPIES,
    "recipient_bcc_maps": _COPIES,
    "header_checks": _HEADERS,
    "smtp_header_checks": _HEADERS,
    "mime_header_checks": _HEADERS,
    "body_checks": "Relay never changes a body",
    "smtp_body_checks": "Relay never changes a body",
    "content_filter": _FILTER,
    "smtpd_milters": _FILTER,
    "non_smtpd_milters": _FILTER,
    "smtpd_proxy_filter": _FILTER,
    "smtp_bind_address": "Relay leaves the address that it connects from to the system",
    "smtp_bind_address6": "Relay leaves the address that it connects from to the system",
    "smtp_tls_cert_file": _CLIENT,
    "smtp_tls_key_file": _CLIENT,
    "smtp_tls_chain_files": _CLIENT,
    "smtp_tls_CApath": "Relay reads one file of certificates: set ca_file, where the system's are not enough",
    "smtp_tls_per_site": "Relay reads no tables of Postfix 2.2; see security of the server",
    "smtpd_sender_login_maps": _TOKENS,
    "smtpd_sasl_auth_enable": _TOKENS,
    "virtual_mailbox_domains": _DOMAINS,
    "relay_domains": _DOMAINS,
}
_DURATION = re.compile(r"([0-9]{1,6})([smhdw])?")
_WEEK_DAYS = 7


def not_taken_over(settings: PostfixSettings) -> None:
    """Note each setting that is written and has no counterpart."""
    for name, reason in _NOT_TAKEN_OVER.items():
        if name in settings.parameters and settings.text(name) not in {"", "no"}:
            if name == "default_transport" and settings.text(name) == "smtp":
                continue
            settings.note(settings.place(name), f"{name}: {reason}")


def suggestions(settings: PostfixSettings, default: FoundServer | None) -> Iterator[Suggestion]:
    """Yield the keys of relay.toml that main.cf speaks of, where it does. `default` is the server of relayhost."""
    if default is not None:
        first = "" if default.identity else "; give it one first: relay server set NAME address=ADDRESS"
        why = f"any other sender, who goes through relayhost too, then leaves with the default server's address{first}"
        yield Suggestion("policy.unknown_sender", _toml("default"), why)
    if "myhostname" in settings.parameters and (name := settings.text("myhostname")):
        yield Suggestion("hostname", _toml(name), "myhostname")
    if addresses := _listeners(settings):
        yield Suggestion("listener.address", _toml(addresses[0]), _listener_words(addresses))
    networks = [_network(item) for item in settings.items("mynetworks")] if "mynetworks" in settings.parameters else []
    if not all(networks):
        message = "mynetworks: there is more in it than networks; write trusted_networks of the listener by hand"
        settings.note(settings.place("mynetworks"), message)
    elif networks:
        yield Suggestion("listener.trusted_networks", _toml(networks), "mynetworks: these may send without a login")
    for name, key in (("message_size_limit", "limits.message_size"), ("smtpd_recipient_limit", "limits.recipients")):
        if number := settings.number(name):
            yield Suggestion(key, str(number), name)
    for name, key, unit in (
        ("delay_warning_time", "delivery.warn_after", "h"),
        ("maximal_queue_lifetime", "delivery.give_up_after", "d"),
    ):
        if name in settings.parameters and (duration := _duration(settings.text(name), unit)):
            yield Suggestion(key, _toml(duration), name)
    for name, key in (("smtpd_tls_cert_file", "tls.certificate"), ("smtpd_tls_key_file", "tls.key")):
        if name in settings.parameters and (path := settings.text(name)):
            yield Suggestion(key, _toml(path), name)


def _listeners(settings: PostfixSettings) -> list[str]:
    if "inet_interfaces" not in settings.parameters:
        return []
    addresses: list[str] = []
    for item in settings.items("inet_interfaces"):
        known = {"all": ["0.0.0.0:25", "[::]:25"], "loopback-only": ["127.0.0.1:25", "[::1]:25"]}
        plain = item.strip("[]")
        addresses += known.get(item, [f"[{plain}]:25" if ":" in plain else f"{plain}:25"])
    return addresses


def _listener_words(addresses: list[str]) -> str:
    others = f"; add a [[listener]] each for {', '.join(addresses[1:])}" if addresses[1:] else ""
    return f"inet_interfaces, where clients go on to use port 25 once Postfix has stopped{others}"


def _network(item: str) -> str:
    """Return a network of mynetworks as Relay writes it; "" for a table, a file or an exception."""
    plain = re.sub(r"[\[\]]", "", item)
    return plain if re.fullmatch(r"[0-9A-Fa-f.:]+(/[0-9]{1,3})?", plain) else ""


def _duration(text: str, unit: str) -> str:
    """Return a time as relay.toml writes it; "" for none, or 0, which turns it off."""
    match = _DURATION.fullmatch(text)
    if match is None or not int(match[1]):
        return ""
    if match[2] == "w":
        return f"{int(match[1]) * _WEEK_DAYS}d"
    return f"{int(match[1])}{match[2] or unit}"


def _toml(value: str | list[str]) -> str:
    """Return a value as TOML writes it; JSON's strings are strings of TOML, too."""
    return json.dumps(value, ensure_ascii=False)
