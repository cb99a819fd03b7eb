"""The tokens of accounts: when they are asked for, what is kept of them, and what their version says."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.oauth.identity_provider import TokenRefused
from relay.secrets.secret import Secret, client_owner
from relay.secrets.sources import SecretDelayed
from relay.secrets.vault import Vault
from tests.peers.moments import a_while
from tests.unit.secrets.oauth_kit import Clock, FakeProvider, grant, ref_to

REF = ref_to()
OWN = ref_to("client_credentials")
assert OWN.token is not None
CLIENT_PLACE = OWN.token.client_bound_to
ELSEWHERE = ref_to(host="elsewhere")
OWN_ELSEWHERE = ref_to("client_credentials", host="elsewhere")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def tokens(vault: Vault, provider: FakeProvider, clock: Clock) -> Tokens:
    return Tokens(vault, provider=provider, clock=clock, chance=lambda: 0.5)


async def secret_of(tokens: Tokens, ref: object = REF) -> Secret:
    secret = await tokens.secret(ref)  # type: ignore[arg-type]
    assert secret is not None
    return secret


async def kept(vault: Vault) -> str:
    secret = await vault.get(REF.owner)
    return secret.value if secret else ""


async def test_an_account_that_nobody_authorized_has_no_secret(tokens: Tokens, provider: FakeProvider) -> None:
    assert not tokens.is_set(REF)
    assert await tokens.secret(REF) is None
    assert await tokens.version(REF) is None
    assert (await tokens.state(REF)).state == "missing"
    assert provider.asked == []


async def test_a_good_token_is_given_without_asking(tokens: Tokens, provider: FakeProvider, clock: Clock) -> None:
    await tokens.keep(REF, grant())
    clock.forward(3500)
    assert (await secret_of(tokens)).value == "access-0"
    assert provider.asked == []


async def test_an_old_token_is_renewed_and_the_version_stays(
    tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault
) -> None:
    await tokens.keep(REF, grant())
    before = await secret_of(tokens)
    clock.forward(3550)
    after = await secret_of(tokens)
    assert (after.value, after.version) == ("access-1", before.version)
    assert provider.asked == [("refresh-0", "")]
    assert "refresh-1" in await kept(vault)


async def test_all_who_wait_share_one_renewal_and_who_leaves_ends_none(
    tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault
) -> None:
    await tokens.keep(REF, grant())
    clock.forward(4000)
    provider.gate = asyncio.Event()
    waiting = [asyncio.create_task(secret_of(tokens)) for _ in range(20)]
    await until(lambda: bool(provider.asked))
    waiting[0].cancel()
    provider.gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {one.value for one in found[1:] if isinstance(one, Secret)} == {"access-1"}
    assert len(provider.asked) == 1
    assert "refresh-1" in await kept(vault)


async def renewed_on_a_full_disk(tokens: Tokens, clock: Clock, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a token be renewed that cannot be kept."""
    await tokens.keep(REF, grant())
    clock.forward(4000)

    async def full(owner: str, value: str, *, bound_to: str, under: object = None) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(vault, "put", full)
        with pytest.raises(OSError, match="full"):
            await tokens.secret(REF)


async def test_what_the_provider_rotated_is_stored_before_it_is_used(
    tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await renewed_on_a_full_disk(tokens, clock, vault, monkeypatch)
    assert (await secret_of(tokens)).value == "access-1"
    assert len(provider.asked) == 1  # what came was not lost, and not asked for again


async def test_the_provider_is_away(tokens: Tokens, provider: FakeProvider, clock: Clock) -> None:
    await tokens.keep(REF, grant())
    clock.forward(4000)
    provider.error = SecretDelayed("it does not answer")
    for _ in range(3):
        with pytest.raises(SecretDelayed, match="does not answer"):
            await tokens.secret(REF)
    assert len(provider.asked) == 1
    assert (await tokens.state(REF)).state == "delayed"
    provider.error = None
    clock.forward(10)
    assert (await secret_of(tokens)).value == "access-2"
    assert (await tokens.state(REF)).state == "ok"


async def test_a_clock_that_is_set_back_keeps_nobody_from_asking_again(
    tokens: Tokens, provider: FakeProvider, clock: Clock
) -> None:
    await tokens.keep(REF, grant())
    clock.forward(4000)
    provider.error = SecretDelayed("it does not answer")
    with pytest.raises(SecretDelayed):
        await tokens.secret(REF)
    provider.error = None
    clock.forward(-2 * 3600)
    assert (await tokens.try_out(REF)).access_token == "access-2"
    clock.forward(4000)
    provider.error = SecretDelayed("it does not answer")
    with pytest.raises(SecretDelayed):
        await tokens.secret(REF)
    provider.error = None
    clock.forward(-900)
    refused = await secret_of(tokens)
    assert refused.value == "access-2"
    renewed = await tokens.renewed(REF, refused)
    assert renewed is not None
    assert renewed.value == "access-4"


async def test_the_provider_refuses(tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault) -> None:
    await tokens.keep(REF, grant())
    old = await secret_of(tokens)
    clock.forward(4000)
    provider.error = TokenRefused("invalid_grant: revoked by the user")
    for _ in range(3):
        with pytest.raises(TokenRefused, match="revoked by the user"):
            await tokens.secret(REF)
    assert len(provider.asked) == 1
    assert await tokens.version(REF) == old.version
    state = await Tokens(vault, provider=provider, clock=clock).state(REF)  # also after a restart
    assert (state.state, state.error) == ("refused", "invalid_grant: revoked by the user")

    provider.error = None
    await tokens.keep(REF, grant(7))
    assert (await secret_of(tokens)).value == "access-7"
    assert await tokens.version(REF) != old.version
    assert (await tokens.state(REF)).state == "ok"


async def test_a_good_token_is_used_while_nothing_can_be_renewed(
    tokens: Tokens, provider: FakeProvider, clock: Clock
) -> None:
    await tokens.keep(REF, grant())
    provider.error = TokenRefused("no")
    with pytest.raises(TokenRefused):
        await tokens.renewed(REF, Secret("access-0", ""))
    assert (await secret_of(tokens)).value == "access-0"


async def test_a_refused_token_is_renewed_once_for_all(tokens: Tokens, provider: FakeProvider) -> None:
    await tokens.keep(REF, grant())
    refused = await secret_of(tokens)
    found = await asyncio.gather(*[tokens.renewed(REF, refused) for _ in range(5)])
    late = await tokens.renewed(REF, refused)
    assert {one.value for one in [*found, late] if one} == {"access-1"}
    assert len(provider.asked) == 1


async def test_a_client_by_itself_needs_its_secret_alone(tokens: Tokens, provider: FakeProvider, vault: Vault) -> None:
    assert await tokens.secret(OWN) is None
    await vault.put(client_owner("acme"), "first", bound_to=CLIENT_PLACE)
    before = await secret_of(tokens, OWN)
    assert await tokens.version(OWN) == before.version
    await vault.put(client_owner("acme"), "second", bound_to=CLIENT_PLACE)
    assert await tokens.version(OWN) != before.version
    assert (await secret_of(tokens, OWN)).value == "access-2"
    assert provider.asked == [("", "first"), ("", "second")]


async def test_another_key_in_the_key_file_is_a_new_version_and_tried_at_once(
    tokens: Tokens, provider: FakeProvider, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    key.write_text("the first")
    assert OWN.token is not None
    ref = replace(OWN, token=replace(OWN.token, client=replace(OWN.token.client, key_file=str(key))))
    before = await secret_of(tokens, ref)
    assert await tokens.version(ref) == before.version
    assert (await secret_of(tokens, ref)).value == "access-1"
    provider.error = TokenRefused("the certificate has ended")
    key.write_text("the second, which is refused")
    refused = await tokens.version(ref)
    assert refused != before.version
    with pytest.raises(TokenRefused):
        await tokens.secret(ref)
    key.unlink()  # in the middle of a change
    assert await tokens.version(ref) == refused
    provider.error = None
    key.write_text("the third")
    assert await tokens.version(ref) not in {refused, before.version}
    assert (await secret_of(tokens, ref)).value == "access-3"


async def test_a_new_client_secret_is_a_new_version_and_tried_at_once(
    tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault
) -> None:
    await tokens.keep(REF, grant())
    clock.forward(4000)
    provider.error = TokenRefused("invalid_client")
    with pytest.raises(TokenRefused):
        await tokens.secret(REF)
    before = await tokens.version(REF)
    provider.error = None
    await vault.put(client_owner("acme"), "right", bound_to=CLIENT_PLACE)
    assert await tokens.version(REF) != before
    assert (await secret_of(tokens)).value == "access-2"


async def test_tokens_of_another_client_are_none(tokens: Tokens) -> None:
    await tokens.keep(REF, grant())
    assert await tokens.secret(ref_to(client_id="another")) is None


async def test_an_authorization_during_a_renewal_counts(
    tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault
) -> None:
    await tokens.keep(REF, grant())
    clock.forward(4000)
    provider.gate = asyncio.Event()
    waiting = asyncio.create_task(secret_of(tokens))
    await until(lambda: bool(provider.asked))
    await tokens.keep(REF, grant(7))
    provider.gate.set()
    assert (await waiting).value == "access-7"
    assert "refresh-7" in await kept(vault)


async def test_a_renewal_is_for_the_server_that_it_began_for(
    tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault
) -> None:
    """The directory names another host while the provider is asked: what it gives is durable, and for the first one."""
    await tokens.keep(REF, grant())
    clock.forward(4000)
    provider.gate = asyncio.Event()
    waiting = asyncio.create_task(secret_of(tokens))
    await until(lambda: bool(provider.asked))
    assert not tokens.is_set(ELSEWHERE)
    assert await tokens.secret(ELSEWHERE) is None, "nobody is given what another server's renewal brings"
    assert await tokens.version(ELSEWHERE) is None
    assert (await tokens.state(ELSEWHERE)).state == "missing"
    provider.gate.set()
    assert (await waiting).value == "access-1"
    assert "refresh-1" in await kept(vault)
    assert vault.bound_to(REF.owner) == REF.bound_to
    assert await tokens.secret(ELSEWHERE) is None
    assert (await secret_of(tokens)).value == "access-1", "where the host is put back it counts"
    assert len(provider.asked) == 1


async def test_a_token_of_a_client_by_itself_is_for_the_server_that_it_was_asked_for(
    tokens: Tokens, provider: FakeProvider, vault: Vault
) -> None:
    await vault.put(client_owner("acme"), "first", bound_to=CLIENT_PLACE)
    provider.gate = asyncio.Event()
    waiting = asyncio.create_task(secret_of(tokens, OWN))
    await until(lambda: bool(provider.asked))
    assert await tokens.secret(OWN_ELSEWHERE) is None
    assert (await tokens.state(OWN_ELSEWHERE)).state == "missing"
    provider.gate.set()
    assert (await waiting).value == "access-1"
    assert vault.bound_to(OWN.owner) == OWN.bound_to
    assert provider.asked == [("", "first")]


async def test_what_could_not_be_kept_goes_to_no_other_server(
    tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await renewed_on_a_full_disk(tokens, clock, vault, monkeypatch)
    assert await tokens.secret(ELSEWHERE) is None
    assert (await secret_of(tokens)).value == "access-1"


async def test_what_is_not_bound_yet_is_delayed(tokens: Tokens, provider: FakeProvider, vault: Vault) -> None:
    await vault.put(client_owner("acme"), "first")
    with pytest.raises(SecretDelayed, match="another node"):
        await tokens.secret(OWN)
    assert provider.asked == []


async def test_what_is_forgotten_during_a_renewal_stays_so(
    tokens: Tokens, provider: FakeProvider, clock: Clock, vault: Vault
) -> None:
    await tokens.keep(REF, grant())
    clock.forward(4000)
    provider.gate = asyncio.Event()
    waiting = asyncio.create_task(tokens.secret(REF))
    await until(lambda: bool(provider.asked))
    await tokens.forget(REF.owner)
    provider.gate.set()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not vault.has(REF.owner)


async def test_a_service_renews_ahead_also_what_nobody_uses(vault: Vault, provider: FakeProvider) -> None:
    provider.seconds = 1
    tokens = Tokens(vault, renews_ahead=lambda: True, provider=provider)
    await tokens.keep(REF, grant(0, 1))
    await until(lambda: len(provider.asked) == 2)  # by itself: nobody asks for a token meanwhile
    provider.error = TokenRefused("revoked by the user")
    await until(lambda: len(provider.asked) == 3)
    await a_while(1.5)
    assert len(provider.asked) == 3  # a refusal is the last word, until somebody authorizes it anew
    provider.error = None
    await tokens.keep(REF, grant(7, 1))
    await until(lambda: len(provider.asked) == 4)
    await tokens.aclose()


async def test_after_a_start_the_accounts_of_the_directory_are_renewed_ahead(
    vault: Vault, provider: FakeProvider
) -> None:
    provider.seconds = 1
    await Tokens(vault, provider=provider).keep(REF, grant(0, 1))
    tokens = Tokens(vault, renews_ahead=lambda: True, provider=provider)
    tokens.watch([REF])
    await until(lambda: len(provider.asked) == 2)
    tokens.watch([])  # its server or profile is gone
    await a_while(0.1)
    before = len(provider.asked)
    await a_while(1.5)
    assert len(provider.asked) == before
    await tokens.aclose()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  a provider has no event
            await asyncio.sleep(0.01)
