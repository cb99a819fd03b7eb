"""The door of a real relay: TLS and its certificate, proxies, users of unix sockets, and who must not come in."""

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.peers.clients import Endpoint
from tests.peers.packages import program
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import LOOPBACK, free_port, private_folder, wait_until

pytestmark = pytest.mark.slow

SENDER = "support@acmejets.example"
YOU = "you@customer.example"
TEXT = b"From: support@acmejets.example\r\nSubject: hello\r\n\r\nhello\r\n"
NOBODY = 65534
OFFICE = "10.1.0.9"


@dataclass(frozen=True)
class DoorOf:
    """A relay with one listener of each kind, all on loopback, and the authority of its certificate."""

    relay: Relay
    folder: Path
    ports: dict[str, int]
    authority: trustme.CA

    def context(self, authority: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        (authority or self.authority).configure_trust(context)
        return context

    def connect(self, name: str) -> socket.socket:
        return socket.create_connection((LOOPBACK, self.ports[name]), timeout=20)

    def under_tls(self, name: str, before: bytes = b"") -> ssl.SSLSocket:
        connection = self.connect(name)
        connection.sendall(before)
        return self.context().wrap_socket(connection, server_hostname=LOOPBACK)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def door(upstream: Recorder) -> Iterator[DoorOf]:
    with private_folder("door") as folder, door_of(folder, upstream) as door:
        yield door


@contextmanager
def door_of(folder: Path, upstream: Recorder) -> Iterator[DoorOf]:
    authority = trustme.CA()
    write_certificate(folder, authority)
    ports = {name: free_port() for name in ("plain", "starttls", "tls", "proxy", "proxy-tls")}
    listeners = [listener(name, port) for name, port in ports.items()]
    listeners.append({"name": "users", "address": f"unix:{folder}/users.sock", "users": {"nobody": ["support"]}})
    settings = {
        "listener": listeners,
        "tls": {"certificate": f"{folder}/chain.pem", "key": f"{folder}/key.pem"},
        "runtime_dir": str(folder),
    }
    with relay_process(one_channel(open_server(upstream.port)), settings, starts=False) as relay:
        relay.port = ports["plain"]
        relay.start()
        yield DoorOf(relay, folder, ports, authority)


def listener(name: str, port: int) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "address": f"{LOOPBACK}:{port}"}
    if name.startswith("proxy"):
        row |= {"proxy_protocol": True, "proxy_networks": ["127.0.0.0/8"], "trusted_networks": ["10.1.0.0/16"]}
    return row | {"security": {"proxy-tls": "tls", "proxy": "none", "plain": "none"}.get(name, name)}


def write_certificate(folder: Path, authority: trustme.CA) -> None:
    issued = authority.issue_cert(LOOPBACK)
    contents = {"chain": issued.cert_chain_pems[0].bytes(), "key": issued.private_key_pem.bytes()}
    for name, content in contents.items():
        fresh = folder / f"{name}.new"
        fresh.write_bytes(content)
        fresh.chmod(0o600)
        fresh.replace(folder / f"{name}.pem")


def say(connection: socket.socket, octets: bytes) -> str:
    """Send octets and return the last line of the next reply; "" where the server has left."""
    connection.sendall(octets)
    return hear(connection)


def hear(connection: socket.socket) -> str:
    """Return the last line of the next reply. Reads octet by octet, so that nothing behind it is taken."""
    line = b""
    while not line.endswith(b"\r\n") or line[3:4] == b"-":
        if line.endswith(b"\r\n"):
            line = b""
        try:
            octet = connection.recv(1)
        except ConnectionError:
            return ""
        if not octet:
            return ""
        line += octet
    return line.decode().rstrip()


def submit(connection: socket.socket) -> str:
    """Send a whole message on a connection that was greeted."""
    connection.sendall(f"EHLO client.test\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{YOU}>\r\n".encode())
    for reply in (hear(connection), hear(connection), hear(connection)):
        if reply[:3] != "250":
            return reply
    assert say(connection, b"DATA\r\n")[:3] == "354"
    return say(connection, TEXT + b".\r\n")


def received(upstream: Recorder) -> str:
    """The Received field that the relay wrote into the last message."""
    field, _, _ = upstream.messages[-1].decode().partition("\r\nFrom:")
    return field


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("name", ["starttls", "tls"])
def test_openssl_verifies_the_certificate(name: str, door: DoorOf, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    door.authority.cert_pem.write_to_path(str(ca_file))
    ask = ["-starttls", "smtp"] if name == "starttls" else []
    argv = [program("openssl"), "s_client", "-connect", f"{LOOPBACK}:{door.ports[name]}", *ask]
    argv += ["-CAfile", str(ca_file), "-verify_return_error", "-verify_ip", LOOPBACK, "-crlf"]
    done = subprocess.run([*argv, "-quiet"], input=b"QUIT\n", capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    brief = subprocess.run([*argv, "-brief"], input=b"QUIT\n", capture_output=True, timeout=30, check=False)
    assert b"Verification: OK" in brief.stderr + brief.stdout
    assert b"TLSv1.3" in brief.stderr + brief.stdout


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(("version", "is_taken"), [("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_old_versions_of_tls_are_refused(version: str, is_taken: bool, door: DoorOf) -> None:
    argv = [program("openssl"), "s_client", "-connect", f"{LOOPBACK}:{door.ports['tls']}", "-quiet", "-crlf"]
    argv += [f"-{version}", "-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run(argv, input=b"QUIT\n", capture_output=True, timeout=30, check=False)
    assert (b"220 " in done.stdout) is is_taken


def test_a_message_under_tls_says_so(door: DoorOf, upstream: Recorder) -> None:
    with door.under_tls("tls") as connection:
        assert hear(connection)[:3] == "220"
        assert submit(connection)[:3] == "250"
    assert " with ESMTPS " in received(upstream)


@pytest.mark.parametrize("segments", [1, 2])
def test_commands_behind_starttls_are_dropped(segments: int, door: DoorOf, upstream: Recorder) -> None:
    count = len(upstream.messages)
    injected = f"EHLO evil.test\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<victim@customer.example>\r\n".encode()
    with door.connect("starttls") as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert hear(plain)[:3] == "220"
        assert say(plain, b"EHLO client.test\r\n")[:3] == "250"
        if segments == 1:
            plain.sendall(b"STARTTLS\r\n" + injected)
            assert hear(plain)[:3] == "220"
            with door.context().wrap_socket(plain, server_hostname=LOOPBACK) as connection:
                assert say(connection, b"DATA\r\n").startswith("503 5.5.1 Send EHLO first")
                assert submit(connection)[:3] == "250"
            assert b"victim" not in bytes(upstream.conversations[-1].received)
        else:
            assert say(plain, b"STARTTLS\r\n")[:3] == "220"
            plain.sendall(injected)
            with pytest.raises(OSError), door.context().wrap_socket(plain, server_hostname=LOOPBACK):
                pass
            assert len(upstream.messages) == count


def test_a_new_certificate_counts_while_the_relay_runs(upstream: Recorder) -> None:
    with private_folder("rotation") as folder, door_of(folder, upstream) as door:
        with door.under_tls("tls") as before:
            assert hear(before)[:3] == "220"
            (folder / "chain.pem").write_text("broken")
            with door.under_tls("tls") as connection:
                assert hear(connection)[:3] == "220"
            second = trustme.CA()
            write_certificate(folder, second)
            with door.connect("tls") as plain, door.context(second).wrap_socket(plain, server_hostname=LOOPBACK) as now:
                assert submit_after_greeting(now)[:3] == "250"
            with door.connect("tls") as plain, pytest.raises(ssl.SSLCertVerificationError):
                door.context().wrap_socket(plain, server_hostname=LOOPBACK)
            # Who was there before goes on.
            assert submit(before)[:3] == "250"
        assert door.relay.log.count("the new certificate cannot be used; the one before stays in effect") == 1
        assert '"what": "certificate"' in door.relay.log


def submit_after_greeting(connection: socket.socket) -> str:
    assert hear(connection)[:3] == "220"
    return submit(connection)


def v2_header() -> bytes:
    addresses = socket.inet_aton(OFFICE) + socket.inet_aton(LOOPBACK) + b"\x12\x67\x00\x19"
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + addresses


@pytest.mark.parametrize("name", ["proxy", "proxy-tls"])
@pytest.mark.parametrize(
    "header", [f"PROXY TCP4 {OFFICE} {LOOPBACK} 4711 25\r\n".encode(), v2_header()], ids=["v1", "v2"]
)
def test_a_proxy_says_who_the_client_is(name: str, header: bytes, door: DoorOf, upstream: Recorder) -> None:
    if name == "proxy":
        with door.connect(name) as connection:
            connection.sendall(header)
            assert submit_after_greeting(connection)[:3] == "250"
    else:
        with door.under_tls(name, header) as connection:
            assert submit_after_greeting(connection)[:3] == "250"
    assert f"[{OFFICE}]" in received(upstream)


@pytest.mark.needs("curl")
def test_curl_sends_through_a_proxy_header(door: DoorOf, upstream: Recorder) -> None:
    """No address of the office: curl says its own, which nobody trusts there."""
    argv = [program("curl"), "--disable", "--silent", "--show-error", "--haproxy-protocol"]
    argv += ["--url", f"smtp://{LOOPBACK}:{door.ports['proxy']}/client.test", "--mail-from", SENDER, "--mail-rcpt", YOU]
    done = subprocess.run([*argv, "--upload-file", "-"], input=TEXT, capture_output=True, timeout=30, check=False)
    assert done.returncode != 0
    assert b"530" in done.stderr


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """What this process does, it does as another user: the kernel tells who connects to a unix socket."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.needs("root")
@pytest.mark.parametrize(("uid", "code"), [(NOBODY, "250"), (0, "530"), (12345, "530")])
def test_users_of_a_unix_socket_are_told_apart(uid: int, code: str, door: DoorOf) -> None:
    with as_user(uid):
        client = RawClient(Endpoint(path=door.folder / "users.sock"))
    with client:
        assert client.submit(SENDER, YOU, TEXT).startswith(code)


@pytest.mark.needs("root")
@pytest.mark.parametrize("uid", [0, NOBODY, 12345])
def test_every_local_user_may_do_at_the_submit_socket_what_loopback_may(uid: int, door: DoorOf) -> None:
    with as_user(uid):
        client = RawClient(Endpoint(path=door.folder / "submit.sock"))
    with client:
        assert client.submit(SENDER, YOU, TEXT).startswith("250")


def test_the_status_names_the_submit_socket_and_its_end_removes_it(upstream: Recorder) -> None:
    with relay_process(one_channel(open_server(upstream.port))) as relay:
        path = relay.state_dir / "submit.sock"
        assert f"unix:{path}" in relay.ask("status")["listeners"]
        assert path.stat().st_mode & 0o777 == 0o666
        relay.stop()
        assert not path.exists()


def test_a_web_request_gets_nothing_anywhere(door: DoorOf) -> None:
    for name in door.ports:
        with door.connect(name) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nEHLO a\r\n")
            replies = connection.makefile("rb").read()
            assert b"HTTP" not in replies
            assert b"250" not in replies
    assert door.relay.greets()


def test_faults_of_the_certificate_are_told_by_check_and_by_the_start(upstream: Recorder, tmp_path: Path) -> None:
    write_certificate(tmp_path, trustme.CA())
    other = trustme.CA().issue_cert(LOOPBACK).private_key_pem.bytes()
    (tmp_path / "key.pem").write_bytes(other)
    settings = {
        "listener": [{"address": f"{LOOPBACK}:{free_port()}", "security": "tls"}],
        "tls": {"certificate": f"{tmp_path}/chain.pem", "key": f"{tmp_path}/key.pem"},
    }
    with relay_process(one_channel(open_server(upstream.port)), settings, starts=False) as relay:
        sentence = f"tls.key: this key does not belong to the first certificate in {tmp_path}/chain.pem"
        assert sentence in relay.command("check").err
        done = relay.command("serve")
        assert done.status == 1
        assert sentence in done.err


def test_a_relay_without_free_descriptors_goes_on(upstream: Recorder) -> None:
    with relay_process(one_channel(open_server(upstream.port)), starts=False) as relay:
        relay.start("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
        connections = []
        for _ in range(100):
            connection = socket.create_connection((LOOPBACK, relay.port), timeout=20)
            connections.append(connection)
        for connection in connections:
            connection.close()
        wait_until(relay.greets, "a greeting", 30)
        with relay.connect() as client:
            assert client.submit(SENDER, YOU, TEXT).startswith("250")
