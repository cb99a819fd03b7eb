"""`[[webhook]]` and `[[alert]]` of relay.toml: programs that are told what becomes of messages, and who of troubles."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from relay.config.schema import After

_CONFIG: Mapping[str, Any] = MappingProxyType({"extra": "forbid"})

MessageEvent: TypeAlias = Literal[
    "queued", "delivered", "deferred", "unknown", "held", "released", "failed", "removed", "returned"
]
"""What can be told of a message (docs/webhooks.md)."""


def _hook_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.fragment or parts.username is not None or not text.isascii() or " " in text:
        raise ValueError(
            "this is not an address of a webhook; write https://HOST/PATH without a name or password in it"
        )
    return text


def _secret_source(text: str) -> str:
    kind, _, rest = text.partition(":")
    if kind not in {"file", "credential", "env", "command"} or not rest.strip():
        raise ValueError(
            "this names no source for the secret; write env:NAME, file:PATH, credential:NAME or command:LINE"
        )
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """`[[webhook]]`: a program that is told what becomes of messages, signed and at least once. None by default."""

    __pydantic_config__: ClassVar = _CONFIG

    url: Annotated[str, "Where events are posted: https://HOST/PATH.", After(_hook_url)]
    secret_from: Annotated[
        str,
        "The secret that signs them, whsec_ and base64: env:NAME, file:PATH, credential:NAME or command:LINE.",
        After(_secret_source),
    ]
    events: Annotated[
        tuple[MessageEvent, ...],
        "Which events: queued, delivered, deferred, unknown, held, released, failed, removed, returned.",
    ] = ("delivered", "deferred", "failed", "returned", "held")
    profiles: Annotated[tuple[str, ...], 'Of whose messages: names of channels and agents, or "*" for all.'] = ("*",)

    @property
    def place(self) -> str:
        """The URL as people may see it: what stands behind a question mark may be a secret."""
        return self.url.partition("?")[0]


AlertKind: TypeAlias = Literal[
    "account-held", "server-unreached", "queue-old", "token-expires", "certificate-expires", "disk-low", "self-check"
]
"""What somebody can be told of (docs/alerts.md)."""

_MAILTO = "mailto:"
_ADDRESS = re.compile(r"[^\s@<>\"(),:;?%]+@[^\s@<>\"(),:;?%]+")


def _alert_to(text: str) -> str:
    if text.startswith(_MAILTO):
        if not _ADDRESS.fullmatch(text.removeprefix(_MAILTO)):
            raise ValueError(f"{text!r} is no address; write mailto:ops@acmejets.example")
        return text
    try:
        return _hook_url(text)
    except ValueError:
        raise ValueError("this is nobody who can be told; write mailto:ADDRESS or https://HOST/PATH") from None


def _secret_source_or_empty(text: str) -> str:
    return _secret_source(text) if text else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """`[[alert]]`: who is told when something needs a person. None by default, as many as wanted."""

    __pydantic_config__: ClassVar = _CONFIG

    to: Annotated[str, "Who: mailto:ADDRESS, by the default server, or https://HOST/PATH, a webhook.", After(_alert_to)]
    on: Annotated[
        tuple[AlertKind, ...],
        "Of what: account-held, server-unreached, queue-old, token-expires, certificate-expires, disk-low, self-check.",
    ] = ("account-held", "server-unreached", "queue-old", "token-expires", "certificate-expires", "disk-low")
    secret_from: Annotated[
        str, "The secret that signs what goes to https://, as that of a webhook.", After(_secret_source_or_empty)
    ] = ""

    @property
    def address(self) -> str:
        """The address of a person; "" where it is a webhook."""
        return self.to.removeprefix(_MAILTO) if self.to.startswith(_MAILTO) else ""

    @property
    def place(self) -> str:
        """Who it is as people may see it: what stands behind a question mark may be a secret."""
        return self.to.partition("?")[0]


def unfit_alerts(alerts: Sequence[Alert]) -> Iterator[tuple[str, str]]:
    """Yield (key, sentence) for each alert that repeats another one, or lacks its secret."""
    known: dict[str, int] = {}
    for number, alert in enumerate(alerts, 1):
        if alert.to in known:
            yield f"alert #{number}.to", f"alert #{known[alert.to]} tells the same already; put the two together"
        known.setdefault(alert.to, number)
        if not alert.address and not alert.secret_from:
            yield f"alert #{number}.secret_from", "what goes to a webhook is signed; name its secret, such as env:NAME"


def repeated_webhooks(webhooks: Sequence[Webhook]) -> Iterator[tuple[str, str]]:
    """Yield (key, sentence) for each webhook whose URL another one has: what is still owed is kept by the URL."""
    known: dict[str, int] = {}
    for number, webhook in enumerate(webhooks, 1):
        if webhook.url in known:
            yield (
                f"webhook #{number}.url",
                f"webhook #{known[webhook.url]} has this address already; put the two together",
            )
        known.setdefault(webhook.url, number)
