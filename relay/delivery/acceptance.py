"""Acceptance: which client may send as whom, and where it hands over a message (`relay.listener.ports.Acceptance`)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.config.settings import Settings
from relay.delivery import replies
from relay.delivery.attempt import Attempts
from relay.delivery.events import Journey
from relay.delivery.history import History
from relay.delivery.preparation import Refused
from relay.delivery.submission import Submission
from relay.directory.client import Client, bounce_routes, is_bounce
from relay.directory.model import Account, Auth, Mode
from relay.directory.routing import Route, Routing
from relay.limits.limiter import is_limited
from relay.mail.address import Address
from relay.mail.envelope import Envelope
from relay.mail.header import Header
from relay.mail.identity import from_address
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.secrets.resolver import SecretResolver
from relay.secrets.secret import secret_ref

# What is stored in mode queued and sent at once from memory, instead of being read again: as many messages for each
# connection of an account, and as many octets of all accounts.
_FOR_EACH_CONNECTION = 5
_MOST_OCTETS = 32 * 1024 * 1024
_MOST_ROUTES = 4096


@dataclass(slots=True, kw_only=True)
class Acceptance:
    """Accepts messages at every listener of one relay. `hostname` is what we are called.

    `routing` returns the routing of the directory in effect, `why_not` the reply that says why no mail is taken just
    now. `is_behind` says whether mail of an account waits in the queue. `tell` is told how each submission ended.
    """

    hostname: str
    routing: Callable[[], Routing]
    secrets: SecretResolver
    attempts: Attempts
    history: History
    tell: Callable[[Journey], None]
    why_not: Callable[[], Reply | None] = lambda: None
    is_behind: Callable[[Account], bool] = lambda _: False
    profile_url: str = ""  # where an agent sets the email password; "" where no pages are served
    mode: Mode = Mode.AUTO
    patience: float = 15.0  # auto: seconds that a client waits
    direct_patience: float = 100.0  # seconds to our final dot: RFC 6409 section 5.3 wants an answer within 2 minutes
    _sent_at_once: dict[str, int] = field(default_factory=dict)  # messages that are under way, by `Account.text`
    _octets_at_once: int = 0
    # By what a client may send as, and the sender: the routes that were asked for, of one routing.
    _routes: dict[tuple[tuple[str, ...], str], Route] = field(default_factory=dict)
    _routes_of: Routing | None = None
    _loop: asyncio.AbstractEventLoop | None = None  # kept: to ask for it costs a system call, in Python 3.11

    def adopt(self, settings: Settings) -> None:
        """Work by these settings from now on."""
        self.profile_url = settings.web.public_url if settings.web.address else ""
        self.mode = Mode(settings.delivery.mode)
        self.patience = settings.delivery.patience

    def check_sender(self, client: Client, envelope: Envelope) -> Reply | None:
        """Say at MAIL why this client may not send as this sender; None lets it go on.

        A null sender names nobody: the From header decides at the end of the data.
        """
        if not client.may_submit:
            return replies.AUTHENTICATION_REQUIRED
        if envelope.sender is not None:
            try:
                self.find_route(client, envelope.sender)
            except Refused as refusal:
                return refusal.reply
        return self.why_not()

    def open(self, client: Client, envelope: Envelope, arrival: Arrival) -> Submission:
        """Begin one submission; its content follows."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return Submission(self, self.attempts, loop, client, envelope, arrival)

    def find_route(self, client: Client, sender: Address) -> Route:
        """Return the route of a sender for this client. Raises Refused."""
        routing, key = self.routing(), (client.may_send_as, sender.text)
        if routing is not self._routes_of or len(self._routes) >= _MOST_ROUTES:
            self._routes, self._routes_of = {}, routing
        route = self._routes.get(key)
        if route is None:
            route = routing.route(sender)
            if route is None:
                raise Refused(replies.no_profile(sender))
            profile = route.profile
            if not (client.allows(profile) if profile else client.allows_anyone):
                raise Refused(replies.not_yours(sender, client.name))
            self._routes[key] = route
        if route.override and route.server.auth is not Auth.NONE and self._lacks_password(route):
            raise Refused(replies.no_password(sender, self.profile_url))
        return route

    def route_of_message(self, client: Client, envelope: Envelope, header: Header) -> Route:
        """Return the route of a message: by its envelope sender, or by From where that is null. Raises Refused.

        It goes by the backup of its server where that is away.
        """
        if envelope.sender is not None:
            route = self.find_route(client, envelope.sender)
        else:
            route = self._route_of_null_sender(client, envelope, header)
        return self.attempts.backups.way(route) if route.server.backup else route

    def _route_of_null_sender(self, client: Client, envelope: Envelope, header: Header) -> Route:
        """Return the route by the From header.

        A bounce of a mail server behind us leaves by the first of its routes that has a password.
        """
        author = from_address(header)
        if author is None:
            raise Refused(replies.NULL_SENDER_WITHOUT_FROM)
        routing = self.routing()
        if not is_bounce(routing, client, author):
            return self.find_route(client, author)
        routes = list(bounce_routes(routing, client, (one.address for one in envelope.recipients)))
        if not routes:
            raise Refused(replies.no_profile(author))
        route = next((one for one in routes if not (one.override and self._lacks_password(one))), None)
        if route is None:
            raise Refused(replies.no_password(routes[0].identity, self.profile_url))
        return route

    def mode_of(self, route: Route) -> Mode:
        """Return the mode of messages that leave by a route."""
        return (route.profile.mode if route.profile else None) or self.mode

    def may_send_at_once(self, route: Route, octets: int, connections: int) -> bool:
        """Whether a message of mode queued may be sent from memory as soon as it is stored.

        Not before older mail of its account, which has so many connections, and not where many are sent so already:
        what waits on disk needs no memory.
        """
        account = route.account
        if is_limited(route.server) or self.is_behind(account):
            return False
        if self._octets_at_once + octets > _MOST_OCTETS:
            return False
        return self._sent_at_once.get(account.text, 0) < connections * _FOR_EACH_CONNECTION

    def begin_at_once(self, account: Account, octets: int) -> None:
        """Count a message that is sent so, until `end_at_once`."""
        self._sent_at_once[account.text] = self._sent_at_once.get(account.text, 0) + 1
        self._octets_at_once += octets

    def end_at_once(self, account: Account, octets: int) -> None:
        """That has ended."""
        self._octets_at_once -= octets
        left = self._sent_at_once[account.text] - 1
        if left:
            self._sent_at_once[account.text] = left
        else:
            del self._sent_at_once[account.text]

    def _lacks_password(self, route: Route) -> bool:
        ref = secret_ref(route.server, route.profile, override=route.override)
        return ref is not None and not self.secrets.is_set(ref)
