"""The accounts that mail leaves through, and what holds them."""

from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from relay.web.api.bodies import Body, Done, Told
from relay.web.api.caller import Asking
from relay.web.api.subject import Subject


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


def add_routes(routes: APIRouter) -> None:
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
