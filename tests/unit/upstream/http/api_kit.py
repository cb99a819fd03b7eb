"""Messages that are handed to an API, and what came of them."""

from typing import Any

from relay.directory.model import Account, Auth, Kind, Server
from relay.directory.tables import OAuthClient
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.secrets.secret import Secret
from relay.upstream.outcome import Outcome
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Progress, Timeouts, Transfer

ME = "support@acme.example"
HEADER = b"From: support@acme.example\r\nTo: jo@customer.example\r\nMessage-ID: <1@acme.example>\r\n"
CONTENT = Content(HEADER, (b"Hello\r\n",))
TIMES = Timeouts(connect=5, reply=5, chunk=5, final=5, idle=5)


def graph_at(url: str, **keys: Any) -> Server:
    """A server of kind msgraph, whose app logs in as itself."""
    oauth = OAuthClient(provider="microsoft", client_id="app", tenant="acme.example", flow="client_credentials")
    given = {"name": "graph", "kind": Kind.MSGRAPH, "api_url": url, "auth": Auth.OAUTH2, "username": ME, "oauth": oauth}
    return Server(**{**given, **keys})


def transfer_to(server: Server, *recipients: str, content: Content = CONTENT, **facts: Any) -> Transfer:
    """One message for these recipients."""
    given: dict[str, Any] = {
        "account": Account(server.name, server.username),
        "secret": Secret("good-token", "v1"),
        "sender": Address.parse(ME),
    }
    named = tuple(Recipient(Address.parse(one)) for one in recipients or ("jo@customer.example",))
    return Transfer(server=server, recipients=named, content=content, **{**given, **facts})


async def deliver(transfer: Transfer, progress: Progress | None = None) -> Outcome:
    """Hand a message over by an upstream of its own."""
    upstream = Upstream("relay.test", TIMES)
    try:
        return await upstream.deliver(transfer, progress)
    finally:
        await upstream.aclose()


def with_header(*lines: str, content: Content = CONTENT) -> Content:
    """The message with more lines in its header."""
    return replace_header(content, HEADER + "".join(f"{line}\r\n" for line in lines).encode())


def replace_header(content: Content, header: bytes) -> Content:
    """The message with another header."""
    return content._replace(header=header)
