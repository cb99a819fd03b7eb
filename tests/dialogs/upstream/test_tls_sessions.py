"""TLS sessions: taken up again by the next connection to the same host, and by no other."""

import asyncio
import os
import shutil
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from relay.directory.model import Security
from relay.upstream.connection import Connection
from relay.upstream.dial import Contexts
from relay.upstream.outcome import Failed
from tests.dialogs.upstream.upstream_kit import FAST, Certificates, ScriptedServer, scripted, server_at

pytestmark = pytest.mark.timeout(20)
BOTH = [Security.STARTTLS, Security.TLS]


def run(loop: str, scenario: Coroutine[Any, Any, None]) -> None:
    if loop == "uvloop":
        uvloop.run(scenario)
    else:
        asyncio.run(scenario)


class Watching(ScriptedServer):
    """Notes of each connection whether it took up a session."""

    @property
    def reused(self) -> list[bool]:
        return [line.writer.get_extra_info("ssl_object").session_reused for line in self.lines]


def serving(certificates: Certificates, security: Security) -> Any:
    implicit = security is Security.TLS
    return scripted(kind=Watching, tls=certificates.good, implicit=implicit, offers=("STARTTLS",), offers_in_tls=())


async def visit(server: ScriptedServer, contexts: Contexts, **settings: Any) -> Connection:
    """Connect, say EHLO, and close; the certificate is known all the same."""
    connection = Connection(server_at(server.port, **settings), hello="relay.example", timeouts=FAST, contexts=contexts)
    await connection.open("mailer", None)
    assert connection.certificate
    assert connection.tls
    await connection.close()
    return connection


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("security", BOTH)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_next_connection_takes_the_session_up(
    certificates: Certificates, loop: str, security: Security, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates.good, "maximum_version", version)

    async def scenario() -> None:
        contexts = Contexts()
        async with serving(certificates, security) as server:
            for _ in range(3):
                await visit(server, contexts, security=security, ca_file=certificates.ca_file, host="localhost")
            assert server.reused == [False, True, True]

    run(loop, scenario())


async def test_not_for_another_host_nor_another_way_of_checking(certificates: Certificates) -> None:
    contexts = Contexts()
    async with serving(certificates, Security.TLS) as server:
        known = {"security": Security.TLS, "ca_file": certificates.ca_file, "host": "localhost"}
        for settings in (known, known | {"host": "127.0.0.1"}, known | {"verify_tls": False}, known | {"ca_file": ""}):
            if settings["ca_file"]:
                await visit(server, contexts, **settings)
            else:
                with pytest.raises(Failed, match="certificate"):
                    await visit(server, contexts, **settings)
        await visit(server, contexts, **known)
        assert server.reused == [False, False, False, True]


async def test_not_after_the_authorities_have_changed(certificates: Certificates, tmp_path: Path) -> None:
    contexts, file = Contexts(), tmp_path / "ca.pem"
    shutil.copy(certificates.ca_file, file)
    async with serving(certificates, Security.TLS) as server:
        await visit(server, contexts, security=Security.TLS, ca_file=str(file))
        os.utime(file, ns=(1, 1))
        await visit(server, contexts, security=Security.TLS, ca_file=str(file))
        assert server.reused == [False, False]


async def test_a_certificate_is_asked_for_once_an_hour(certificates: Certificates) -> None:
    """Counted from the last certificate, however often the session was taken up since."""
    now = 1000.0
    contexts = Contexts(lambda: now)
    async with serving(certificates, Security.TLS) as server:
        for now in (1000.0, 3000.0, 4500.0, 4700.0, 4800.0):  # noqa: B007  the clock reads it
            await visit(server, contexts, security=Security.TLS, ca_file=certificates.ca_file)
        assert server.reused == [False, True, True, False, True]
