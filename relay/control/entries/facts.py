"""What the record of an entry has beside the keys of its noun: what each means, and its column."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias, TypedDict

from relay.control.tests.results import LastTestRecord
from relay.directory.tables import Asked

AccountState: TypeAlias = Literal["ok", "slowed", "held"]
_LoginSet: TypeAlias = Annotated[bool, "Whether it has a password to log in with at Relay.", Asked("Login")]
_PasswordSet: TypeAlias = Annotated[
    bool, "Whether there is a password, or a token, to log in with at the server.", Asked("Email password")
]
_ForAnother: TypeAlias = Annotated[
    bool, "Whether there is one that was set for another server or host, and is not sent there."
]
_LastTest: TypeAlias = Annotated[
    LastTestRecord | None, "The last test since the relay started; null where there was none.", Asked("Last test")
]
_Follows: TypeAlias = Annotated[list[str], "Which keys nobody has set: what they show follows from others."]
_UsedByChannels: TypeAlias = Annotated[
    int, "How many channels use it, those that follow the default included.", Asked("Used by channels")
]
_UsedByAgents: TypeAlias = Annotated[
    int, "How many agents use it, those that follow the default included.", Asked("Used by agents")
]


class ServerFacts(TypedDict):
    """Of a server."""

    default: Annotated[bool, "Whether it is the default server, through which all send that choose none."]
    used_by_channels: _UsedByChannels
    used_by_agents: _UsedByAgents
    state: Annotated[
        AccountState,
        "How its own account is: ok, slowed (the server asks for a slower pace) or held (nothing is sent).",
        Asked("State"),
    ]
    held_since: Annotated[str | None, "Since when its own account is held."]
    taken_over_by: Annotated[
        str | None, "The server that sends its mail now, because it cannot be reached; null where it does itself."
    ]
    accounts_held: Annotated[int, "How many accounts at this server are held."]
    password_set: _PasswordSet
    password_for_another: _ForAnother
    client_secret_set: Annotated[bool, "Whether the OAuth client has its secret."]
    last_test: _LastTest
    follows: _Follows


class ProfileFacts(TypedDict):
    """Of a channel or an agent."""

    resolved_server: Annotated[
        str | None,
        "The server that mail leaves through, chosen or followed; null where there is none.",
        Asked("Outgoing mail server"),
    ]
    password_set: _PasswordSet
    password_for_another: _ForAnother
    password_needed: Annotated[
        bool,
        "Whether mail leaves only with a password, or a token, of its own: it overrides, and the server asks for a "
        "login.",
    ]
    login_set: _LoginSet
    last_test: _LastTest
    follows: _Follows


class ApplicationFacts(TypedDict):
    """Of an application."""

    login_set: Annotated[bool, "Whether it has a password to log in with at Relay.", Asked("Login password")]


class NamedBy(TypedDict):
    """A channel or agent that names a script."""

    kind: Literal["channel", "agent"]
    name: str


class ScriptFacts(TypedDict):
    """Of a script."""

    used_by_channels: _UsedByChannels
    used_by_agents: _UsedByAgents
    named_by: Annotated[
        list[NamedBy], "Channels and agents that name it, at most 50; while there are any, it cannot be removed."
    ]


FACTS: Mapping[str, type] = MappingProxyType(
    {
        "server": ServerFacts,
        "channel": ProfileFacts,
        "agent": ProfileFacts,
        "application": ApplicationFacts,
        "script": ScriptFacts,
    }
)
"""The facts about the entries of each noun, by its word."""
