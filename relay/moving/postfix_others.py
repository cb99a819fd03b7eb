"""Settings of Postfix that are no servers or senders: what goes to relay.toml, and what is not taken over. Pure."""

import json
import re
from collections.abc import Iterator, Mapping

from relay.moving.found import FoundServer, Suggestion
from relay.moving.postfix_settings import PostfixSettings

_HEADERS = "Relay changes headers by scripts alone (relay channel set NAME script=); write what you need of it there"
_COPIES = "Relay sends no copies of mail; let the sending program add the recipient"
_ADDRESSES = "Relay rewrites no recipients; the mail leaves to whom it was sent"
_DOMAINS = "Relay delivers no mail on this machine; all of it leaves through a server"
_NEXT = "Relay chooses the server by the sender, never by the recipient"
_CLIENT = "Relay presents no certificate of its own to a server"
_FILTER = "Relay passes mail to no filter; the server that takes it may"
_TOKENS = "Relay takes over no logins of clients; set them with relay agent password NAME --login"

# What changes how mail leaves, or where it goes, and has no counterpart.
_NOT_TAKEN_OVER: Mapping[str, str] = {
    "transport_maps": _NEXT,
    "relay_transport": _NEXT,
    "default_transport": _NEXT,
    "smtp_fallback_relay": "Relay has no second server; what its server does not take waits and is tried again",
    "fallback_relay": "Relay has no second server; what its server does not take waits and is tried again",
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
