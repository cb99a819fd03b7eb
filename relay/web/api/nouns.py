"""The nouns of the directory in the API: what the bodies of each are, with examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.directory.kinds import AGENT, APPLICATION, CHANNEL, SCRIPT, SERVER, Entry, EntryKind
from relay.web.api.bodies import Body, example_of, name_of
from relay.web.api.models import LastTest, given_model, record_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """One noun. `name` is the type of a name in its addresses; the others are the types of its bodies."""

    kind: EntryKind[Entry]
    name: Any
    record: type[Body]
    new: type[Body]
    changes: type[Body]

    @property
    def word(self) -> str:
        """The word that begins its operations."""
        return self.kind.word

    @property
    def one(self) -> str:
        """The word with its article: "an agent"."""
        return self.kind.one

    @property
    def title(self) -> str:
        """How the names of its bodies begin."""
        return self.kind.word.capitalize()

    @property
    def tag(self) -> str:
        """The word for several: "agents"."""
        return self.kind.table

    @property
    def path(self) -> str:
        """How its addresses begin."""
        return f"/{self.kind.table}"


def _noun(kind: EntryKind[Entry], added: Mapping[str, Any], facts: Mapping[str, Any]) -> Noun:
    """Return a noun. `added` is the example of what is given to add one, `facts` of what its record has beside."""
    title = kind.word.capitalize()
    values = {key: value for key, value in added.items() if key != "name"}
    return Noun(
        kind=kind,
        name=name_of(added["name"]),
        record=record_model(kind, {**added, **facts}),
        new=given_model(f"New{title}", kind, is_change=False, example=added),
        changes=given_model(f"{title}Changes", kind, is_change=True, example=values),
    )


_INCOMING = {
    "host": "imap.gmail.com",
    "protocol": "imap",
    "security": "tls",
    "port": 993,
    "auth": "password",
    "username": "support@acmejets.example",
    "watch_bounces": True,
}


SERVERS = _noun(
    SERVER,
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
        "used_by_channels": 3,
        "used_by_agents": 120,
        "state": "ok",
        "held_since": None,
        "taken_over_by": None,
        "accounts_held": 0,
        "password_set": True,
        "password_for_another": False,
        "client_secret_set": False,
        "last_test": example_of(LastTest),
        "follows": ["port", "address"],
    },
)
_PROFILE: Mapping[str, Any] = {
    "resolved_server": "acmejets",
    "password_set": True,
    "password_for_another": False,
    "password_needed": True,
    "login_set": True,
    "last_test": None,
    "follows": [],
}
CHANNELS = _noun(
    CHANNEL,
    {
        "name": "support",
        "address": "support@acmejets.example",
        "override": True,
        "username": "support@acmejets.example",
        "incoming": _INCOMING,
    },
    _PROFILE,
)
AGENTS = _noun(
    AGENT,
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
    _PROFILE,
)
APPLICATIONS = _noun(
    APPLICATION,
    {"name": "contact-center", "may_send_as": ["support", "group:sales"], "bounces": "support"},
    {"login_set": True},
)
SCRIPTS = _noun(
    SCRIPT,
    {"name": "default", "set_headers": {"Organization": "Acme Jets"}, "remove_headers": ["X-Originating-IP"]},
    {"used_by_channels": 3, "used_by_agents": 0, "named_by": [{"kind": "channel", "name": "support"}]},
)
NOUNS = (SERVERS, CHANNELS, AGENTS, APPLICATIONS, SCRIPTS)
