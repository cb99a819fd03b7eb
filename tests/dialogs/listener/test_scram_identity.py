"""SCRAM with an authorization identity (RFC 5802 section 5.1), as mutt sends it: a login acts for itself only."""

import asyncio
import base64
import hashlib
import hmac

import pytest

from relay.directory.client import Login
from relay.listener import replies
from relay.listener.auth import scram_sha_256
from relay.listener.commands import CommandFault
from relay.secrets.login_password import Verifier, make_verifier
from tests.dialogs.listener.listener_kit import FakeLogins

PASSWORD = "canary-Pässwörd"
VERIFIER = make_verifier(PASSWORD)


class OneLogin(FakeLogins):
    async def verifier(self, name: str) -> tuple[Login | None, Verifier]:
        return Login(name, (name,)), VERIFIER


class Client:
    """A client of RFC 5802 section 3 that sends any gs2-header, and repeats this one or another in its last message."""

    def __init__(self, header: str, name: str = "jane", *, repeats: str | None = None) -> None:
        self.header = header
        self.repeats = header if repeats is None else repeats
        self.bare = f"n={name},r=nonce"
        self.claimed: list[str] = []

    def claim(self, name: str) -> None:
        self.claimed.append(name)

    async def ask(self, challenge: bytes) -> bytes:
        if not challenge:
            return f"{self.header}{self.bare}".encode()
        return self.prove(challenge.decode()) if challenge.startswith(b"r=") else b""

    def prove(self, challenge: str) -> bytes:
        parts = dict(part.split("=", 1) for part in challenge.split(","))
        salt, iterations = base64.b64decode(parts["s"]), int(parts["i"])
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, iterations)
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c={base64.b64encode(self.repeats.encode()).decode()},r={parts['r']}"
        said = f"{self.bare},{challenge},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def log_in(client: Client) -> Login | None:
    return asyncio.run(scram_sha_256(client, OneLogin({})))


@pytest.mark.parametrize(
    ("header", "name"),
    [("n,,", "jane"), ("y,,", "jane"), ("n,a=jane,", "jane"), ("y,a=jane,", "jane"), ("n,a=a=2Cb=3Dc,", "a=2Cb=3Dc")],
)
def test_a_login_may_name_itself(header: str, name: str) -> None:
    client = Client(header, name)
    assert log_in(client) is not None
    assert client.claimed == [name.replace("=2C", ",").replace("=3D", "=")]


@pytest.mark.parametrize("identity", ["support", "Jane", "jane=2C", "jane "])
def test_a_login_may_name_nobody_else(identity: str) -> None:
    with pytest.raises(CommandFault) as fault:
        log_in(Client(f"n,a={identity},"))
    assert fault.value.reply == replies.FOREIGN_IDENTITY


@pytest.mark.parametrize(("header", "repeats"), [("n,a=jane,", "n,,"), ("n,,", "n,a=jane,"), ("n,,", "y,,")])
def test_what_the_last_message_repeats_is_what_the_first_one_said(header: str, repeats: str) -> None:
    assert log_in(Client(header, repeats=repeats)) is None


@pytest.mark.parametrize("header", ["p=tls-exporter,,", "n,a=,", "n,jane,", "x,,", "n,"])
def test_any_other_header_is_none(header: str) -> None:
    with pytest.raises(CommandFault) as fault:
        log_in(Client(header))
    assert fault.value.reply.code == 501
