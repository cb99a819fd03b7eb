"""Which way mail of a sender takes, whether it arrives, and which providers there are."""

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Query
from pydantic import Field

from relay.doctor.finding import Check, Level
from relay.web.api.bodies import NAME_PATTERN, Body, Told
from relay.web.api.endpoint import Asking, Subject

_RECORD = '_dmarc.acmejets.example. IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@acmejets.example"'


class Provider(Told):
    """A provider whose servers can be added by its name."""

    example: ClassVar = {
        "values": {"host": "smtp.fastmail.com", "security": "tls", "auth": "plain"},
        "sources": {"host": "https://www.fastmail.com/help/technical/servernamesandports.html"},
    }

    name: str = Field(examples=["fastmail"])
    title: str = Field(examples=["Fastmail"])
    host: str = Field(examples=["smtp.fastmail.com"])
    port: int = Field(examples=[465])
    security: str = Field(examples=["tls"])
    auth: str = Field(examples=["plain"])
    username: str = Field(description='"" where everybody has an own one.', examples=[""])
    limits: dict[str, int] = Field(description="Keys of a server that limit; sizes in bytes.", examples=[{}])
    note: str = Field(description="What a person has to know.", examples=["needs an app password"])
    values: dict[str, Any] = Field(description="The keys of a server that it sets, for `POST /servers`.")
    sources: dict[str, str] = Field(description="The page where each value was found.")


class Route(Told):
    """By which server, account and identity mail of a sender leaves, and why."""

    example: ClassVar = {
        "reply_to": None,
        "reason": "support@acmejets.example is the address of channel 'support'; it follows the default server "
        "'acmejets' and logs in with its own account support@acmejets.example",
    }

    profile: str | None = Field(description="The channel or agent that it is of.", examples=["support"])
    server: str = Field(examples=["acmejets"])
    account: str = Field(description="SERVER/USERNAME.", examples=["acmejets/support@acmejets.example"])
    identity: str = Field(description="The address that it leaves with.", examples=["support@acmejets.example"])
    override: bool = Field(description="Whether the profile logs in with its own account.", examples=[True])
    from_: str = Field(alias="from", description="The From header that leaves.", examples=["support@acmejets.example"])
    reply_to: str | None = Field(description="The Reply-To header that leaves.")
    script: str | None = Field(description="The header rules that apply.", examples=["default"])
    reason: str = Field(description="Why it goes this way.")


class Finding(Told):
    """One finding of the doctor."""

    example: ClassVar = {"server": None}

    check: Check = Field(examples=[Check.DMARC])
    profile: str | None = Field(description="Whom it is about, where it is one alone.", examples=["support"])
    level: Level = Field(description="bad keeps mail from arriving; a warning may, now or soon.", examples=[Level.WARN])
    why: str = Field(examples=["acmejets.example has no DMARC record, which Google and Yahoo ask of senders"])
    fix: str = Field(
        description='What to do; "" where all is good.',
        examples=[f"publish one that only asks for reports, and tighten it later: {_RECORD}"],
    )
    record: str = Field(description='The DNS record to publish; "" for none.', examples=[_RECORD])
    profiles: list[str] = Field(description="Whom it is about.", examples=[["support"]])
    server: str | None = Field(description="The server that was looked at; null where it was a domain.")


class Diagnosis(Body):
    """Whether mail arrives."""

    ok: bool = Field(description="Nothing is bad.", examples=[True])
    findings: list[Finding]


def add_routes(routes: APIRouter) -> None:
    """Add the requests about routes."""
    subject = Subject(routes, "relay")

    @subject.request("GET /providers", "provider.list", list[Provider])
    async def providers(caller: Asking) -> Any:
        """List the providers whose servers Relay knows. `values` is what to add such a server with."""
        return await caller.run("provider.list")

    @subject.request("GET /route", "route", Route, 404, 409)
    async def route(
        caller: Asking,
        sender: Annotated[
            str, Query(max_length=320, description="The envelope sender.", examples=["support@acmejets.example"])
        ],
        from_header: Annotated[
            str | None,
            Query(
                max_length=998,
                description="The From header; left out, the sender.",
                examples=["Acme Jets <support@acmejets.example>"],
            ),
        ] = None,
        login: Annotated[
            str | None,
            Query(
                max_length=320,
                description="Who logged in; left out, a client of this machine without a login.",
                examples=["contact-center"],
            ),
        ] = None,
    ) -> Any:
        """Explain the way of a sender's mail. Nothing is sent. Where it would be refused, 409 has the words."""
        return await caller.run("route", sender=sender, from_header=from_header, login=login)

    @subject.request("GET /doctor", "doctor", Diagnosis, 404, 409)
    async def doctor(
        caller: Asking,
        profile: Annotated[
            str | None,
            Query(pattern=NAME_PATTERN, description="The channel or agent; left out, all.", examples=["support"]),
        ] = None,
    ) -> Any:
        """Find out whether mail of a profile arrives, or of all.

        It asks DNS and logs in at the servers, which takes seconds. Nothing is sent.
        """
        findings = await caller.all_of("doctor", name=profile)
        return {"ok": all(one.get("level") != "bad" for one in findings), "findings": findings}
