"""How the relay is, with its accounts and nodes."""

from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Path
from pydantic import Field, StrictBool

from relay import __version__
from relay.control.refused import Unavailable
from relay.web.api.bodies import Body, Done, Given, Told
from relay.web.api.endpoint import Asking, Subject
from relay.web.api.nouns import AGENTS

_SINCE = "2026-11-24T06:00:00Z"
_LISTENERS = ["127.0.0.1:2525", "unix:/run/relay/submit.sock"]


class Authorization(Body):
    """How the token of an account is that logs in by OAuth."""

    example: ClassVar = {"error": ""}

    account: str = Field(description="SERVER/USERNAME.", examples=["microsoft/jane@acmejets.example"])
    expires: str | None = Field(description="When the token expires.", examples=["2026-11-24T11:05:00Z"])
    refreshed: str | None = Field(description="When it was renewed last.", examples=["2026-11-24T10:05:00Z"])
    state: str = Field(
        description="ok, missing (nobody authorized it), delayed (the provider is away) or refused.", examples=["ok"]
    )
    error: str = Field(description='What is wrong, in the provider\'s words; "" for nothing.')


class AccountState(Told):
    """Whom mail logs in as, and how that is."""

    account: str = Field(description="SERVER/USERNAME.", examples=["acmejets/support@acmejets.example"])
    server: str = Field(examples=["acmejets"])
    username: str = Field(examples=["support@acmejets.example"])
    address: str = Field(description='"" for the whole account, or the one address of it that is held.', examples=[""])
    profiles: list[str] = Field(description="Who sends through it.", examples=[["support"]])
    state: Literal["ok", "slowed", "held"] = Field(
        description="slowed: the server asked for a slower pace; held: nothing is sent.", examples=["held"]
    )
    held_since: str | None = Field(examples=["2026-11-24T09:58:14Z"])
    reason: str = Field(
        description="The server's words, or ours.", examples=["535 5.7.8 Username and Password not accepted"]
    )
    next_probe: str | None = Field(
        description="When one message tries out whether it is over.", examples=["2026-11-24T10:13:14Z"]
    )


class Account(AccountState):
    """An account that mail leaves through."""

    example: ClassVar = {"oauth": None}

    connections: int = Field(description="How many are open.", examples=[0])
    oauth: Authorization | None = Field(description="How its token is, where it logs in by OAuth.")


class Troubled(AccountState):
    """An account that is held or slowed, and what to do about it."""

    state: Literal["slowed", "held"] = Field(examples=["held"])
    means: str = Field(description="What the server's words mean.", examples=["login-refused"])
    until: str | None = Field(description="When it ends, or is tried, by itself.", examples=["2026-11-24T10:13:14Z"])
    advice: str = Field(
        description="What to do.",
        examples=["set a new password for channel 'support', on its page or with: relay channel password support"],
    )


def add_account_routes(routes: APIRouter) -> None:
    """Add the routes of accounts."""
    subject = Subject(routes, "accounts")

    @subject.request("GET /accounts", "account.list", list[Account])
    async def list_accounts(caller: Asking) -> Any:
        """List the accounts that mail leaves through, and what holds them. Those in trouble come first."""
        return await caller.run("account.list")

    @subject.request("GET /accounts/troubled", "account.troubled", list[Troubled])
    async def troubled(caller: Asking) -> Any:
        """List the accounts that are held or slowed, with what to do about each."""
        return await caller.run("account.troubled")

    # The user name is empty where a server wants no login, and may have a slash in it.
    @subject.request("POST /accounts/{server}/{username:path}/release", "account.release", Done, 404, 409)
    async def release(
        caller: Asking,
        server: Annotated[str, Path(max_length=64, description="Its server.", examples=["acmejets"])],
        username: Annotated[
            str,
            Path(
                max_length=320,
                description="Its user name; nothing where the server wants no login.",
                examples=["support@acmejets.example"],
            ),
        ],
    ) -> Any:
        """Let the mail of a held account go on."""
        return await caller.run("account.release", account=f"{server}/{username}")


class NodeState(Told):
    """A relay, and what it does."""

    name: str = Field(examples=["one"])
    state: Literal["serving", "draining", "stopping", "silent"] = Field(
        description="silent: nothing was heard of it for too long; it may have ended.", examples=["serving"]
    )
    drain: bool = Field(description="Whether it is to take no clients and no mail from the queue.", examples=[False])
    leads: bool = Field(description="Whether it does what one of all relays at a database does.", examples=[True])
    version: str = Field(examples=[__version__])
    since: str = Field(description="When it started.", examples=["2026-11-24T06:00:00Z"])
    seen: str = Field(description="When it said last what it does.", examples=["2026-11-24T10:04:57Z"])
    workers: int = Field(description="How many processes it is.", examples=[2])
    clients: int = Field(description="How many clients are connected to it.", examples=[14])
    messages: int = Field(description="How many messages it hands over now.", examples=[3])


class Drain(Given):
    """Whether a node is to be drained."""

    undo: StrictBool = Field(False, description="Let it take clients and mail again.", examples=[False])


_NodeName = Annotated[str, Path(max_length=64, description="Its name.", examples=["one"])]


def add_node_routes(routes: APIRouter) -> None:
    """Add the routes of nodes."""
    subject = Subject(routes, "nodes")

    @subject.request("GET /nodes", "node.list", list[NodeState])
    async def list_nodes(caller: Asking) -> Any:
        """List the relays that use the store, and what each of them does."""
        return await caller.run("node.list")

    @subject.request("POST /nodes/{name}/drain", "node.drain", NodeState, 404)
    async def drain(caller: Asking, name: _NodeName, body: Drain) -> Any:
        """Let a node take no more clients and no mail from the queue, or do so again; what is under way ends."""
        return await caller.run("node.drain", name=name, undo=body.undo)


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


class UnreachedServer(Body):
    """A server that nobody gets through to."""

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
    backup: str = Field(
        description='The server that sends its mail meanwhile; "" where that waits.', examples=["acmejets-second"]
    )


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
    unreached: list[UnreachedServer] = Field(description="The one that is away longest first.")
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


class AdvisedServer(UnreachedServer):
    """A server that nobody gets through to, and what to do."""

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
    unreached: list[AdvisedServer] = Field(description="The one that is away longest first.")
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
