"""The questions of a form and the columns of a list, made from the keys of a noun: how one is asked for stands in the
model (`relay.directory.tables.Asked`), what may be chosen is worded here.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal, get_origin, get_type_hints

from relay.control.entries.facts import FACTS
from relay.directory.http_apis import HTTP_APIS
from relay.directory.kinds import Entry, EntryKind
from relay.directory.model import AliasIdentity, Auth, Kind, Mode, Security
from relay.directory.tables import MACHINE_KEYS, Asked, asked_of, default_of, hint_of, is_needed, plain_type
from relay.web.kit.forms import Choice, Field, FieldType, Group
from relay.web.kit.lists import Column

_WAYS = (
    Choice("smtp", "SMTP", "By a mail server, as nearly all."),
    Choice("msgraph", "Microsoft Graph", "Microsoft 365 by HTTPS, without SMTP; needs OAuth, and no name and port."),
    Choice(
        "gmail", "Gmail API", "Gmail and Google Workspace by HTTPS, without SMTP; needs OAuth, and no name and port."
    ),
    Choice(
        "https", "Another HTTP API", "Amazon SES or Mailgun by HTTPS, without SMTP; whose it is stands under Advanced."
    ),
)
SECURITIES = (
    Choice("starttls", "STARTTLS", "Upgrades to TLS before login; port 587."),
    Choice("tls", "TLS", "Encrypted from the first byte; port 465."),
    Choice(
        "none", "None", "Everybody on the way can read and change the mail; port 25. Only for this machine or a LAN."
    ),
)
LOGINS = (
    Choice("auto", "Automatic", "The best that the server offers, in one attempt."),
    Choice("plain", "PLAIN", "Gives the server the password as it is; encryption alone protects it on the way."),
    Choice("login", "LOGIN", "As PLAIN, in an older form that some servers want."),
    Choice("cram-md5", "CRAM-MD5", "Proves the password without sending it; the server has to keep it readable."),
    Choice(
        "scram-sha-256", "SCRAM-SHA-256", "Proves the password without giving it away to anybody, the server included."
    ),
    Choice(
        "oauth2", "OAuth 2", "No password at all: a token that the provider gave, for mail alone, and can take back."
    ),
    Choice("none", "No login", "The server knows this machine by its address."),
)
_MODES = (
    Choice("", "As the settings say"),
    Choice("auto", "Automatic", "Hands over while the client waits, and keeps what cannot leave now."),
    Choice("direct", "Direct", "Never keeps a message: the client has the server's own answer."),
    Choice("queued", "Queued", "Keeps every message first, and the client waits for nobody."),
)
_ALIAS_IDENTITIES = (
    Choice("rewrite", "The main address"),
    Choice("keep", "The alias itself", "Needs the override."),
)
# What may be chosen, by the type of a key, or by the key itself.
_CHOICES: Mapping[Any, Sequence[Choice]] = MappingProxyType(
    {
        Kind: _WAYS,
        Security: SECURITIES,
        Auth: LOGINS,
        Mode: _MODES,
        AliasIdentity: _ALIAS_IDENTITIES,
        "api": (Choice("", "None"), *(Choice(name, api.title) for name, api in HTTP_APIS.items())),
        "oauth.provider": (
            Choice("microsoft", "Microsoft"),
            Choice("google", "Google"),
            Choice("custom", "Another one"),
        ),
        "oauth.flow": (
            Choice("code", "In the browser", "A person allows it on the provider's page."),
            Choice("device", "At another device", "A person enters a code on the provider's page."),
            Choice(
                "client_credentials",
                "As the application itself",
                "Nobody has to allow it; the client secret is enough.",
            ),
        ),
        "incoming.protocol": (
            Choice("imap", "IMAP"),
            Choice("pop3", "POP3", "Sees the inbox alone, not the junk folder."),
            Choice("api", "The API of the outgoing server", "Microsoft Graph and Gmail API, with OAuth 2."),
        ),
        "incoming.auth": (
            Choice("password", "Password"),
            Choice("oauth2", "OAuth 2", "By the token of the account that sends."),
        ),
        "incoming.security": (Choice("tls", "TLS"), Choice("starttls", "STARTTLS"), Choice("none", "None")),
    }
)
_EXACT: Mapping[str, str] = MappingProxyType({"autocapitalize": "none", "spellcheck": "false"})


def groups_for(kind: EntryKind[Entry], special: Mapping[str, Field | None]) -> tuple[Group, ...]:
    """Return the groups of a noun's form. `special` are the fields that are asked for in another way, or not now."""
    made = []
    for group in kind.form:
        asked = (special[key] if key in special else key_field(kind, key) for key in group.keys)
        fields = tuple(one for one in asked if one is not None)
        made.append(Group(group.title, fields, group.intro, group.is_folded, group.opens_with))
    return tuple(made)


def key_field(kind: EntryKind[Entry], key: str) -> Field:
    """Return the field that asks for a key of a noun, "incoming.host" for one of a table inside."""
    asked = asked_of(kind.model, key)
    assert asked is not None, f"{kind.word}: the model does not say how a form asks for {key}"
    hint = plain_type(hint_of(kind.model, key))
    is_machine = key.rpartition(".")[2] in MACHINE_KEYS
    choices = _CHOICES.get(key) or _CHOICES.get(hint) or ()
    default = default_of(kind.model, key) or (choices[0].value if choices else None)
    return Field(
        key=key,
        label=asked.label,
        kind="select" if choices else _field_type(key, hint),
        hint="" if is_machine else asked.hint,
        off=asked.hint if is_machine else "",
        is_required=is_needed(kind.model, key) or key in kind.needed,
        choices=choices,
        placeholder=asked.placeholder,
        attributes={**_EXACT, **({"inputmode": "url"} if key.endswith("_url") else {})} if asked.is_exact else {},
        start="true" if default is True else str(default) if isinstance(default, str | int) and default else "",
    )


def columns_for(kind: EntryKind[Entry], *, optional: Sequence[str] = (), can_sort: bool = True) -> tuple[Column, ...]:
    """Return the columns of a noun's list. `optional` are those that people may leave out."""
    return tuple(Column(key, _head(kind, key), key in optional, can_sort) for key in kind.columns)


def _head(kind: EntryKind[Entry], key: str) -> str:
    facts = FACTS[kind.word]
    asked = asked_of(facts if key in get_type_hints(facts) else kind.model, key)
    return asked.head if isinstance(asked, Asked) else key.capitalize()


def _field_type(key: str, hint: Any) -> FieldType:
    if key == "address":
        return "email"
    if hint is bool:
        return "check"
    if hint is int:
        return "number"
    if get_origin(hint) is tuple:
        return "lines"
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping):
        return "headers"
    is_choice = get_origin(hint) is Literal or (isinstance(hint, type) and issubclass(hint, Enum))
    return "select" if is_choice else "text"
