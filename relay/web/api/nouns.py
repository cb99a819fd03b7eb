"""The entries of the directory in the API: what each noun's bodies are, with examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from relay.directory.model import Agent, Application, Channel, Script, Server
from relay.directory.values import Editable
from relay.web.api.bodies import VERSION, Body, example_of, name_of
from relay.web.api.models import given_model, record_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """One kind of entry. `word` begins its operations, `path` its addresses; `name` is the type of a name in these."""

    word: str
    article: str
    path: str
    title: str
    name: Any
    record: type[Body]
    new: type[Body]
    changes: type[Body]

    @property
    def tag(self) -> str:
        """The word for several: "agents"."""
        return f"{self.word}s"

    @property
    def one(self) -> str:
        """The word with its article: "an agent"."""
        return f"{self.article} {self.word}"


class LastTest(Body):
    """The last test of an entry since the relay started."""

    at: str = Field(examples=["2026-11-24T10:05:00Z"])
    ok: bool = Field(examples=[True])
    step: str = Field(description="The step that failed, or the last one.", examples=["message"])
    detail: str = Field(description="The server's words, or ours.", examples=["sent: 250 2.0.0 OK"])
    current: bool = Field(description="Whether the entry is still what was tested.", examples=[True])


class Named(Body):
    """A channel or agent that names a script."""

    kind: Literal["channel", "agent"] = Field(examples=["channel"])
    name: str = Field(examples=["support"])


_PROFILE: Mapping[str, Any] = MappingProxyType(
    {
        "resolved_server": str | None,
        "password_set": bool,
        "password_for_another": bool,
        "password_needed": bool,
        "login_set": bool,
        "last_test": LastTest | None,
        "follows": list[str],
    }
)
_INCOMING = {
    "host": "imap.gmail.com",
    "protocol": "imap",
    "security": "tls",
    "port": 993,
    "username": "support@acmejets.example",
    "watch_bounces": True,
}


def _noun(
    word: str, model: Editable, more: Mapping[str, Any], added: Mapping[str, Any], record: Mapping[str, Any]
) -> Noun:
    """Return a noun. `added` is the example of what is given to add one, `record` of what its record has beside."""
    title = word.capitalize()
    values = {key: value for key, value in added.items() if key != "name"}
    return Noun(
        word=word,
        article="an" if word[0] in "aeiou" else "a",
        path=f"/{word}s",
        title=title,
        name=name_of(added["name"]),
        record=record_model(title, model, more, {**added, **record, "version": VERSION}),
        new=given_model(f"New{title}", model, is_change=False, example=added),
        changes=given_model(f"{title}Changes", model, is_change=True, example=values),
    )


SERVERS = _noun(
    "server",
    Server,
    {
        "port": int,
        "message_size": int,
        "default": bool,
        "used_by_channels": int,
        "used_by_agents": int,
        "state": Literal["ok", "slowed", "held"],
        "held_since": str | None,
        "accounts_held": int,
        "password_set": bool,
        "password_for_another": bool,
        "client_secret_set": bool,
        "last_test": LastTest | None,
        "follows": list[str],
    },
    {
        "name": "acmejets",
        "host": "smtp.gmail.com",
        "security": "starttls",
        "auth": "plain",
        "username": "mailer@acmejets.example",
    },
    {
        "port": 587,
        "address": "mailer@acmejets.example",
        "default": True,
        "internal": False,
        "used_by_channels": 3,
        "used_by_agents": 120,
        "state": "ok",
        "held_since": None,
        "accounts_held": 0,
        "password_set": True,
        "password_for_another": False,
        "client_secret_set": False,
        "last_test": example_of(LastTest),
        "follows": ["port", "address"],
        "verify_tls": True,
        "ca_file": "",
        "allow_plaintext_password": False,
        "null_sender": True,
        "chunking": False,
        "max_connections": 4,
        "max_messages_per_connection": 100,
        "recipients_per_message": 0,
        "message_size": 0,
        "messages_per_minute": 0,
        "recipients_per_day": 0,
        "shared_limits": False,
        "answers": [],
        "oauth": None,
        "incoming": None,
        "password_from": "",
    },
)
_SENDING: Mapping[str, Any] = MappingProxyType(
    {
        "aliases": [],
        "server": None,
        "resolved_server": "acmejets",
        "password_set": True,
        "password_for_another": False,
        "password_needed": True,
        "login_set": True,
        "last_test": None,
        "follows": [],
        "alias_identity": "rewrite",
        "script": None,
        "mode": None,
        "incoming": None,
        "password_from": "",
    }
)
CHANNELS = _noun(
    "channel",
    Channel,
    _PROFILE,
    {
        "name": "support",
        "address": "support@acmejets.example",
        "override": True,
        "username": "support@acmejets.example",
        "incoming": _INCOMING,
    },
    {**_SENDING, "incoming": {**_INCOMING, "ca_file": "", "password_from": ""}},
)
AGENTS = _noun(
    "agent",
    Agent,
    _PROFILE,
    {
        "name": "jane",
        "address": "jane@acmejets.example",
        "override": True,
        "username": "jane@acmejets.example",
        "full_name": "Jane Doe",
        "group": "sales",
        "role": "agent",
        "country": "NL",
        "language": "en",
        "may_send_as": ["support"],
    },
    _SENDING,
)
APPLICATIONS = _noun(
    "application",
    Application,
    {"login_set": bool},
    {"name": "contact-center", "may_send_as": ["support", "group:sales"], "bounces": "support"},
    {"login_set": True},
)
SCRIPTS = _noun(
    "script",
    Script,
    {"used_by_channels": int, "used_by_agents": int, "named_by": list[Named]},
    {"name": "default", "set_headers": {"Organization": "Acme Jets"}, "remove_headers": ["X-Originating-IP"]},
    {"used_by_channels": 3, "used_by_agents": 0, "named_by": [{"kind": "channel", "name": "support"}]},
)
NOUNS = (SERVERS, CHANNELS, AGENTS, APPLICATIONS, SCRIPTS)
