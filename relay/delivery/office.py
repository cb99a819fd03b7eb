"""The office behind the desk: what every submission works with, and the questions that need several parts of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from relay.delivery import replies
from relay.delivery.events import Journey, Telling
from relay.delivery.pacing import Pacing
from relay.delivery.turn import Turns
from relay.directory.client import Client, bounce_routes, is_bounce
from relay.directory.model import Meaning, Mode
from relay.directory.routing import Route, Routing
from relay.mail.address import Address
from relay.mail.envelope import Envelope
from relay.mail.header import Header
from relay.mail.identity import Mismatch, from_address
from relay.mail.reply import Reply
from relay.secrets.keeper import SecretKeeper
from relay.secrets.secret import Secret, secret_ref
from relay.secrets.sources import SecretDelayed, SecretUnavailable
from relay.settings import Settings
from relay.upstream.outcome import Outcome
from relay.upstream.phase import Phase
from relay.upstream.transfer import Ahead, Progress, Transfer


class Refused(Exception):
    """The message goes no further here. `reply` is for the client, `detail` for the log.

    `meaning` says what it would mean in an upstream's answer, where that is not plain from the reply.
    """

    def __init__(self, reply: Reply, detail: str = "", meaning: Meaning | None = None) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.detail = detail
        self.meaning = meaning


class Upstream(Protocol):
    """The way out (`relay.upstream.upstream`)."""

    async def deliver(self, transfer: Transfer, progress: Progress) -> Outcome:
        """Hand one message over. May be cancelled until `progress.final_dot_sent`."""

    def run_ahead(self, transfer: Transfer) -> Ahead | None:
        """Begin to hand over a message that still arrives; None where it has to wait."""


@dataclass(slots=True, kw_only=True)
class Office:
    """What every submission works with. `routing` returns the routing of the directory as it is now.

    `tell` is told every journey when it has ended, `telling` what happens on the way.
    """

    routing: Callable[[], Routing]
    secrets: SecretKeeper
    upstream: Upstream
    tell: Callable[[Journey], None]
    mismatch: Mismatch
    telling: Telling = field(default_factory=Telling)
    pacing: Turns = field(default_factory=Pacing)
    profile_url: str = ""  # where an agent sets the email password; "" where no pages are served
    mode: Mode = Mode.AUTO
    patience: float = 15.0  # auto: seconds that a client waits
    direct_patience: float = 100.0  # seconds to our final dot: RFC 6409 section 5.3 wants an answer within 2 minutes

    def adopt(self, settings: Settings) -> None:
        """Work by these settings from now on."""
        self.mismatch = Mismatch(settings.policy.from_mismatch)
        self.profile_url = settings.web.public_url if settings.web.address else ""
        self.mode = Mode(settings.delivery.mode)
        self.patience = settings.delivery.patience

    def find_route(self, client: Client, sender: Address) -> Route:
        """Return the route of a sender for this client. Raises Refused."""
        route = self.routing().route(sender)
        if route is None:
            raise Refused(replies.no_profile(sender))
        may_use = client.allows(route.profile) if route.profile else client.allows_anyone
        if not may_use:
            raise Refused(replies.not_yours(sender, client.name))
        if self._lacks_password(route):
            raise Refused(replies.no_password(sender, self.profile_url))
        return route

    def route_of_message(self, client: Client, envelope: Envelope, header: Header) -> Route:
        """Return the route of a message: by its envelope sender, or by From where that is null. Raises Refused.

        A bounce of a mail server behind us leaves by the first of its routes that has a password.
        """
        if envelope.sender is not None:
            return self.find_route(client, envelope.sender)
        author = from_address(header)
        if author is None:
            raise Refused(replies.NULL_SENDER_WITHOUT_FROM)
        routing = self.routing()
        if not is_bounce(routing, client, author):
            return self.find_route(client, author)
        routes = list(bounce_routes(routing, client, (one.address for one in envelope.recipients)))
        if not routes:
            raise Refused(replies.no_profile(author))
        route = next((one for one in routes if not self._lacks_password(one)), None)
        if route is None:
            raise Refused(replies.no_password(routes[0].identity, self.profile_url))
        return route

    def mode_of(self, route: Route) -> Mode:
        """Return the mode of messages that leave by a route."""
        return (route.profile.mode if route.profile else None) or self.mode

    async def find_secret(self, route: Route) -> Secret | None:
        """Return the secret that logs in on a route, None where the server wants none. Raises Refused."""
        ref = secret_ref(route.server, route.profile, override=route.override)
        if ref is None:
            return None
        try:
            secret = await self.secrets.secret(ref)
        except SecretDelayed as error:
            raise Refused(replies.of_meaning(Meaning.TEMPORARY), str(error), Meaning.TEMPORARY) from None
        except SecretUnavailable as error:
            raise _no_login(str(error)) from None
        if secret is None:
            raise _no_login(self.secrets.lack(ref, route.account))
        return secret

    async def secret_version(self, route: Route) -> str | None:
        """Return the version of the secret that would log in on a route; None where there is none to be had."""
        ref = secret_ref(route.server, route.profile, override=route.override)
        try:
            return await self.secrets.version(ref) if ref else None
        except SecretUnavailable:
            return None

    async def hand_over(self, route: Route, transfer: Transfer, progress: Progress) -> Outcome:
        """Hand a message over. An access token that the server refuses is renewed once, and tried once more.

        May be cancelled as `Upstream.deliver`: nothing has left when a login was refused.
        """
        outcome = await self.upstream.deliver(transfer, progress)
        if transfer.secret is None or not _is_refused_login(outcome):
            return outcome
        ref = secret_ref(route.server, route.profile, override=route.override)
        if ref is None or ref.token is None:
            return outcome
        try:
            renewed = await self.secrets.renewed(ref, transfer.secret)
        except SecretUnavailable as error:
            return _without_token(outcome, error)
        if renewed is None:
            return outcome
        return await self.upstream.deliver(replace(transfer, secret=renewed), progress)

    def forget_secret(self, route: Route) -> None:
        """Ask a secret's source anew next time: the server refused what it said."""
        ref = secret_ref(route.server, route.profile, override=route.override)
        if ref is not None:
            self.secrets.forget(ref)

    def _lacks_password(self, route: Route) -> bool:
        ref = secret_ref(route.server, route.profile, override=route.override)
        return route.override and ref is not None and not self.secrets.is_set(ref)


def _is_refused_login(outcome: Outcome) -> bool:
    failure = outcome.failure
    if failure is None or not failure.from_server:
        return False
    return failure.phase is Phase.LOGIN and failure.meaning is Meaning.LOGIN_REFUSED


def _without_token(outcome: Outcome, error: SecretUnavailable) -> Outcome:
    """Return the outcome of a refused login whose token could not be renewed, with the provider's words.

    A provider that is only away is no reason to hold the account: the next attempt asks it again.
    """
    assert outcome.failure is not None
    meaning = Meaning.TEMPORARY if isinstance(error, SecretDelayed) else Meaning.LOGIN_REFUSED
    return replace(outcome, failure=replace(outcome.failure, meaning=meaning, detail=str(error)))


def _no_login(detail: str) -> Refused:
    return Refused(replies.of_meaning(Meaning.LOGIN_REFUSED), detail, Meaning.LOGIN_REFUSED)
