"""The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), by the library scramp.

The password never leaves, and the server must prove that it knows it too. scramp prepares name and password by
SASLprep (RFC 4013) and checks nonce and signature; what the messages travel in is RFC 4954's.

SECURITY: the server chooses how often the password is hashed. What is asked beyond our bound is not done, and what
is done runs in a thread of its own (`Mechanism.is_mutual`).
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scramp import ScramClient, ScramException

from relay.upstream.exchange import Exchange, ExchangeStopped

NAME = "SCRAM-SHA-256"
MOST_ITERATIONS = 1_000_000
"""Under a second of work. Servers use 4096 (RFC 7677 section 4) to some hundred thousand."""


def scram_sha_256(username: str, password: str) -> Exchange:
    """Say who we are, prove that we know the password, and hear the server's proof.

    Raises ExchangeStopped for a server that breaks the rules or proves nothing, and for a name or password that
    SASLprep does not allow.
    """
    with _stopping("the name or the password cannot be told by SCRAM-SHA-256"):
        client: Any = ScramClient([NAME], username, password)
    challenge = yield f"AUTH {NAME} ".encode() + _encoded(client.get_client_first())
    with _stopping("the server's first message of SCRAM-SHA-256 is wrong"):
        client.set_server_first(_decoded(challenge))
    if int(client.iterations) > MOST_ITERATIONS:
        raise ExchangeStopped(f"the server wants the password hashed {client.iterations} times; that is too often")
    proof = yield _encoded(client.get_client_final())
    with _stopping("the server did not prove that it knows the password"):
        client.set_server_final(_decoded(proof))
    # RFC 4954 section 4: the proof comes as a challenge, and is answered with nothing.
    yield b""


@contextmanager
def _stopping(sentence: str) -> Iterator[None]:
    try:
        yield
    except (ScramException, ValueError) as error:
        raise ExchangeStopped(f"{sentence}: {error}") from None


def _encoded(message: str) -> bytes:
    return b64encode(message.encode())


def _decoded(challenge: str) -> str:
    return b64decode(challenge, validate=True).decode()
