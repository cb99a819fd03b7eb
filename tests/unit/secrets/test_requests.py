"""The requests to an identity provider, against a real one and against answers that none should give.

What a token endpoint says is read here, too, and what the record of it keeps.
"""

import json
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from relay.directory.tables import OAuthClient
from relay.secrets.oauth.identity_provider import StillWaiting, TokenRefused
from relay.secrets.oauth.requests import TokenRequests, grant_of
from relay.secrets.oauth.token_account import new_record, parse_token_record
from relay.secrets.sources import SecretDelayed, SecretUnavailable
from tests.peers.oidc import Client, IdentityServer, identity_server
from tests.peers.system import LOOPBACK, free_port
from tests.unit.secrets.oauth_kit import grant
from tests.unit.secrets.odd_provider import Answer, odd_server

USER = "jane@acmejets.example"
SECRET = "app-secret/+ x"


@pytest.fixture
def identity() -> Iterator[IdentityServer]:
    with identity_server(lambda user, *, seconds, key, jti: f"{user}.{jti}") as server:
        server.clients["public"] = Client("public", "", "")
        server.clients["app"] = Client("app", SECRET, "own@acmejets.example")
        yield server


def client_at(identity: IdentityServer, client_id: str = "public", flow: Any = "code") -> OAuthClient:
    return OAuthClient(client_id=client_id, flow=flow, **identity.table)


@pytest.fixture
def answer() -> Answer:
    return Answer()


@pytest.fixture
def odd(answer: Answer) -> Iterator[OAuthClient]:
    """A client of a provider that answers as a test says."""
    with odd_server(answer) as server:
        yield odd_client(f"http://{LOOPBACK}:{server.server_port}/token")


def odd_client(url: str) -> OAuthClient:
    return OAuthClient(provider="custom", client_id="app", token_url=url, device_url=url)


async def test_a_code_is_redeemed_with_the_verifier_of_its_link_alone(identity: IdentityServer) -> None:
    client, provider = client_at(identity), TokenRequests()
    url = provider.authorization_url(client, USER, "the state", "v" * 43)
    asked = parse_qs(urlsplit(url).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["login_hint"] == [USER]
    assert "v" * 43 not in url
    said = parse_qs(urlsplit(identity.allow_in_browser(url, USER)).query)
    assert said["state"] == ["the state"]
    with pytest.raises(TokenRefused, match="invalid_grant"):
        await provider.redeem(client, "", said["code"][0], "w" * 43)
    grant = await provider.redeem(client, "", said["code"][0], "v" * 43)
    assert (grant.who, grant.seconds, bool(grant.refresh_token)) == (USER, 3600, True)
    with pytest.raises(TokenRefused, match="invalid_grant"):
        await provider.redeem(client, "", said["code"][0], "v" * 43)


async def test_a_rotated_refresh_token_is_good_for_once(identity: IdentityServer) -> None:
    client, provider = client_at(identity), TokenRequests()
    url = provider.authorization_url(client, USER, "s", "v" * 43)
    code = parse_qs(urlsplit(identity.allow_in_browser(url, USER)).query)["code"][0]
    first = await provider.redeem(client, "", code, "v" * 43)
    second = await provider.renew(client, "", first.refresh_token)
    assert second.access_token != first.access_token
    with pytest.raises(TokenRefused, match="invalid_grant") as caught:
        await provider.renew(client, "", first.refresh_token)
    assert first.refresh_token not in str(caught.value)
    identity.behaviour.rotates = False
    assert (await provider.renew(client, "", second.refresh_token)).refresh_token == ""


async def test_a_device_waits_for_its_person(identity: IdentityServer) -> None:
    client, provider = client_at(identity, flow="device"), TokenRequests()
    identity.behaviour.interval = 5
    device = await provider.begin_device(client, "")
    assert device.interval == 5
    with pytest.raises(StillWaiting) as caught:
        await provider.redeem_device(client, "", device.device_code)
    assert not caught.value.slow_down
    with pytest.raises(StillWaiting) as caught:
        await provider.redeem_device(client, "", device.device_code)
    assert caught.value.slow_down
    identity.allow_device(device.user_code, USER)
    assert (await provider.redeem_device(client, "", device.device_code)).who == USER


async def test_a_client_logs_in_as_itself_with_its_secret(identity: IdentityServer) -> None:
    client, provider = client_at(identity, "app", "client_credentials"), TokenRequests()
    assert (await provider.as_itself(client, SECRET, USER)).access_token.startswith("own@acmejets.example.")
    with pytest.raises(TokenRefused, match="invalid_client"):
        await provider.as_itself(client, "wrong", USER)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_busy_provider_is_asked_again(status: int, odd: OAuthClient, answer: Answer) -> None:
    answer.status, answer.body = status, b'{"error": "invalid_grant"}'
    with pytest.raises(SecretDelayed, match=f"HTTP status {status}"):
        await TokenRequests().renew(odd, SECRET, "refresh")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>log in to the guest network</html>",
        b"[]",
        b"{}",
        b'{"access_token": 5}',
        b'{"access_token": "a\\nb"}',
    ],
)
async def test_what_is_no_answer_of_a_token_endpoint_is_none(body: bytes, odd: OAuthClient, answer: Answer) -> None:
    answer.body = body
    with pytest.raises(SecretDelayed, match="did not answer as a token endpoint"):
        await TokenRequests().renew(odd, SECRET, "refresh")


async def test_a_page_that_is_not_there_is_a_refusal(odd: OAuthClient, answer: Answer) -> None:
    answer.status, answer.body = 404, b"<html>not found</html>"
    with pytest.raises(TokenRefused, match="HTTP status 404"):
        await TokenRequests().renew(odd, SECRET, "refresh")


async def test_a_passing_error_is_no_refusal(odd: OAuthClient, answer: Answer) -> None:
    answer.status, answer.body = 400, b'{"error": "temporarily_unavailable", "error_description": "later"}'
    with pytest.raises(SecretDelayed, match="temporarily_unavailable: later"):
        await TokenRequests().renew(odd, SECRET, "refresh")


async def test_nothing_secret_that_a_provider_repeats_is_shown(odd: OAuthClient, answer: Answer) -> None:
    words = f"{SECRET} app-secret%2F%2B%20x my-refresh-token \\u001b[31m"
    answer.status, answer.body = 400, f'{{"error": "invalid_grant", "error_description": "{words}"}}'.encode()
    with pytest.raises(TokenRefused) as caught:
        await TokenRequests().renew(odd, SECRET, "my-refresh-token")
    assert str(caught.value) == "invalid_grant: *** *** ***  [31m"
    assert caught.value.__cause__ is None


async def test_secrets_follow_no_redirect(odd: OAuthClient, answer: Answer) -> None:
    with odd_server(other := Answer()) as elsewhere:
        answer.status, answer.headers = 307, {"Location": f"http://{LOOPBACK}:{elsewhere.server_port}/"}
        with pytest.raises((SecretDelayed, TokenRefused)):
            await TokenRequests().renew(odd, SECRET, "refresh")
    assert len(answer.told) == 1
    assert other.told == []


async def test_a_provider_that_is_not_there_is_asked_again() -> None:
    with pytest.raises(SecretDelayed, match=f"{LOOPBACK} does not answer"):
        await TokenRequests().renew(odd_client(f"http://{LOOPBACK}:{free_port()}/token"), SECRET, "refresh")


async def test_a_certificate_that_nobody_vouches_for_gets_no_secret(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(LOOPBACK).configure_cert(tls)
    answer = Answer(body=b'{"access_token": "a", "token_type": "Bearer"}')
    with odd_server(answer, tls) as server:
        client = odd_client(f"https://{LOOPBACK}:{server.server_port}/token")
        with pytest.raises(SecretDelayed, match="does not answer"):
            await TokenRequests().renew(client, SECRET, "refresh")
        assert answer.told == []
        file = tmp_path_factory.mktemp("tls") / "ca.pem"
        authority.cert_pem.write_to_path(str(file))
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert (await TokenRequests().renew(client, SECRET, "refresh")).access_token == "a"


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one, max_size=2))


def id_token(claims: Any) -> str:
    return f"e30.{urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"


@given(st.dictionaries(st.sampled_from(["access_token", "refresh_token", "expires_in", "id_token", "scope"]), JSON))
def test_any_answer_is_a_grant_or_a_value_error(said: dict[str, Any]) -> None:
    try:
        found = grant_of(said)
    except ValueError:
        return
    assert found.access_token.isprintable()
    assert found.seconds > 0


@given(JSON)
def test_any_id_token_names_somebody_or_nobody(claims: Any) -> None:
    assert grant_of({"access_token": "a", "id_token": id_token(claims)}).who == ""


@pytest.mark.parametrize(
    ("claims", "who"),
    [
        ({"preferred_username": "jane@a.example", "email": "j@b.example"}, "jane@a.example"),
        ({"email": "j@b.example"}, "j@b.example"),
        ({"email": "a\x1b[31m"}, "a [31m"),
        ({"email": 5}, ""),
    ],
)
def test_whom_an_id_token_names(claims: Any, who: str) -> None:
    assert grant_of({"access_token": "a", "id_token": id_token(claims)}).who == who


@pytest.mark.parametrize(
    ("value", "seconds"), [(60, 60), ("3599", 3599), (None, 3600), (0, 3600), ("soon", 3600), (10**12, 366 * 86400)]
)
def test_how_long_a_token_is_good(value: Any, seconds: int) -> None:
    assert grant_of({"access_token": "a", "expires_in": value}).seconds == seconds


def test_a_token_of_another_type_is_none() -> None:
    with pytest.raises(ValueError, match="bearer"):
        grant_of({"access_token": "a", "token_type": "mac"})


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_a_token_is_renewed_ahead_and_while_it_is_good(seconds: int, chance: float) -> None:
    record = new_record(grant(0, seconds), "app", NOW)
    moment = record.renewal_at(chance)
    assert NOW < moment <= NOW + timedelta(seconds=seconds * 0.8)
    assert record.is_usable(moment - timedelta(microseconds=1))
    assert not record.is_usable(record.expires)


def test_an_hours_token_is_renewed_after_three_quarters_of_it() -> None:
    record = new_record(grant(), "app", NOW)
    assert [record.renewal_at(chance) for chance in (0, 1)] == [
        NOW + timedelta(minutes=48),
        NOW + timedelta(minutes=45),
    ]


def test_a_clock_that_was_set_back_makes_a_token_old() -> None:
    record = new_record(grant(), "app", NOW)
    assert record.is_usable(NOW - timedelta(minutes=2))
    assert not record.is_usable(NOW - timedelta(hours=2))


def test_a_record_shows_no_token_and_survives_the_vault() -> None:
    record = new_record(grant(5), "app", NOW)
    assert "access-5" not in repr(record)
    assert "refresh-5" not in repr(record)
    assert parse_token_record(record.as_text, "oauth/profile/x") == record


def test_a_record_of_another_form_says_what_to_do() -> None:
    with pytest.raises(SecretUnavailable, match=r"oauth/profile/x .* authorize it again"):
        parse_token_record('{"version": 2}', "oauth/profile/x")
