"""A client signs for itself, with a certificate's key or a service account's; its key is in no error."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import RSAKey

from relay.directory.tables import OAuthClient
from relay.secrets.oauth.identity_provider import TokenRefused
from relay.secrets.oauth.requests import TokenRequests
from tests.peers.system import LOOPBACK
from tests.unit.secrets.odd_provider import Answer, odd_server

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
TOKEN = json.dumps({"token_type": "Bearer", "access_token": "t", "expires_in": 3599}).encode()
USER = "support@acmejets.example"


def _certificate(key: rsa.RSAPrivateKey = KEY) -> x509.Certificate:
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
    return made.sign(key, hashes.SHA256())


@pytest.fixture
def asked() -> Iterator[tuple[Answer, str]]:
    answer = Answer(body=TOKEN, headers={"Content-Type": "application/json"})
    with odd_server(answer) as server:
        yield answer, f"http://{LOOPBACK}:{server.server_port}/token"


def client_at(url: str, path: Path) -> OAuthClient:
    return OAuthClient(
        provider="custom", client_id="app", token_url=url, scope="mail", flow="client_credentials", key_file=str(path)
    )


async def test_an_app_signs_with_the_key_of_its_certificate(asked: tuple[Answer, str], tmp_path: Path) -> None:
    answer, url = asked
    path = tmp_path / "app.pem"
    path.write_bytes(_certificate().public_bytes(serialization.Encoding.PEM) + PEM)
    grant = await TokenRequests().as_itself(client_at(url, path), "", USER)
    assert (grant.access_token, grant.seconds) == ("t", 3599)
    told = {key: value[0] for key, value in parse_qs(answer.told[0]).items()}
    signed = jwt.decode(told.pop("client_assertion"), RSAKey.import_key(PEM), algorithms=["PS256"])
    assert signed.header["x5t#S256"]
    assert (signed.claims["iss"], signed.claims["sub"], signed.claims["aud"]) == ("app", "app", url)
    assert told == {
        "grant_type": "client_credentials",
        "client_id": "app",
        "scope": "mail",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }


async def test_a_service_account_signs_for_the_user(asked: tuple[Answer, str], tmp_path: Path) -> None:
    answer, url = asked
    path = tmp_path / "account.json"
    account = {"type": "service_account", "client_email": "relay@p.iam.example", "private_key_id": "k1"}
    path.write_text(json.dumps({**account, "private_key": PEM.decode()}))
    await TokenRequests().as_itself(client_at(url, path), "", USER)
    told = {key: value[0] for key, value in parse_qs(answer.told[0]).items()}
    signed = jwt.decode(told.pop("assertion"), RSAKey.import_key(PEM), algorithms=["RS256"])
    claims = signed.claims
    assert (claims["iss"], claims["sub"], claims["scope"]) == ("relay@p.iam.example", USER, "mail")
    assert claims["exp"] - claims["iat"] <= 3600
    assert told == {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        PEM,
        _certificate().public_bytes(serialization.Encoding.PEM),
        _certificate(rsa.generate_private_key(public_exponent=65537, key_size=2048)).public_bytes(
            serialization.Encoding.PEM
        )
        + PEM,
        b"{",
        b'{"private_key": 5}',
        json.dumps({"private_key": PEM.decode(), "private_key_id": "k", "client_email": ""}).encode(),
    ],
    ids=["empty", "no certificate", "no key", "another's", "no JSON", "no text", "no account"],
)
async def test_a_file_that_is_no_key_is_said_without_showing_it(octets: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(octets)
    with pytest.raises(TokenRefused) as caught:
        await TokenRequests().as_itself(client_at("http://127.0.0.1:1/", path), "", USER)
    assert str(caught.value) == (
        f"the key_file {path} is not the PEM of a certificate and its RSA key, or the JSON of a service account"
    )


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenRefused, match="cannot be read: No such file"):
        await TokenRequests().as_itself(client_at("http://127.0.0.1:1/", tmp_path / "no"), "", USER)
