"""Access tokens where several processes share a store: each may renew, one at a time, and none spends a token twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.cluster import token_renewal
from relay.cluster.token_renewal import ByLease
from relay.secrets.master_key import key_source
from relay.secrets.oauth import access_tokens as oauth
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.renewal_lease import LeasesAway
from relay.secrets.secret import SecretRef
from relay.secrets.sources import SecretDelayed
from relay.secrets.vault import Vault
from relay.store.cluster.leases import LeaseTable, NamedLease
from relay.store.db.database import open_database
from relay.store.db.errors import StoreError
from relay.store.people.secrets import SecretTable
from tests.peers.moments import a_while
from tests.unit.secrets.oauth_kit import Clock, FakeProvider, grant, ref_to

REF = ref_to()


class Table(LeaseTable):
    """A table that can be away."""

    is_away = False

    async def take(self, name: str, seconds: float) -> NamedLease | None:
        if self.is_away:
            raise StoreError("the store is away")
        return await super().take(name, seconds)


@dataclass
class Node:
    """One relay, with a provider of its own to be asked, and gates of its own."""

    tokens: Tokens
    vault: Vault
    table: Table
    provider: FakeProvider

    async def secret(self, ref: SecretRef = REF) -> str:
        secret = await self.tokens.secret(ref)
        assert secret is not None
        return secret.value


@dataclass
class House:
    one: Node
    two: Node
    clock: Clock

    async def authorize(self, ref: SecretRef = REF) -> None:
        await self.one.tokens.keep(ref, grant())
        await self.two.vault.refresh()
        assert await self.one.secret(ref) == await self.two.secret(ref) == "access-0"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock, nodes = Clock(), list[Node]()
    async with AsyncExitStack() as stack:
        for owner in ("one", "two"):
            database = await open_database(tmp_path / "relay.db")
            stack.push_async_callback(database.close)
            vault = await Vault.open(SecretTable(database), key_source("file:master.key", tmp_path, {}))
            table, provider = Table(database, owner, clock=clock), FakeProvider()
            leases = ByLease(table, timer=clock.seconds)
            tokens = Tokens(vault, provider=provider, clock=clock, leases=leases)
            nodes.append(Node(tokens, vault, table, provider))
        yield House(nodes[0], nodes[1], clock)
        for node in nodes:
            await node.tokens.aclose()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - threads of the store are waited for
            await asyncio.sleep(0.01)


async def test_two_that_need_a_token_at_once_spend_one_refresh_token(house: House) -> None:
    asked = house.two.provider.asked = house.one.provider.asked  # it is one provider
    await house.authorize()
    for number in range(3):
        house.clock.forward(4000)
        found = await asyncio.gather(*(node.secret() for node in (house.one, house.two) * 3))
        assert found == [f"access-{number + 1}"] * 6
        assert asked == [(f"refresh-{spent}", "") for spent in range(number + 1)], "each once"


async def test_who_meets_a_refused_token_that_another_has_renewed_asks_nobody(house: House) -> None:
    await house.authorize()
    refused = await house.two.tokens.secret(REF)
    assert refused is not None
    assert (await house.one.tokens.renewed(REF, refused)).value == "access-1"  # type: ignore[union-attr]
    assert (await house.two.tokens.renewed(REF, refused)).value == "access-1"  # type: ignore[union-attr]
    assert house.two.provider.asked == []


async def test_who_was_stopped_while_it_asked_overwrites_nothing(house: House) -> None:
    await house.authorize()
    house.clock.forward(4000)
    house.one.provider.gate = asyncio.Event()
    late = asyncio.create_task(house.one.secret())
    await until(lambda: bool(house.one.provider.asked))
    house.clock.forward(61)  # its lease is over, and the provider lets another do it with the same token
    house.two.provider.asked.append(("", ""))  # so that what it gives has another number
    assert await house.two.secret() == "access-2"
    house.one.provider.gate.set()
    assert await late == "access-2"
    assert "refresh-2" in (await house.one.vault.latest(REF.owner)).value  # type: ignore[union-attr]


async def test_who_was_stopped_before_it_asked_does_not_ask(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.authorize()
    house.clock.forward(4000)
    latest = house.one.vault.latest

    async def stopped(owner: str) -> object:
        house.clock.forward(40)
        return await latest(owner)

    monkeypatch.setattr(house.one.vault, "latest", stopped)
    with pytest.raises(SecretDelayed, match="another process may be renewing"):
        await house.one.secret()
    assert house.one.provider.asked == []
    assert await house.two.secret() == "access-1"


async def test_an_authorization_that_comes_while_another_renews_counts(house: House) -> None:
    await house.authorize()
    house.clock.forward(4000)
    house.one.provider.gate = asyncio.Event()
    renewing = asyncio.create_task(house.one.secret())
    await until(lambda: bool(house.one.provider.asked))
    keeping = asyncio.create_task(house.two.tokens.keep(REF, grant(7)))
    await a_while(0.1)
    assert not keeping.done(), "it waits for the renewal"
    house.one.provider.gate.set()
    assert await renewing == "access-1"
    await keeping
    await house.one.vault.refresh()
    assert await house.one.secret() == await house.two.secret() == "access-7"


async def test_who_waits_for_too_long_comes_back_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_renewal, "_WAIT_SECONDS", -1.0)
    await house.authorize()
    house.clock.forward(4000)
    assert await house.one.table.take(f"token/{REF.owner}", 60) is not None
    with pytest.raises(SecretDelayed, match="another process at the same store is renewing the access token"):
        await house.two.secret()
    assert house.two.provider.asked == []


async def test_without_the_store_no_token_is_spent_that_may_be_good_for_once(house: House) -> None:
    await house.authorize()
    house.clock.forward(4000)
    house.one.table.is_away = True
    with pytest.raises(LeasesAway, match="nobody can tell who else renews the access token: the store is away"):
        await house.one.secret()
    assert house.one.provider.asked == []
    house.one.table.is_away = False
    assert await house.one.secret() == "access-1"


@pytest.mark.parametrize(
    ("provider", "flow"), [("microsoft", "code"), ("google", "code"), ("custom", "client_credentials")]
)
async def test_without_the_store_each_renews_in_memory_what_is_not_spent(
    house: House, provider: str, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = ref_to(flow, provider=provider)
    if flow == "code":
        await house.authorize(ref)
    else:
        place = ref.token.client_bound_to if ref.token else ""
        await house.one.vault.put("client/acme", "client-secret", bound_to=place)
        await house.two.vault.refresh()
        assert await house.one.secret(ref) == await house.two.secret(ref)
    before = len(house.one.provider.asked)
    house.clock.forward(4000)

    async def away(_: str) -> None:
        raise StoreError("the store is away")

    monkeypatch.setattr(oauth, "_AWAY_SECONDS", (0.01,))
    first = f"access-{before + 1}"
    with monkeypatch.context() as patch:
        for node in (house.one, house.two):
            node.table.is_away = True
            patch.setattr(node.vault._store, "get", away)
        for _ in range(3):
            assert await house.one.secret(ref) == first, "one renewal, however often it is needed"
        await house.two.secret(ref)
        house.clock.forward(4000)
        assert await house.one.secret(ref) == f"access-{before + 2}"
        await a_while(0.05)
        assert len(house.one.provider.asked) == before + 2, "the store is tried again, not the provider"
    house.one.table.is_away = False
    await until(lambda: house.one.tokens._account(ref).unsaved is None)
    kept = await house.two.vault.latest(ref.owner)
    assert kept is not None
    assert f'"access-{before + 2}"' in kept.value
    house.two.table.is_away = False
    await until(lambda: house.two.tokens._account(ref).unsaved is None)
    assert await house.two.secret(ref) == f"access-{before + 2}", "what another has saved counts"
