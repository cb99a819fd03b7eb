"""Who sends by which server and account, by a msmtprc (msmtp(1)). Pure.

msmtp takes the account that it is told to, or the one whose `from` is the sender; Relay always goes by the sender. So
each account with a `from` is a sender here, and the account `default` gives the default server.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from relay.directory.rules.servers import host_faults, is_loopback
from relay.moving.found import (
    SYSTEM_BUNDLES,
    CannotRead,
    Found,
    FoundSender,
    FoundServer,
    Login,
    Note,
    Place,
    address_key,
)

_BLANKS = re.compile(r"[ \t]+")
# Older names of the same thing.
_OTHER_NAMES: Mapping[str, tuple[str, str]] = {
    "tls_nocertcheck": ("tls_certcheck", "off"),
    "tls_nostarttls": ("tls_starttls", "off"),
}
_MECHANISMS = frozenset({"plain", "login", "cram-md5", "scram-sha-256"})
_TOKENS = frozenset({"oauthbearer", "xoauth2"})
_NOT_TAKEN_OVER: Mapping[str, str] = {
    "aliases": "Relay rewrites no recipients; let the sending program name the whole addresses",
    "tls_fingerprint": "Relay goes by the names in certificates: set ca_file, or verify_tls=false",
    "tls_crl_file": "Relay reads no lists of revoked certificates",
    "tls_cert_file": "Relay presents no certificate of its own to a server",
    "tls_key_file": "Relay presents no certificate of its own to a server",
    "tls_host_override": "Relay checks certificates against the host that it connects to; set that name as host",
    "tls_min_dh_prime_bits": "Relay leaves this to the system's TLS library",
    "tls_priorities": "Relay leaves this to the system's TLS library",
    "proxy_host": "Relay connects to servers by itself, through no proxy",
    "source_ip": "Relay leaves the address that it connects from to the system",
    "socket": "Relay connects by TCP alone",
    "allow_from_override": "Relay decides by the sender, which no client changes afterwards",
    "undisclosed_recipients": "Relay leaves To and Cc as they came",
    "dsn_notify": "the sending program asks for reports itself (relay-sendmail -N)",
    "dsn_return": "the sending program asks for reports itself (relay-sendmail -R)",
    "ntlmdomain": "Relay does not log in by NTLM",
    "maildomain": "the sending program names whole addresses",
}
# What is taken over, and what Relay does by itself or leaves to its own settings.
_KNOWN = frozenset(
    [
        "host",
        "port",
        "protocol",
        "tls",
        "tls_starttls",
        "tls_trust_file",
        "tls_certcheck",
        "auth",
        "user",
        "password",
        "passwordeval",
        "from",
        "domain",
        "timeout",
        "connect_timeout",
        "logfile",
        "logfile_time_format",
        "syslog",
        "set_from_header",
        "set_date_header",
        "set_msgid_header",
        "keepbcc",
        "remove_bcc_headers",
        "add_missing_from_header",
        "add_missing_date_header",
        "auto_from",
    ]
)
# In a shell these mean something; a password's command has none in Relay, so that these are given one.
_FOR_A_SHELL = re.compile(r"[|&;<>()$`*?#~=%\[\]{}!\n]")
# Its name is not repeated: it may be half a password that slipped into a line of its own.
_UNKNOWN = "Relay does not know this command of msmtp; see whether it is needed"
_NO_FROM = "it has no from, so that Relay has no sender to know it by; add a channel for it"
_BY_OAUTH = "it logs in by OAuth: set auth=oauth2 and oauth.provider of the server, then relay channel authorize"
_ELSEWHERE = "its password is in a key ring, in .netrc or in nobody's file; set it with relay channel password"
_AS_RELAY = "this command runs as the user of the service from now on, without a terminal; see that it may"
_FROM_HEADER = "set_from_header off: Relay always makes From the address that the mail leaves with"


@dataclass(frozen=True, slots=True)
class Setting:
    """What one line sets. It may be a password: a sentence never shows it."""

    value: str = field(repr=False)
    place: Place


@dataclass(slots=True)
class MsmtpAccount:
    """An account: `own` is what its lines and those of the accounts that it names say, `defaults` the rest."""

    name: str
    place: Place
    defaults: Mapping[str, Setting]
    own: dict[str, Setting] = field(default_factory=dict)
    parents: tuple[str, ...] = ()

    def setting(self, name: str) -> Setting | None:
        """Return what counts for this account."""
        return self.own.get(name) or self.defaults.get(name)

    def text(self, name: str, default: str = "") -> str:
        """Return the value that counts, or the default."""
        found = self.setting(name)
        return found.value if found else default

    def is_on(self, name: str, *, default: bool) -> bool:
        """Whether a switch is on. One without a word is."""
        found = self.setting(name)
        return default if found is None else found.value.lower() != "off"


def read_msmtprc(text: str, file: str) -> tuple[list[MsmtpAccount], list[Note]]:
    """Return the accounts in their order. Raises CannotRead where msmtp would stop, too."""
    accounts: dict[str, MsmtpAccount] = {}
    notes: list[Note] = []
    defaults: dict[str, Setting] = {}
    current: MsmtpAccount | None = None
    in_defaults = False
    for command, argument, place in _lines(text, file):
        if command == "defaults":
            current, in_defaults = None, True
        elif command == "account":
            current, in_defaults = _account(argument, place, accounts, defaults), False
        elif command == "eval":
            notes.append(Note(place, "the line that this command writes is not taken over; Relay does not run it"))
        else:
            if current is None and not in_defaults:  # msmtp takes lines in front of every account for this one
                current = _account("default", place, accounts, defaults)
            name, fixed = _OTHER_NAMES.get(command, (command, argument))
            (defaults if current is None else current.own)[name] = Setting(fixed, place)
    return list(accounts.values()), notes


def _account(
    argument: str, place: Place, accounts: dict[str, MsmtpAccount], defaults: Mapping[str, Setting]
) -> MsmtpAccount:
    """Begin an account: "name" or "name : other, other"."""
    name, _, others = argument.partition(":")
    name = name.strip()
    parents = tuple(_unquoted(other) for other in others.split(",")) if ":" in argument else ()
    if not name:
        raise CannotRead(f"{place}: an account has no name; msmtp does not read this file, either")
    if name in accounts:
        raise CannotRead(f"{place}: the account {name} is there already; msmtp does not read this file, either")
    account = MsmtpAccount(name, place, dict(defaults), parents=parents)
    for parent in parents:
        if parent not in accounts:
            raise CannotRead(f"{place}: there is no account {parent!r} above; msmtp does not read this file, either")
        account.own |= accounts[parent].own
    accounts[name] = account
    return account


def _lines(text: str, file: str) -> Iterator[tuple[str, str, Place]]:
    """Yield command, argument and place of each line that has any."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.strip(" \t\r")
        if not words or words.startswith("#"):
            continue
        command, *rest = _BLANKS.split(words, maxsplit=1)
        yield command, _unquoted(rest[0] if rest else ""), Place(file, number)


def _unquoted(text: str) -> str:
    text = text.strip(" \t")
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def read_msmtp(text: str, file: str, home: str) -> Found:
    """Return what a msmtprc says; `home` is "~" in it. Raises CannotRead where msmtp would not read it, either."""
    accounts, notes = read_msmtprc(text, file)
    reading = _AccountReader(notes, home)
    default = next((one for one in accounts if one.name == "default"), None)
    first = default and (_only_named(default, accounts) or default)
    if first is not None:
        reading.add(first, is_default=True)
    for account in accounts:
        if account is not first and not (account is default and first is not default):
            reading.add(account, is_default=False)
    return Found(reading.servers, tuple(reading.senders), reading.default, tuple(sorted(set(notes))))


def _only_named(default: MsmtpAccount, accounts: list[MsmtpAccount]) -> MsmtpAccount | None:
    """Return the account that "account default : other" is another name of; None for one with lines of its own."""
    parent = next((one for one in accounts if (one.name,) == default.parents), None)
    return parent if parent is not None and parent.own == default.own else None


class _AccountReader:
    def __init__(self, notes: list[Note], home: str) -> None:
        self.senders: list[FoundSender] = []
        self.default: str | None = None
        self._notes = notes
        self._home = home
        self.servers: dict[str, FoundServer] = {}
        self._by_address: dict[str, str] = {}

    def add(self, account: MsmtpAccount, *, is_default: bool) -> None:
        """Take an account over."""
        self._note_others(account)
        host = account.text("host").lower()
        port = _port(account)
        if account.text("protocol", "smtp") != "smtp":
            self._note(account, "protocol", f"account {account.name}: Relay speaks SMTP to servers, not LMTP")
        elif not host:
            if account.own:  # one without a line is what others are made of, or nothing
                self._notes.append(Note(account.place, f"account {account.name}: it has no host, so it sends nothing"))
        elif port is None or next(iter(host_faults(host)), None):
            wrong = "host" if port else "port"
            self._note(account, wrong, f"account {account.name}: {account.text(wrong)!r} is no {wrong}")
        else:
            self._add(account, host, port, is_default=is_default)

    def _add(self, account: MsmtpAccount, host: str, port: int, *, is_default: bool) -> None:
        login = self._login(account)
        keys = self._keys(account, host, has_login=login is not None)
        address = account.text("from")
        own = {"login": login, "address": address if address_key(address) and not _wild(address) else ""}
        key = self._server_key(host, port, keys)
        if key not in self.servers:
            place = (account.setting("host") or account).place
            mine: dict[str, Any] = own if is_default else {}
            self.servers[key] = FoundServer(host, port, keys, place, **mine)
        if is_default:
            self.default = key
        self._add_sender(account, key, login)

    def _add_sender(self, account: MsmtpAccount, server: str, login: Login | None) -> None:
        setting = account.setting("from")
        if setting is None:
            self._notes.append(Note(account.place, f"account {account.name}: {_NO_FROM}"))
            return
        address = setting.value.lower()
        if address.startswith("*@"):
            address = address[1:]
        if _wild(address) or not address_key(address):
            message = (
                f"account {account.name}: from {setting.value!r} is neither an address nor a domain as *@example.org"
            )
            self._notes.append(Note(setting.place, message))
            return
        other = self._by_address.setdefault(address_key(address), account.name)
        if other != account.name:
            message = (
                f"account {account.name}: account {other} has the same from, and Relay knows one account for an address"
            )
            self._notes.append(Note(setting.place, message))
            return
        self.senders.append(FoundSender(address, server, address, setting.place, login))

    def _server_key(self, host: str, port: int, keys: Mapping[str, Any]) -> str:
        """Return the key of the server with these keys, new or not: two accounts may speak to one host differently."""
        number = 1
        while True:
            key = f"{host}:{port}" + (f"#{number}" if number > 1 else "")
            known = self.servers.get(key)
            if known is None or known.keys == keys:
                return key
            number += 1

    def _login(self, account: MsmtpAccount) -> Login | None:
        setting = account.setting("auth")
        method = setting.value.lower() if setting else "off"
        if method == "off":
            return None
        username, password, command = (account.text(name) for name in ("user", "password", "passwordeval"))
        if method in _TOKENS:
            self._note(account, "auth", f"account {account.name}: {_BY_OAUTH}")
            return Login(username)
        if not username:
            self._note(account, "auth", f"account {account.name}: it logs in without a user; add one")
        if not password and not command:
            self._note(account, "auth", f"account {account.name}: {_ELSEWHERE}")
        if command and not password:
            self._note(account, "passwordeval", f"account {account.name}: {_AS_RELAY}")
        return Login(username, password, "" if password or not command else f"command:{_command(command)}")

    def _keys(self, account: MsmtpAccount, host: str, *, has_login: bool) -> dict[str, Any]:
        security = "none"
        if account.is_on("tls", default=False):
            security = "starttls" if account.is_on("tls_starttls", default=True) else "tls"
        keys: dict[str, Any] = {"security": security}
        trusted = account.text("tls_trust_file", "system")
        if security != "none":
            if not account.is_on("tls_certcheck", default=True):
                keys["verify_tls"] = False
            elif trusted not in SYSTEM_BUNDLES and trusted:
                keys["ca_file"] = self._home + trusted[1:] if trusted.startswith("~/") else trusted
        if not has_login:
            return {**keys, "auth": "none"}
        return keys | self._auth(account, host, is_open=security == "none" and not is_loopback(host))

    def _auth(self, account: MsmtpAccount, host: str, *, is_open: bool) -> dict[str, Any]:
        method = account.text("auth").lower()
        if method in _MECHANISMS:
            if is_open and method in {"plain", "login"}:
                self._note(
                    account, "auth", f"{host} without TLS: the password goes over the network in the clear, as before"
                )
                return {"auth": method, "allow_plaintext_password": True}
            return {"auth": method}
        if method not in {"", "on", *_TOKENS}:
            self._note(account, "auth", f"auth {method}: Relay does not know it, and chooses by what the server offers")
        if is_open:  # where msmtp is to choose, it sends no password in the clear
            return {"auth": "cram-md5"}
        return {}

    def _note_others(self, account: MsmtpAccount) -> None:
        for name, reason in _NOT_TAKEN_OVER.items():
            setting = account.setting(name)
            if setting is not None and setting.value.lower() != "off":
                self._notes.append(Note(setting.place, f"{name}: {reason}"))
        for name, setting in {**account.defaults, **account.own}.items():
            if name not in _KNOWN and name not in _NOT_TAKEN_OVER:
                self._notes.append(Note(setting.place, _UNKNOWN))
        for setting in _switched_off(account):
            self._notes.append(Note(setting.place, _FROM_HEADER))

    def _note(self, account: MsmtpAccount, name: str, message: str) -> None:
        setting = account.setting(name)
        self._notes.append(Note(setting.place if setting else account.place, message))


def _switched_off(account: MsmtpAccount) -> Iterator[Setting]:
    setting = account.setting("set_from_header")
    if setting is not None and setting.value.lower() == "off":
        yield setting


def _wild(address: str) -> bool:
    """Whether msmtp takes it for a pattern, or fills something in."""
    return any(mark in address for mark in "*?[%")


def _port(account: MsmtpAccount) -> int | None:
    """Return the port, or the one that msmtp takes by itself; None for what is none."""
    text = account.text("port")
    if not text:
        is_tls = account.is_on("tls", default=False) and not account.is_on("tls_starttls", default=True)
        return 465 if is_tls else 25
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return port if 1 <= port <= 65535 else None


def _command(line: str) -> str:
    """Return a command line for `password_from`, which has no shell: one that needs it is given one."""
    return f"sh -c {quote(line)}" if _FOR_A_SHELL.search(line) else line
