"""Tests of servers and profiles: logging in and sending a message, told step by step."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from relay.control.lookup import find_profile, find_server
from relay.control.operation import Operation
from relay.control.parts import Parts
from relay.control.refused import Refused
from relay.directory.model import Account, Profile, ProfileKind, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.header import Field, Header
from relay.mail.trace import format_date, message_id, new_id
from relay.secrets.secret import secret_ref
from relay.upstream.probe import probe


class Probes:
    """The operations that test; each yields {step, ok, detail}, and the first that fails is the last."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "server.test": Operation(self.test_server, is_stream=True),
            "channel.test": Operation(self.test_channel, is_stream=True),
            "agent.test": Operation(self.test_agent, is_stream=True),
        }

    def test_server(self, *, name: str, to: str, send: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Log in with the server's account and send a message to `to`, or stop before it."""
        server = find_server(self._parts, name)
        recipient = Address.parse(to)
        # A server without an account and address of its own has no identity; the recipient writes to itself then.
        sender = server.identity or recipient
        return self._probe(server, Account(name, server.username), None, sender, recipient, send=send)

    def test_channel(self, *, name: str, to: str | None = None, send: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Send a message as a channel does, to `to` or to the channel itself."""
        return self._test_profile(ProfileKind.CHANNEL, name, to, send=send)

    def test_agent(self, *, name: str, to: str | None = None, send: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Send a message as an agent does, to `to` or to the agent."""
        return self._test_profile(ProfileKind.AGENT, name, to, send=send)

    def _test_profile(
        self, kind: ProfileKind, name: str, to: str | None, *, send: bool
    ) -> AsyncIterator[dict[str, Any]]:
        profile = find_profile(self._parts, kind, name)
        recipient = Address.parse(to or profile.address)
        route = self._parts.directory.routing().route_of(profile)
        if route is None:
            raise Refused(f"{kind} '{name}' has no way out: its server has no account and no address")
        return self._probe(route.server, route.account, profile, route.identity, recipient, send=send)

    async def _probe(
        self,
        server: Server,
        account: Account,
        profile: Profile | None,
        sender: Address,
        recipient: Address,
        *,
        send: bool,
    ) -> AsyncIterator[dict[str, Any]]:
        ref = secret_ref(server, profile, override=profile is not None and profile.override)
        if ref is not None:
            self._parts.secrets.forget(ref)  # a test asks the password's source anew
        hostname = self._parts.settings.effective_hostname
        steps = probe(
            server,
            account,
            await self._parts.secrets.secret(ref) if ref else None,
            hello=hostname,
            sender=sender,
            recipient=recipient,
            content=_message(sender, recipient, hostname) if send else None,
        )
        async for step in steps:
            yield asdict(step)


def _message(sender: Address, recipient: Address, hostname: str) -> Content:
    now = datetime.now(UTC)
    fields = {
        "Date": format_date(now),
        "From": str(sender),
        "To": str(recipient),
        "Subject": "Relay test message",
        "Message-ID": message_id(new_id(now), sender),
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Auto-Submitted": "auto-generated",
    }
    header = Header(tuple(Field.make(name, value) for name, value in fields.items()))
    text = (
        "This message was sent by a test of Relay.\r\n\r\n"
        f"Sender: {sender}\r\nRecipient: {recipient}\r\nMachine: {hostname}\r\n"
    )
    return Content(bytes(header), (text.encode(),))
