"""Tests of servers and profiles: logging in and sending a message, told step by step."""

from dataclasses import replace

from relay.control.context import ControlContext, find_entry, read_address
from relay.control.entries.passwords import no_mailbox
from relay.control.operation import Access, Operation
from relay.control.refused import Refused
from relay.control.tests.doctor import DoctorTarget
from relay.control.tests.last_tests import Steps
from relay.control.tests.results import StepRecord
from relay.control.tests.round_trip import RoundTrip, probe_message
from relay.directory.kinds import AGENT, CHANNEL, SERVER, EntryKind
from relay.directory.model import Account, Kind, Meaning, Profile, Server
from relay.directory.routing import Route
from relay.doctor.providers import send_as_advice
from relay.doctor.server import may_send_as
from relay.incoming.mailbox import Mailbox, mailbox_of
from relay.mail.address import Address
from relay.mail.content import Content
from relay.secrets.secret import Secret
from relay.secrets.sources import SecretUnavailable
from relay.upstream.outcome import Phase
from relay.upstream.probe import probe
from relay.upstream.steps import Step


class ConnectionTests:
    """The operations that test; the first step that fails is the last.

    Where nothing is to be sent, the last step says what MAIL and RCPT have proven about the address.
    """

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "server.test": Operation(self.test_server, is_stream=True, access=Access.ADMIN),
            "channel.test": Operation(self.test_channel, is_stream=True, access=Access.ADMIN),
            "agent.test": Operation(self.test_agent, is_stream=True, access=Access.OWN),
        }

    def test_server(self, *, name: str, to: str, send: bool = True) -> Steps:
        """Log in with the server's account and send a message to `to`, or stop before it."""
        server = find_entry(self._parts, SERVER, name)
        recipient = read_address(to, "to")
        # A server without an account and address of its own has no identity; the recipient writes to itself then.
        sender = server.identity or recipient
        content = self._content(sender, recipient) if send else None
        steps = self._probe(server, Account(name, server.username), None, sender, recipient, content)
        return self._parts.tests.kept(server, steps)

    def test_channel(self, *, name: str, to: str | None = None, send: bool = True, round_trip: bool = False) -> Steps:
        """Send a message as a channel does, to `to` or to the channel itself, and look for it where it arrives."""
        return self._test_profile(CHANNEL, name, to, send=send, round_trip=round_trip)

    def test_agent(self, *, name: str, to: str | None = None, send: bool = True, round_trip: bool = False) -> Steps:
        """Send a message as an agent does, to `to` or to the agent, and look for it where it arrives."""
        return self._test_profile(AGENT, name, to, send=send, round_trip=round_trip)

    def _test_profile(
        self, kind: EntryKind[Profile], name: str, to: str | None, *, send: bool, round_trip: bool
    ) -> Steps:
        profile = find_entry(self._parts, kind, name)
        route = self._parts.directory.routing().route_of(profile)
        if route is None:
            raise no_way_out(kind, name)
        if round_trip:
            return self._parts.tests.kept(profile, self._test_round_trip(profile, route, to, send=send))
        recipient = read_address(to or profile.address, "to")
        content = self._content(route.identity, recipient) if send else None
        steps = self._probe(route.server, route.account, profile, route.identity, recipient, content)
        return self._parts.tests.kept(profile, steps)

    def _test_round_trip(self, profile: Profile, route: Route, to: str | None, *, send: bool) -> Steps:
        if not send:
            raise Refused("a round trip sends a message; leave one of --round-trip and --no-send out")
        mailbox, address = _mailbox(profile, route)
        if mailbox is None:
            raise Refused(no_mailbox(profile))
        recipient = read_address(to, "to") if to else address

        def send_it(content: Content) -> Steps:
            return self._probe(route.server, route.account, profile, route.identity, recipient, content)

        return RoundTrip(self._parts, mailbox, route.identity, recipient).steps(send_it)

    def _content(self, sender: Address, recipient: Address) -> Content:
        return probe_message(sender, recipient, self._parts.settings.effective_hostname)

    async def _probe(
        self,
        server: Server,
        account: Account,
        profile: Profile | None,
        sender: Address,
        recipient: Address,
        content: Content | None,
    ) -> Steps:
        target = DoctorTarget.of(server, account, profile if profile is not None and profile.override else None)
        secret, lack = await secret_of(self._parts, target)
        async for record in probe_steps(self._parts, server, account, secret, sender, recipient, content, lack=lack):
            yield record


def no_way_out(kind: EntryKind[Profile], name: str) -> Refused:
    """Return what is said of a profile whose mail could leave as nobody."""
    return Refused(f"{kind.word} '{name}' has no way out: its server has no account and no address")


async def secret_of(parts: ControlContext, target: DoctorTarget) -> tuple[Secret | None, str]:
    """Return the secret that an account logs in with, or why there is none and what to do."""
    ref, account = target.ref, target.account
    if ref is None:
        return None, ""
    parts.secrets.forget(ref)  # a test asks the password's source anew
    try:
        secret = await parts.secrets.secret(ref)
    except SecretUnavailable as unavailable:
        return None, f"the secret of {account} cannot be had: {unavailable}"
    if secret is not None:
        return secret, ""
    mending = "set one" if ref.token is None else "authorize it"
    return None, f"{parts.secrets.lack(ref, account)}; {mending} with: {target.command}"


async def probe_steps(
    parts: ControlContext,
    server: Server,
    account: Account,
    secret: Secret | None,
    sender: Address,
    recipient: Address,
    content: Content | None,
    *,
    lack: str = "",
) -> Steps:
    """Yield the steps of a test; without content nothing is sent, and what that proves is the last.

    `lack` says why there is no secret; it takes the place of what a login without one says.
    """
    hello = parts.settings.effective_hostname
    is_good = False
    async for step in probe(server, account, secret, hello=hello, sender=sender, recipient=recipient, content=content):
        is_good = step.ok
        yield _record(replace(step, detail=lack) if lack and _is_failed_login(step) else step, server)
    if is_good and content is None and server.kind is Kind.SMTP:  # an API has said so at MAIL
        yield StepRecord("send-as", True, may_send_as(server, sender, account.username))


def _is_failed_login(step: Step) -> bool:
    return step.failure is not None and step.failure.phase is Phase.LOGIN


def _mailbox(profile: Profile, route: Route) -> tuple[Mailbox | None, Address]:
    """Return where a profile's mail comes back, and by which address: its own, or the server's that it leaves with."""
    own, servers = mailbox_of(profile, route.server), mailbox_of(route.server, route.server)
    if own is None and servers is not None and not route.override:
        return servers, route.identity
    return own, Address.parse(profile.address)


def _record(step: Step, server: Server) -> StepRecord:
    """Return a step as it is told; a refused address comes with what to do about it at that provider."""
    detail, failure = step.detail, step.failure
    is_refused = failure is not None and (
        failure.meaning is Meaning.IDENTITY_REFUSED
        or (failure.phase is Phase.MAIL and failure.meaning is Meaning.REFUSED)
    )
    if is_refused:
        detail = f"{detail}; what to do: {send_as_advice(server.effective_host)}"
    return StepRecord(step.step, step.ok, detail)
