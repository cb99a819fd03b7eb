"""A mail password is tried before it is kept: one login at its server, by which no message is sent.

What the server refuses is kept only where whoever sets it says so (`unchecked`). A server that cannot be reached, or
that puts us off, says nothing about a password: it is kept, and that nobody knows yet is told.
"""

from relay.control.context import ControlContext
from relay.control.refused import LoginRefused, Refused
from relay.control.tests.results import LoginCheck, LoginState
from relay.directory.directory import Directory
from relay.directory.model import Account, Auth, Meaning, Profile, Server
from relay.upstream.outcome import Phase
from relay.upstream.probe import probe


async def try_password(
    parts: ControlContext, directory: Directory, entry: Server | Profile, password: str, *, unchecked: bool = False
) -> LoginCheck:
    """Log in with a password as an entry of a directory does, which need not be the saved one.

    Raises Refused for what is no password, LoginRefused where the server refuses it. Nothing is tried where `unchecked`
    says so, and where nobody logs in with it: without a server, at an internal one of a profile, or without logins.
    """
    check_one_line(password)
    server = entry if isinstance(entry, Server) else directory.server_of(entry)
    is_used = server is not None and server.auth is not Auth.NONE and (server is entry or not server.internal)
    if unchecked or server is None or not is_used:
        return LoginCheck(state=LoginState.SKIPPED, detail="")
    username = entry.username if isinstance(entry, Server) else entry.login_name
    steps = [
        step
        async for step in probe(
            server,
            Account(server.name, username),
            parts.vault.secret_of(password),
            hello=parts.settings.effective_hostname,
            sender=None,
            recipient=None,
            content=None,
        )
    ]
    step = steps[-1]  # of a login there is one at least, also where the first thing fails
    failure = step.failure
    if failure is None:
        return LoginCheck(state=LoginState.WORKS, detail=step.detail)
    if failure.from_server and failure.phase is Phase.LOGIN and failure.meaning is Meaning.LOGIN_REFUSED:
        noun = "server" if isinstance(entry, Server) else str(entry.kind)
        raise LoginRefused(f"{server.name} refuses this password for {username}: {step.detail}", noun, entry.name)
    return LoginCheck(state=LoginState.UNKNOWN, detail=f"{server.name} could not try it: {step.detail}")


def check_one_line(password: str) -> None:
    """Raise Refused for what no protocol can bear as a password."""
    if not password or not {"\r", "\n", "\0"}.isdisjoint(password):
        raise Refused("a password is one line of text and not empty", key="password")
