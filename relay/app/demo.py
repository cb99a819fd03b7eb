"""`relay demo`: a relay in a folder of its own, with an upstream that keeps all mail, to see how mail travels.

Nothing leaves this machine and nothing stays on it. One channel for each of the three ways a profile sends, and one
agent; the passwords are made up at every start.
"""

import asyncio
import secrets
import shlex
import shutil
import signal
import smtplib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import tomli_w

from relay import log
from relay.app.process import new_event_loop
from relay.app.service import START_ERRORS, Service
from relay.config.settings import load_settings
from relay.delivery.events import Ending, Journey
from relay.listener.capture import Captured, CaptureServer
from relay.mail.header import change_of

_STOP_SECONDS = 1.0
_CUSTOMER = "customer@example.net"
_LOGINS = ("house@acmejets.example", "mailer@acmejets.example", "support@acmejets.example", "jane@acmejets.example")


def run(port: int, *, send: bool) -> int:
    """Run the demo on 127.0.0.1:`port` (0: any free one) and return its exit code.

    `send` ends it after its own message: 0 only if that arrived as it should.
    """
    log.configure("console", "error")
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(_demo(port, send=send))
    except START_ERRORS as error:
        print(error, file=sys.stderr)
        return 1


async def _demo(port: int, *, send: bool) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-")))
        passwords = {login: secrets.token_urlsafe(12) for login in _LOGINS}
        capture = CaptureServer(passwords=passwords, hostname="upstream.localhost")
        await capture.start()
        closing.push_async_callback(capture.stop)
        stage = Stage(capture)
        settings_file = _write_files(folder, port, capture.port, passwords)
        service = Service(load_settings(settings_file), settings_file, stage.tell, stop_seconds=_STOP_SECONDS)
        await service.start()
        closing.push_async_callback(service.stop)
        address = service.listeners.addresses[0]
        stage.open(address)
        await asyncio.to_thread(_send, address)
        if not send:
            stage.invite(address)
            await stop.wait()
        return 0 if stage.arrived else 1


class Stage:
    """What the person in front of the terminal sees."""

    def __init__(self, capture: CaptureServer) -> None:
        self._capture = capture
        self._count = 0
        self.arrived = 0

    def open(self, address: str) -> None:
        """Say what is there."""
        _say(
            f"Relay listens on {address}. Its upstream is built in: nothing leaves this machine.",
            "",
            "  sender                       sends by                   leaves as",
            "  news@acmejets.example        an internal server         house@acmejets.example",
            "  billing@acmejets.example     a server, no override      mailer@acmejets.example",
            "  support@acmejets.example     a server, with override    support@acmejets.example",
            "  jane@acmejets.example        (an agent) with override   jane@acmejets.example",
            "",
        )

    def invite(self, address: str) -> None:
        """Say how to send another message, with what every machine that runs this has."""
        _say(
            "Send one yourself: paste this in another terminal, with any of the senders above.",
            "",
            f"  {_paste(address)}",
            "",
            "Ctrl-C ends the demo and leaves nothing behind.",
            "",
        )

    def tell(self, journey: Journey) -> None:
        """Show the journey of one message."""
        self._count += 1
        captured = self._find(journey)
        self.arrived += captured is not None and journey.ending is Ending.DELIVERED
        _say(f"Message {self._count}: {journey.ending}", *_rows(journey, captured), "")

    def _find(self, journey: Journey) -> Captured | None:
        """Return the message as the upstream has it: our Received field bears its id."""
        mark = f" id {journey.arrival.id}".encode()
        return next((one for one in self._capture.messages if mark in one.content), None)


def _rows(journey: Journey, captured: Captured | None) -> Iterator[str]:
    sender, route = journey.envelope.sender or "<>", journey.route
    yield _row("client", f"{journey.client.name}, says it is {journey.arrival.helo}")
    yield _row("sender", f"{sender} to {', '.join(str(one.address) for one in journey.envelope.recipients)}")
    if route:
        yield _row("profile", route.reason.partition(";")[0])
        yield _row("server", f"{route.server.name} at {route.server.effective_host}:{route.server.effective_port}")
        yield _row("account", f"{route.account} (its own: override)" if route.override else f"{route.account}")
    for index, change in enumerate(map(change_of, journey.edited)):
        yield _row("" if index else "changed", _change(change.field, change.before, change.after))
    if journey.upstream:
        yield _row("upstream", f"{journey.upstream}")
    if captured:
        header = BytesHeaderParser().parsebytes(captured.content)
        yield _row("arrived", f"login {captured.login}, envelope {captured.sender or '<>'}, From: {header['from']}")
    yield _row("reply", f"{journey.reply} ({journey.seconds * 1000:.0f} ms)")


def _row(word: str, text: str) -> str:
    return f"  {word:<10}{text}"


def _change(name: str, before: str, after: str) -> str:
    if not before:
        return f"{name}: {after} (added)"
    if not after:
        return f"{name}: {before} (removed)"
    return f"{name}: {before} -> {after}"


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _paste(address: str) -> str:
    host, _, port = address.rpartition(":")
    python = "python3" if shutil.which("python3") else sys.executable
    message = r"From: Support <support@acmejets.example>\nTo: you@example.net\nSubject: Hello\n\nHello from Relay"
    code = (
        f"import smtplib; smtplib.SMTP('{host}', {port})"
        f".sendmail('support@acmejets.example', 'you@example.net', '{message}')"
    )
    return f'{shlex.quote(python)} -c "{code}"'


def _send(address: str) -> None:
    """Send one message as any program would. What becomes of it is told as a journey."""
    message = EmailMessage()
    message["From"] = "Billing <billing@acmejets.example>"
    message["To"] = _CUSTOMER
    message["Subject"] = "Your invoice"
    message.set_content("Dear customer,\n\nthis mail took its way through Relay.\n")
    host, _, port = address.rpartition(":")
    try:
        with smtplib.SMTP(host.strip("[]"), int(port), timeout=30) as client:
            client.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        print(f"The message could not be sent: {error}", file=sys.stderr)


def _write_files(folder: Path, port: int, upstream: int, passwords: dict[str, str]) -> Path:
    """Write the demo's relay.toml and directory.toml, and return the first."""
    settings = {
        "hostname": "relay.localhost",
        "state_dir": str(folder),
        "runtime_dir": str(folder),
        "listener": [{"name": "demo", "address": f"127.0.0.1:{port}"}],
        "log": {"level": "error"},
        "web": {"address": ""},
    }
    (folder / "relay.toml").write_bytes(tomli_w.dumps(settings).encode())
    (folder / "directory.toml").write_bytes(tomli_w.dumps(_directory(upstream, passwords)).encode())
    return folder / "relay.toml"


def _directory(port: int, passwords: dict[str, str]) -> dict[str, Any]:
    def account(name: str) -> dict[str, Any]:
        login = f"{name}@acmejets.example"
        return {"username": login, "password": passwords[login]}

    def server(name: str, **more: Any) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": port, "security": "none"} | account(name) | more

    own = {"override": True}
    return {
        "default_server": "acmejets",
        "servers": {"acmejets": server("mailer"), "house": server("house", internal=True)},
        "channels": {
            "news": {"address": "news@acmejets.example", "server": "house"},
            "billing": {"address": "billing@acmejets.example"},
            "support": {"address": "support@acmejets.example"} | account("support") | own,
        },
        "agents": {
            "jane": {"address": "jane@acmejets.example", "full_name": "Jane Doe"} | account("jane") | own,
        },
    }
