"""The nodes: the relays that use one store, each on a machine of its own."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import Field, StrictBool

from relay import __version__
from relay.web.api.bodies import Given, Told
from relay.web.api.caller import Asking
from relay.web.api.subject import Subject


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


Name = Annotated[str, Path(max_length=64, description="Its name.", examples=["one"])]


def add_routes(routes: APIRouter) -> None:
    """Add the routes of nodes."""
    subject = Subject(routes, "nodes")

    @subject.request("GET /nodes", "node.list", list[NodeState])
    async def list_nodes(caller: Asking) -> Any:
        """List the relays that use the store, and what each of them does."""
        return await caller.run("node.list")

    @subject.request("POST /nodes/{name}/drain", "node.drain", NodeState, 404)
    async def drain(caller: Asking, name: Name, body: Drain) -> Any:
        """Let a node take no more clients and no mail from the queue, or do so again; what is under way ends."""
        return await caller.run("node.drain", name=name, undo=body.undo)
