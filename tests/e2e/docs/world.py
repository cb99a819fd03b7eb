"""A world of its own for the commands of one page: python -m tests.e2e.docs.world SCRIPT [preloaded].

The process that runs this has a mount, a network and a process namespace to itself. In it /etc, /var, /opt, /root
and /usr are written to a memory disk, the root zone of DNS is ours, and every provider's name leads to a mail server
that speaks TLS with a certificate that is trusted, takes any login and any message.

With "preloaded" each `relay` is forked from a process that has loaded it, otherwise it is the program itself.
"""

import asyncio
import fcntl
import os
import socket
import ssl
import struct
import subprocess
import sys
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.directory.presets import presets
from relay.doctor.providers import PROVIDERS
from tests.peers.dns import name_server
from tests.peers.loop import LoopThread, stop_listening
from tests.peers.preloaded import Preloaded
from tests.peers.system import LOOPBACK, private_folder

OUR_DOMAINS = ("acmejets.example", "customer.example", "example.net")
REGION_HOST = "email-smtp.eu-central-1.amazonaws.com"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_DISKS = ("/etc", "/var", "/opt", "/root", "/usr")
_DNS_PORT = 53
_PRELOADED = "preloaded"


class _Mailbox:
    """aiosmtpd's hooks: whoever logged in may send anything."""

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        return "250 2.0.0 Ok: taken"


def main(script: Path, *how: str) -> int:
    """Make the world, run the script in it, and return its exit status."""
    raise_loopback()
    with private_folder("world") as folder:
        mount_disks(folder)
        Path("/etc/resolv.conf").write_text(f"nameserver {LOOPBACK}\n")
        Path("/etc/hosts").write_text(f"{LOOPBACK} localhost relay.acmejets.example\n")
        (Path("/opt/relay")).mkdir(exist_ok=True)
        Path("/opt/relay/bin").symlink_to(Path(sys.executable).parent)
        authority = trustme.CA()
        authority.cert_pem.write_to_path("/etc/authorities.pem")
        certificate = authority.issue_cert(*hosts())
        with name_server(zone(), port=_DNS_PORT), LoopThread() as loop, ExitStack() as stack:
            servers = loop.call(_listen(certificate))
            env = _environment()
            if _PRELOADED in how:
                programs = Path("/run/preloaded")
                programs.mkdir()
                env["PATH"] = f"{programs}:{env['PATH']}"
                loaded = Preloaded(env)
                stack.callback(loaded.end)
                stack.enter_context(loaded.offered(programs))
            done = subprocess.run(["bash", script], cwd="/root", env=env, check=False)
            for server in servers:
                loop.call(stop_listening(server))
    return done.returncode


def hosts() -> list[str]:
    """Return the names of all providers' servers."""
    known = {preset.values["host"] for preset in presets().values() if "host" in preset.values}
    return sorted(known | {REGION_HOST, "smtp.acmejets.example"})


def zone() -> str:
    """Return our root zone: the providers' servers, and three domains whose mail they may send."""
    names = [f"{host}. IN A {LOOPBACK}" for host in hosts()]
    names += [f'{each.spf_include}. IN TXT "v=spf1 ip4:{LOOPBACK} -all"' for each in PROVIDERS if each.spf_include]
    included = " ".join(f"include:{each.spf_include}" for each in PROVIDERS if each.keeps_envelope and each.spf_include)
    selectors = {"default", *(selector for each in PROVIDERS for selector in each.selectors)}
    key = _public_key()
    for domain in OUR_DOMAINS:
        names += [
            f"{domain}. IN MX 10 mx.{domain}.",
            f"mx.{domain}. IN A {LOOPBACK}",
            f'{domain}. IN TXT "v=spf1 {included} -all"',
            f'_dmarc.{domain}. IN TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}"',
            *(f"{selector}._domainkey.{domain}. IN TXT {key}" for selector in sorted(selectors)),
        ]
    return "\n".join(names) + "\n"


def _public_key() -> str:
    """Return a DKIM record as a zone file has it: in strings of at most 255 octets."""
    public = rsa.generate_private_key(65537, 2048).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = f"v=DKIM1; k=rsa; p={b64encode(octets).decode()}"
    return " ".join(f'"{record[start : start + 200]}"' for start in range(0, len(record), 200))


def raise_loopback() -> None:
    """Open the loopback interface of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | _IFF_UP, b""))


def mount_disks(folder: Path) -> None:
    """Put a memory disk over each folder that the commands write to."""
    _mount("-t", "tmpfs", "none", str(folder))
    for place in _DISKS:
        upper, work = folder / place[1:] / "upper", folder / place[1:] / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        _mount("-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", place)
    _mount("-t", "tmpfs", "-o", "mode=0755", "none", "/run")


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


async def _listen(certificate: trustme.LeafCert) -> list[asyncio.Server]:
    """Open the ports of every provider: 587 with STARTTLS, 465 with TLS."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)

    def session(**more: Any) -> SMTP:
        return SMTP(
            _Mailbox(),
            authenticator=lambda *_: AuthResult(success=True),
            auth_require_tls=bool(more),
            hostname="smtp.provider.example",
            enable_SMTPUTF8=True,
            **more,
        )

    starttls = await loop.create_server(lambda: session(tls_context=context, require_starttls=True), LOOPBACK, 587)
    return [starttls, await loop.create_server(session, LOOPBACK, 465, ssl=context)]


def _environment() -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("LANG", "LC_ALL") if key in os.environ}
    path = f"/opt/relay/bin:{os.environ['PATH']}"
    return {**kept, "PATH": path, "HOME": "/root", "SSL_CERT_FILE": "/etc/authorities.pem", "COLUMNS": "100"}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
