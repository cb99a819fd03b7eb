"""A refused login with an access token: one renewal, one more login, and then what the provider or server says."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.delivery.preparation import Refused
from relay.directory.model import Meaning
from relay.directory.routing import Route, Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.mail.reply import Reply
from relay.secrets.master_key import KeyFile
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.oauth.identity_provider import TokenRefused
from relay.secrets.resolver import SecretResolver
from relay.secrets.secret import SecretRef, secret_ref
from relay.secrets.sources import SecretDelayed
from relay.secrets.vault import Vault
from relay.store.db.database import Database, open_database
from relay.store.people.secrets import SecretTable
from relay.store.queue.queue import Queue
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Transfer
from tests.unit.delivery.bench_kit import make_delivery
from tests.unit.secrets.oauth_kit import Clock, FakeProvider, grant

OAUTH = {"provider": "custom", "client_id": "app", "token_url": "http://127.0.0.1:1/", "authorize_url": "http://[::1]/"}
DIRECTORY: dict[str, Any] = {
    "default_server": "acme",
    "servers": {"acme": {"host": "smtp.acme.example", "auth": "oauth2", "username": "m@acme.example", "oauth": OAUTH}},
    "channels": {"support": {"address": "support@acme.example", "override": True}},
}
ACCEPTED = Outcome(host="h", accepted=Reply(250, "2.0.0", "Ok"))
NO_LOGIN = Failure(phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True)
REFUSED = Outcome(host="h", failure=NO_LOGIN)


class Server:
    """Answers with one outcome after the other, and keeps the tokens it was given."""

    def __init__(self) -> None:
        self.outcomes = [ACCEPTED]
        self.given: list[str] = []

    def begin_cut_through(self, transfer: Transfer) -> None:
        raise AssertionError

    async def deliver(self, transfer: Transfer, progress: Progress) -> Outcome:
        assert transfer.secret is not None
        self.given.append(transfer.secret.value)
        return self.outcomes.pop(0)


class Bench:
    """What makes attempts over a server and a provider that answer as a test says, with one route."""

    def __init__(self, database: Database, vault: Vault, folder: Path) -> None:
        self.server, self.provider, self.clock = Server(), FakeProvider(), Clock()
        self.tokens = Tokens(vault, provider=self.provider, clock=self.clock)
        routing = Routing(parse_directory(DIRECTORY))
        secrets = SecretResolver(vault, {}, folder, tokens=self.tokens)
        queue = Queue(database, "test")
        self.attempts = make_delivery(queue, secrets, routing, self.server).attempts
        route = routing.route(Address.parse("support@acme.example"))
        assert route is not None
        self.route: Route = route

    @property
    def ref(self) -> SecretRef:
        ref = secret_ref(self.route.server, self.route.profile, override=True)
        assert ref is not None
        return ref

    async def hand_over(self) -> Outcome:
        transfer = Transfer(
            server=self.route.server,
            account=self.route.account,
            secret=await self.attempts.secret_of(self.route),
            sender=self.route.identity,
            recipients=(Recipient(Address.parse("jo@customer.example")),),
            content=Content(b"", ()),
        )
        return await self.attempts._send(self.route, transfer, Progress(), None, is_clear=True)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    tmp_path.chmod(0o700)
    database = await open_database(tmp_path / "relay.db")
    yield Bench(database, await Vault.open(SecretTable(database), KeyFile(tmp_path / "master.key")), tmp_path)
    await database.close()


async def test_a_refused_token_is_renewed_and_tried_once_more(bench: Bench) -> None:
    await bench.tokens.keep(bench.ref, grant())
    bench.server.outcomes = [REFUSED, ACCEPTED]
    assert await bench.hand_over() == ACCEPTED
    assert bench.server.given == ["access-0", "access-1"]


async def test_a_second_refusal_is_the_last(bench: Bench) -> None:
    await bench.tokens.keep(bench.ref, grant())
    bench.server.outcomes = [REFUSED, REFUSED]
    assert await bench.hand_over() == REFUSED
    assert len(bench.provider.asked) == 1


async def test_a_provider_that_refuses_says_why(bench: Bench) -> None:
    await bench.tokens.keep(bench.ref, grant())
    bench.server.outcomes = [REFUSED]
    bench.provider.error = TokenRefused("invalid_grant: revoked")
    failure = (await bench.hand_over()).failure
    assert failure is not None
    assert (failure.meaning, failure.why) == (Meaning.LOGIN_REFUSED, "535 5.7.8 no (invalid_grant: revoked)")


async def test_a_provider_that_is_away_is_no_reason_to_hold(bench: Bench) -> None:
    await bench.tokens.keep(bench.ref, grant())
    bench.server.outcomes = [REFUSED]
    bench.provider.error = SecretDelayed("login.example does not answer")
    failure = (await bench.hand_over()).failure
    assert failure is not None
    assert (failure.meaning, failure.detail) == (Meaning.TEMPORARY, "login.example does not answer")


@pytest.mark.parametrize(
    "failure",
    [
        replace(NO_LOGIN, from_server=False),
        replace(NO_LOGIN, phase=Phase.MAIL),
        replace(NO_LOGIN, meaning=Meaning.TEMPORARY),
    ],
)
async def test_nothing_but_a_refused_login_renews_a_token(failure: Failure, bench: Bench) -> None:
    await bench.tokens.keep(bench.ref, grant())
    bench.server.outcomes = [Outcome(host="h", failure=failure)]
    await bench.hand_over()
    assert bench.provider.asked == []


async def test_what_cannot_be_had_now_is_temporary_and_what_is_refused_is_a_refused_login(bench: Bench) -> None:
    with pytest.raises(Refused) as caught:
        await bench.hand_over()
    assert (caught.value.meaning, caught.value.detail) == (
        Meaning.LOGIN_REFUSED,
        "nobody has authorized acme/support@acme.example",
    )
    await bench.tokens.keep(bench.ref, grant(0, 1))
    bench.clock.forward(60)
    for error, meaning in [(SecretDelayed("away"), Meaning.TEMPORARY), (TokenRefused("no"), Meaning.LOGIN_REFUSED)]:
        bench.provider.error = error
        with pytest.raises(Refused) as caught:
            await bench.hand_over()
        assert (caught.value.meaning, caught.value.detail) == (meaning, str(error))
        bench.clock.forward(60)
    assert await bench.attempts.secret_version(bench.route) is not None  # so that its hold is not lifted by itself
