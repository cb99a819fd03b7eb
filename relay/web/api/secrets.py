"""Passwords, authorizations and invitations: what is given here is never shown again."""

from typing import Any, ClassVar, Literal

from fastapi import APIRouter
from pydantic import Field

from relay.web.api.bodies import Body, Given, Invitation, MailPassword, Password, name_of
from relay.web.api.endpoint import Asking, Subject
from relay.web.api.nouns import AGENTS, APPLICATIONS, CHANNELS, SERVERS, Noun

# The nouns that have passwords, the address of each, and the operation that sets it.
_PASSWORDS = (
    (SERVERS, "password", "server.password", "Set the password of the server's account"),
    (CHANNELS, "password", "channel.password", "Set the email password, used to log in at its server"),
    (AGENTS, "password", "agent.password", "Set the email password, with which the agent logs in at its server"),
    (CHANNELS, "login", "channel.login", "Set the password with which the channel logs in at Relay"),
    (AGENTS, "login", "agent.login", "Set the password with which the agent logs in at Relay"),
    (APPLICATIONS, "login", "application.password", "Set the password with which the application logs in at Relay"),
    (SERVERS, "incoming-password", "server.incoming", "Set the password of the server's mailbox"),
    (CHANNELS, "incoming-password", "channel.incoming", "Set the password of the channel's mailbox"),
    (AGENTS, "incoming-password", "agent.incoming", "Set the password of the agent's mailbox"),
)
_OAUTH_SERVER = name_of("microsoft")
_STATE = "QpLx0c7mN2vR8sT4"
_VERIFIER = "Zk3v9Jm1Xq7Ld5Rt0Wc8Yb2Hs6Nf4Ga1Pe3Ui5Oo7Ak9"


class Visit(Body):
    """Where a person allows it, and what is told again when that is done.

    In the code flow `state` and `verifier` go with the address that the browser ends at; in the device flow the person
    types `code` at `url`, and `device` asks each `interval` seconds whether it is done.
    """

    example: ClassVar = dict.fromkeys(("code", "seconds", "interval", "device", "account", "expires"))

    url: str = Field(
        description='To be opened in a browser; "" where nobody has to allow it.',
        examples=["https://login.microsoftonline.com/common/oauth2/v2.0/authorize?response_type=code&client_id=…"],
    )
    state: str | None = Field(None, examples=[_STATE])
    verifier: str | None = Field(None, examples=[_VERIFIER])
    code: str | None = Field(None, description="What the person types there.")
    seconds: int | None = Field(None, description="For how long that is possible.")
    interval: int | None = Field(None, description="How many seconds there are between two questions at least.")
    device: str | None = Field(None, description="By which it is asked for.")
    account: str | None = Field(None, description="The account that is authorized already: nobody had to allow it.")
    expires: str | None = Field(None, description="When its token expires.")


class Redirected(Given):
    """The address that the browser ended at, with what was told when it began; in the device flow `device` alone."""

    redirect: str = Field("", max_length=8192, examples=[f"http://127.0.0.1/?code=0.AXoA&state={_STATE}"])
    state: str = Field("", max_length=200, examples=[_STATE])
    verifier: str = Field("", max_length=200, examples=[_VERIFIER])
    device: str = Field("", max_length=8192, description="As it was told; instead of the others.", examples=[""])


class Authorized(Body):
    """An account that may log in, or that somebody has to allow yet."""

    step: Literal["authorized", "waiting"] = Field(
        description="waiting: in the device flow nobody has allowed it yet; ask again.", examples=["authorized"]
    )

    account: str = Field(description="SERVER/USERNAME.", examples=["microsoft/jane@acmejets.example"])
    expires: str | None = Field(
        description="When its token expires; it is renewed before.", examples=["2026-11-24T11:05:00Z"]
    )
    warning: str = Field(description='What may go wrong with it; "" for nothing.', examples=[""])


class SecretEntry(Body):
    """Who has a password, and where it is kept."""

    owner: str = Field(description="Of which kind, and whose.", examples=["login/jane"])
    source: str = Field(description="vault, directory (the file), or what `password_from` names.", examples=["vault"])
    changed: str | None = Field(description="When it was set, in the vault.", examples=["2026-11-24T09:30:00Z"])
    used: bool = Field(description="Whether anything uses it.", examples=[True])


class Imported(Body):
    """Whose passwords were moved."""

    ok: bool = Field(examples=[True])
    imported: list[str] = Field(examples=[["server/acmejets"]])


class Rotated(Body):
    """How many passwords are sealed under the new key, and its id."""

    ok: bool = Field(examples=[True])
    secrets: int = Field(examples=[123])
    key: str = Field(examples=["4933c56099fe1b64"])


def add_routes(routes: APIRouter) -> None:
    """Add the routes of secrets."""
    for noun, last, operation, summary in _PASSWORDS:
        _add_password(Subject(routes, noun.tag), noun, last, operation, summary)
    for noun, name in ((SERVERS, _OAUTH_SERVER), (CHANNELS, CHANNELS.name), (AGENTS, AGENTS.name)):
        _add_authorization(Subject(routes, noun.tag), noun, name)
    _add_vault(Subject(routes, "secrets"))

    @Subject(routes, SERVERS.tag).request("PUT /servers/{name}/client-secret", "server.client_secret", None, 404, 409)
    async def client_secret(caller: Asking, name: _OAUTH_SERVER, body: Password) -> None:  # type: ignore[valid-type]
        """Set the secret of the server's OAuth client."""
        await caller.run("server.client_secret", name=name, secret=body.password)

    @Subject(routes, AGENTS.tag).request(
        "POST /agents/{name}/invitation", "agent.invite", Invitation, 404, 409, status=201
    )
    async def invite(caller: Asking, name: AGENTS.name) -> Any:  # type: ignore[name-defined]
        """Make a one-time link by which an agent sets the own passwords."""
        return await caller.run("agent.invite", name=name)


def _add_password(subject: Subject, noun: Noun, last: str, operation: str, summary: str) -> None:
    if last == "password":
        return _add_mail_password(subject, noun, operation, summary)

    @subject.request(f"PUT {noun.path}/{{name}}/{last}", operation, None, 404, 409, summary=summary)
    async def set_password(caller: Asking, name: noun.name, body: Password) -> None:  # type: ignore[name-defined]
        await caller.run(operation, name=name, password=body.password)

    return None


def _add_mail_password(subject: Subject, noun: Noun, operation: str, summary: str) -> None:
    @subject.request(
        f"PUT {noun.path}/{{name}}/password",
        operation,
        None,
        404,
        409,
        summary=summary,
        description="It is tried there first: one login, no message. What the server refuses is not kept "
        "(422, with its words), unless `unchecked` is true. A server that cannot be reached is no reason to refuse it.",
    )
    async def set_password(caller: Asking, name: noun.name, body: MailPassword) -> None:  # type: ignore[name-defined]
        await caller.run(operation, name=name, password=body.password, unchecked=body.unchecked)


def _add_authorization(subject: Subject, noun: Noun, name_type: Any) -> None:
    word = noun.word

    @subject.request(
        f"POST {noun.path}/{{name}}/authorization",
        f"{word}.authorize",
        Visit,
        404,
        409,
        summary=f"Begin to authorize the account of {noun.one} by OAuth",
        description="Which of the three ways it goes, the server's OAuth client says: code, device, or client "
        "credentials, which are tried at once.",
    )
    async def authorize(caller: Asking, name: name_type) -> Any:
        steps = caller.stream(f"{word}.authorize", name=name)
        async for step in steps:
            return {"url": "", **step}
        return {"url": ""}

    @subject.request(
        f"POST {noun.path}/{{name}}/authorized",
        f"{word}.authorized",
        Authorized,
        404,
        409,
        summary=f"End to authorize the account of {noun.one}",
        description="The provider is asked for the tokens now.",
    )
    async def authorized(caller: Asking, name: name_type, body: Redirected) -> Any:
        return await caller.run(f"{word}.authorized", name=name, **body.model_dump())


def _add_vault(subject: Subject) -> None:
    @subject.request("GET /secrets", "secrets.list", list[SecretEntry])
    async def secrets(caller: Asking) -> Any:
        """List who has a password and where it is kept. No value is ever shown."""
        return await caller.run("secrets.list")

    @subject.request("POST /secrets/import", "secrets.import", Imported, 409)
    async def import_secrets(caller: Asking) -> Any:
        """Move the passwords that stand in directory.toml to the vault."""
        return await caller.run("secrets.import")

    @subject.request("POST /secrets/rotate", "secrets.rotate", Rotated, 409)
    async def rotate(caller: Asking) -> Any:
        """Seal every password under a new master key."""
        return await caller.run("secrets.rotate")
