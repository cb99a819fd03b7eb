"""Access tokens where there are several workers: the first alone asks the providers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from relay.secrets.key_source import key_source
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.oauth.answers import TokenRefused
from relay.secrets.renewal_lease import StoreAway, Unguarded
from relay.secrets.secret import Secret, SecretRef
from relay.secrets.sources import SecretDelayed, SecretUnavailable
from relay.secrets.vault import Vault
from relay.store.db.database import Database, open_database
from relay.store.db.errors import StoreError
from relay.store.people.secrets import SecretTable
from relay.workers.renewal import ByTheFirst, renew_for_all
from tests.unit.secrets.oauth_kit import Clock, FakeProvider, grant, ref_to
from tests.unit.workers.workers_kit import several

REF = ref_to()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(tmp_path / "relay.db")
    yield opened
    await opened.close()


async def vault_of(database: Database, folder: Path) -> Vault:
    return await Vault.open(SecretTable(database), key_source("file:master.key", folder, {}))


async def secret_of(tokens: Tokens) -> Secret:
    secret = await tokens.secret(REF)
    assert secret is not None
    return secret


async def test_workers_that_need_a_new_token_at_once_have_it_asked_for_once(database: Database, tmp_path: Path) -> None:
    clock, provider = Clock(), FakeProvider()
    async with several(3) as siblings:
        first = Tokens(await vault_of(database, tmp_path), provider=provider, clock=clock)
        await first.keep(REF, grant())
        others = [
            Tokens(await vault_of(database, tmp_path), provider=NoProvider(), clock=clock, elsewhere=ByTheFirst(one))
            for one in siblings[1:]
        ]
        renew_for_all(siblings[0], first, lambda: [REF])
        assert [(await secret_of(one)).value for one in (first, *others)] == ["access-0"] * 3

        clock.forward(4000)
        found = await asyncio.gather(*(secret_of(one) for one in (*others, first, *others)))
        assert {secret.value for secret in found} == {"access-1"}
        assert provider.asked == [("refresh-0", "")]

        # Both meet a server that refuses it, one after the other.
        for one in others:
            renewed = await one.renewed(REF, found[0])
            assert renewed is not None
            assert renewed.value == "access-2"
        assert len(provider.asked) == 2


@pytest.mark.parametrize("error", [TokenRefused("no more"), SecretDelayed("away"), SecretUnavailable("broken")])
async def test_what_the_first_is_told_the_others_are_told(
    error: SecretUnavailable, database: Database, tmp_path: Path
) -> None:
    clock, provider = Clock(), FakeProvider(error=error)
    async with several(2) as (one, two):
        first = Tokens(await vault_of(database, tmp_path), provider=provider, clock=clock)
        await first.keep(REF, grant())
        second = Tokens(await vault_of(database, tmp_path), clock=clock, elsewhere=ByTheFirst(two))
        renew_for_all(one, first, lambda: [REF])
        clock.forward(4000)
        with pytest.raises(type(error), match=str(error)):
            await second.secret(REF)


async def test_without_the_first_a_token_comes_later(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.workers.renewal._SECONDS", 0.05)
    clock = Clock()
    async with several(2) as (_, two):
        second = Tokens(await vault_of(database, tmp_path), clock=clock, elsewhere=ByTheFirst(two))
        await second.keep(REF, grant())
        clock.forward(4000)
        with pytest.raises(SecretDelayed, match="the worker that renews access tokens does not answer"):
            await second.secret(REF)


class NoProvider(FakeProvider):
    """Is not to be asked."""

    async def _give(self, told: str, secret: str) -> None:  # type: ignore[override]
        raise AssertionError("only the first worker asks")


class StoreIsAway:
    """The guard of a store that is away."""

    def alone(self, owner: str) -> AbstractAsyncContextManager[Unguarded]:
        raise StoreAway(f"nobody can tell who renews {owner}")


@asynccontextmanager
async def without_a_store(database: Database, folder: Path, ref: SecretRef) -> AsyncIterator[list[Tokens]]:
    """The first worker and another, whose token is over."""
    clock = Clock()
    async with several(2) as (one, two):
        keeper = Tokens(await vault_of(database, folder), clock=clock)
        await keeper.keep(ref, grant())
        workers = [
            Tokens(
                await vault_of(database, folder),
                provider=FakeProvider(),
                clock=clock,
                guard=StoreIsAway(),
                elsewhere=elsewhere,
            )
            for elsewhere in (None, ByTheFirst(two))
        ]
        renew_for_all(one, workers[0], lambda: [ref])
        clock.forward(4000)
        yield workers
        for tokens in workers:
            await tokens.aclose()


async def asked(tokens: Tokens) -> list[tuple[str, str]]:
    provider = await tokens.provider()
    assert isinstance(provider, FakeProvider)
    return provider.asked


async def test_without_the_store_no_worker_spends_a_token(database: Database, tmp_path: Path) -> None:
    async with without_a_store(database, tmp_path, REF) as workers:
        for tokens in reversed(workers):
            with pytest.raises(StoreAway, match="nobody can tell who renews"):
                await tokens.secret(REF)
            assert await asked(tokens) == []


async def test_without_the_store_each_worker_renews_in_memory_what_is_not_spent(
    database: Database, tmp_path: Path
) -> None:
    ref = ref_to(provider="microsoft")
    async with without_a_store(database, tmp_path, ref) as workers:
        for tokens in reversed(workers):
            for _ in range(2):
                secret = await tokens.secret(ref)
                assert secret is not None
                assert secret.value == "access-1"
        assert [len(await asked(tokens)) for tokens in workers] == [1, 1]


async def test_a_first_worker_whose_store_is_lost_says_so(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with several(2) as (one, two):
        first = Tokens(await vault_of(database, tmp_path), provider=FakeProvider(), clock=clock)
        await first.keep(REF, grant())
        second = Tokens(await vault_of(database, tmp_path), clock=clock, elsewhere=ByTheFirst(two))
        renew_for_all(one, first, lambda: [REF])
        clock.forward(4000)

        async def away(owner: str) -> None:
            raise StoreError(f"the store is away, and {owner} in it")

        monkeypatch.setattr(first._vault, "latest", away)
        with pytest.raises(StoreAway, match="the store is away"):
            await second.secret(REF)
