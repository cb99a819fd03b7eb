"""A TLS client whose octets a test sends by hand, and a folder with a server's certificate."""

import ssl
from pathlib import Path

import trustme

from relay.config.certificate import CertificateFiles
from tests.dialogs.listener.listener_kit import RawClient, trusting_context


class HandClient:
    """The client's side of TLS, apart from its connection: what it wants to send lies in `outgoing`."""

    def __init__(self, client: RawClient, context: ssl.SSLContext | None = None) -> None:
        self.client = client
        self._in, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = (context or trusting_context()).wrap_bio(self._in, self.outgoing, server_hostname="127.0.0.1")

    def first_flight(self) -> bytes:
        """Return the ClientHello."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return self.outgoing.read()
        raise AssertionError("a handshake without a server")

    async def hear(self) -> bytes:
        """Take what the server sends until our side of the handshake is done; return what ends it."""
        while True:
            octets = await self.client.reader.read(65536)
            assert octets, "the server left"
            self._in.write(octets)
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            return self.outgoing.read()

    def protect(self, text: bytes) -> bytes:
        """Return text as it goes out."""
        self._tls.write(text)
        return self.outgoing.read()

    async def line(self) -> str:
        """Return the next line that the server says."""
        text = b""
        while not text.endswith(b"\n"):
            try:
                text += self._tls.read(1)
            except ssl.SSLWantReadError:
                octets = await self.client.reader.read(65536)
                assert octets, "the server left"
                self._in.write(octets)
        return text.decode().rstrip()


def write_pair(folder: Path, issued: trustme.LeafCert) -> CertificateFiles:
    """Write a certificate and its key, as one step each."""
    files = CertificateFiles(folder / "chain.pem", folder / "key.pem")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    for path, content in ((files.certificate, chain), (files.key, issued.private_key_pem.bytes())):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.chmod(0o600)
        fresh.replace(path)
    return files
