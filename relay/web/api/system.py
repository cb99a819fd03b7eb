"""How the relay is."""

from typing import Any, ClassVar, Literal

from fastapi import APIRouter
from pydantic import Field

from relay import __version__
from relay.control.refused import Unavailable
from relay.web.api.accounts import Authorization
from relay.web.api.bodies import Body, Told
from relay.web.api.caller import Asking
from relay.web.api.nouns import AGENTS
from relay.web.api.subject import Subject

_SINCE = "2026-11-24T06:00:00Z"
_LISTENERS = ["127.0.0.1:2525", "unix:/run/relay/submit.sock"]


class FileFault(Body):
    """What is wrong with relay.toml or directory.toml."""

    file: str
    key: str
    message: str


class SettingsState(Body):
    """Whether relay.toml was good when it was read last; where not, the settings before it stay in effect."""

    example: ClassVar = {"faults": [], "needs_restart": []}

    ok: bool = Field(examples=[True])
    faults: list[FileFault]
    needs_restart: list[str] = Field(
        description="The keys that say something else in the file and take effect at the next start.",
        examples=[["web.address"]],
    )


class DirectoryState(Body):
    """Whether the directory file is good; where not, the directory before it stays in effect."""

    example: ClassVar = {"faults": []}

    ok: bool = Field(examples=[True])
    faults: list[FileFault]


class WebState(Body):
    """Where the pages and the API are."""

    address: str | None = Field(examples=["127.0.0.1:8025"])
    trouble: str = Field(description='Why they are not there; "" where they are.', examples=[""])


class MailboxState(Body):
    """How a mailbox is that is watched for returned mail."""

    owner: str = Field(description="Of which kind, and whose.", examples=["channel/support"])
    host: str = Field(examples=["imap.gmail.com"])
    state: Literal["ok", "failing", "new"] = Field(examples=["ok"])
    checked: str | None = Field(examples=["2026-11-24T10:04:30Z"])
    reason: str = Field(examples=[""])


class HeldAccount(Body):
    """An account whose mail waits."""

    account: str = Field(description="SERVER/USERNAME.", examples=["acmejets/support@acmejets.example"])
    address: str = Field(description='"" for the whole account, or the one address of it that is held.', examples=[""])
    held_since: str | None = Field(examples=["2026-11-24T09:58:14Z"])
    reason: str = Field(examples=["535 5.7.8 Username and Password not accepted"])


class Backlog(Body):
    """How many messages wait, by their state."""

    queued: int = Field(examples=[2])
    sending: int = Field(examples=[1])
    unknown: int = Field(examples=[0])
    held: int = Field(examples=[1])


class Worker(Body):
    """One of the processes that hand over mail."""

    index: int = Field(examples=[0])
    pid: int = Field(examples=[4712])
    connections: int = Field(description="How many clients are connected to it.", examples=[3])


class StoreState(Body):
    """Whether the store can be used; where it cannot, this request is answered by 503."""

    ok: bool = Field(examples=[True])
    reason: str = Field(
        description="In a word, why it cannot: full, read-only, gone, away, locked, damaged or broken.", examples=[""]
    )
    trouble: str = Field(examples=[""])


class LogState(Body):
    """How the log is written."""

    dropped: int = Field(description="How many lines could not be written since the start.", examples=[0])


class Status(Told):
    """How the relay is."""

    running: bool = Field(examples=[True])
    version: str | None = Field(examples=[__version__])
    node: str | None = Field(description="Its name among the relays at one store.", examples=["one"])
    state: Literal["serving", "draining", "stopping"] | None = Field(
        description="Whether it takes clients and mail from the queue.", examples=["serving"]
    )
    since: str | None = Field(description="When it started.", examples=[_SINCE])
    pid: int = Field(examples=[4711])
    state_dir: str = Field(examples=["/var/lib/relay"])
    listeners: list[str] = Field(description="Where it takes mail.", examples=[_LISTENERS])
    connections: int = Field(description="How many clients are connected.", examples=[3])
    workers: list[Worker] = Field(description="The processes that hand over mail: one, or as many as `workers` says.")
    leads: bool = Field(description="Whether it does what one of all relays at a database does.", examples=[True])
    settings: SettingsState
    directory: DirectoryState
    web: WebState
    mailboxes: list[MailboxState]
    store: StoreState
    log: LogState
    queue: Backlog
    oldest: str | None = Field(
        description="When the oldest message came that waits.", examples=["2026-11-24T09:58:12Z"]
    )
    accounts_held: list[HeldAccount]
    oauth: list[Authorization]


class Totals(Body):
    """Messages that came since `since`, by what became of them; `waiting` and `held` are all of now."""

    came: int = Field(examples=[1290])
    sent: int = Field(examples=[1283])
    failed: int = Field(examples=[3])
    removed: int = Field(examples=[0])
    waiting: int = Field(description="Not those that are held.", examples=[3])
    held: int = Field(examples=[1])


class Holder(Body):
    """Whose password it is."""

    kind: Literal["server", "channel", "agent"] = Field(examples=["channel"])
    name: str = Field(examples=["support"])


class Trouble(HeldAccount):
    """An account that is held or slowed, how much waits for it, and what to do."""

    server: str = Field(examples=["acmejets"])
    username: str = Field(examples=["support@acmejets.example"])
    state: Literal["slowed", "held"] = Field(examples=["held"])
    next_probe: str | None = Field(
        description="When one message tries out whether it is over.", examples=["2026-11-24T10:13:14Z"]
    )
    means: str = Field(description="What the server's words mean.", examples=["login-refused"])
    until: str | None = Field(description="When it ends, or is tried, by itself.", examples=["2026-11-24T10:13:14Z"])
    waiting: int | None = Field(description="How many messages wait for it; null where it is slowed.", examples=[1])
    used_by: int = Field(description="How many channels and agents send through it.", examples=[1])
    holder: Holder | None = Field(examples=[{"kind": "channel", "name": "support"}])
    advice: str = Field(
        description="What to do.",
        examples=["set a new password for channel 'support', on its page or with: relay channel password support"],
    )


class UnreachedServer(Body):
    """A server that nobody gets through to, and what to do."""

    server: str = Field(examples=["acmejets"])
    since: str = Field(description="Since when no attempt got as far as a login.", examples=["2026-11-24T10:01:00Z"])
    times: int = Field(description="How many attempts in a row did not.", examples=[3])
    phase: str = Field(
        description="How far the last one came: resolve, connect, greeting, ehlo or starttls.", examples=["connect"]
    )
    reason: str = Field(
        description="How it ended.",
        examples=["451 4.4.1 The mail server cannot be reached (connection refused by 192.0.2.25 port 587)"],
    )
    advice: str = Field(
        description="What to do.",
        examples=["it does not answer: look at its host and port, the network and the firewall"],
    )


class Steps(Body):
    """How far somebody is who begins with nothing."""

    server: bool = Field(description="There is a server.", examples=[True])
    profile: bool = Field(description="There is a channel or an agent.", examples=[True])
    delivered: bool = Field(description="A message was delivered.", examples=[True])


class Entrance(Body):
    """What a mail client has to know of a listener."""

    name: str = Field(examples=["local"])
    host: str = Field(examples=["127.0.0.1"])
    port: int = Field(examples=[2525])
    security: str = Field(examples=["none"])
    auth: str = Field(examples=["optional"])
    trusted_networks: list[str] = Field(examples=[["127.0.0.0/8", "::1/128"]])


class Overview(Told):
    """How the relay is at a glance, and what to do about what is not well."""

    since: str = Field(examples=["2026-11-23T10:05:00Z"])
    totals: Totals
    queue: Backlog
    oldest: str | None = Field(
        description="When the oldest message came that waits.", examples=["2026-11-24T09:58:12Z"]
    )
    troubled: int = Field(description="How many accounts are held or slowed.", examples=[1])
    accounts: list[Trouble] = Field(description="The worst of them, at most 50.")
    unreached: list[UnreachedServer] = Field(description="The one that is away longest first.")
    directory: DirectoryState
    mailboxes: list[MailboxState] = Field(description="Those that cannot be read.", examples=[[]])
    steps: Steps
    listeners: list[str] = Field(description="Where it takes mail.", examples=[_LISTENERS])
    entrances: list[Entrance] = Field(description="The listeners that a mail client reaches by the network.")
    first_sender: str | None = Field(description="An address that may send.", examples=["support@acmejets.example"])
    version: str | None = Field(examples=[__version__])
    running_since: str | None = Field(examples=[_SINCE])


class Groups(Body):
    """The groups and roles of agents."""

    groups: list[str] = Field(examples=[["flights", "sales"]])
    roles: list[str] = Field(examples=[["agent", "supervisor"]])


def add_routes(routes: APIRouter) -> None:
    """Add the routes of the relay itself."""
    subject = Subject(routes, "relay")

    @subject.request("GET /status", "status", Status)
    async def status(caller: Asking) -> Any:
        """Tell how the relay is."""
        found = await caller.run("status")
        if not found["store"]["ok"]:
            raise Unavailable(found["store"]["trouble"])
        return found

    @subject.request("GET /overview", "overview", Overview)
    async def overview(caller: Asking) -> Any:
        """Tell at a glance how the relay is, what came in 24 hours, and what to do about what is not well."""
        return await caller.run("overview")

    @Subject(routes, AGENTS.tag).request("GET /groups", "agent.groups", Groups)
    async def groups(caller: Asking) -> Any:
        """List the groups and roles that agents have."""
        return await caller.run("agent.groups")
