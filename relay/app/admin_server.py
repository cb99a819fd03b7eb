"""What answers people: commands on control.sock, and the pages with their API. Both are made when somebody first comes.

Mail waits for neither, and most of the time nobody asks: each takes a part of a second to load, and many MB.
"""

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from relay import log
from relay.config.endpoint import TcpAddress, parse_endpoint
from relay.config.settings import Settings
from relay.control.context import ControlContext
from relay.control.people.invitations import first_link
from relay.control.transport.socket import ControlSocket
from relay.store.db.errors import StoreError
from relay.system.clock import utc_now
from relay.system.event_loop import TaskExitStack

if TYPE_CHECKING:
    from relay.control.operations import Operations
    from relay.control.transport.server import CommandServer
    from relay.listener.login_failures import LoginFailures
    from relay.secrets.authentication import Logins
    from relay.web.kit.change_watcher import ChangeWatcher
    from relay.web.kit.server import WebServer


class AdminServer:
    """Opens the ways to the operations on a relay's parts; `closing` has what closes them."""

    def __init__(self, parts: ControlContext, closing: TaskExitStack) -> None:
        self._parts = parts
        self._closing = closing
        self._making = threading.Lock()
        self._made: Operations | None = None

    async def open_commands(self) -> None:
        """Open control.sock. Raises ControlSocketError."""
        control = ControlSocket(self._parts.settings.control_socket, self._make_commands)
        await control.start()
        self._closing.push_async_callback(control.stop)

    def adopt(self, settings: Settings) -> None:
        """Let operations and pages work by these settings from now on."""
        self._parts.settings = settings

    async def greet(self, terminal: TextIO) -> None:
        """Show a link for the first administrator, new at every start.

        It lets anybody in who reads it, and so is in no log: without a terminal `relay admin link` gives one.
        """
        try:
            link = await first_link(self._parts, utc_now())
        except StoreError as error:
            log.broken(f"there is no link for the first administrator: {error}")
            return
        if link is not None:
            sentence = "there is no administrator yet; this link, good once and for 24 hours, makes one"
            print(f"{sentence}: {link}", file=terminal)

    async def open_pages(self, logins: "Logins", failures: "LoginFailures") -> "WebServer":
        """Open the pages at the address of the settings, or say why not and go on trying."""
        from relay.web.kit.change_watcher import ChangeWatcher  # noqa: PLC0415
        from relay.web.kit.server import WebServer  # noqa: PLC0415

        address = parse_endpoint(self._parts.settings.web.address)
        assert isinstance(address, TcpAddress)
        change_watcher = ChangeWatcher(self._state_of_things)
        web_server = WebServer(address, partial(self._make_pages, logins, failures, change_watcher))
        await web_server.start()
        self._closing.push_async_callback(web_server.stop)
        self._closing.push_async_callback(
            change_watcher.aclose
        )  # before that: a server waits for the streams that are open
        return web_server

    def _state_of_things(self) -> object:
        """Return what is another value when the pages may have something new to show."""
        directory = self._parts.directory
        return self._parts.queue.written, directory.routing(), directory.faults

    def _operations(self) -> "Operations":
        """Return what commands, pages and API may ask for: one for all, whose threads may come at once."""
        from relay.control.operations import Operations  # noqa: PLC0415

        with self._making:
            if self._made is None:
                self._made = Operations(self._parts)
            return self._made

    def _make_commands(self) -> "CommandServer":
        from relay.control.transport.server import CommandServer  # noqa: PLC0415

        return CommandServer(self._operations(), self._parts.settings.state_dir)

    def _make_pages(
        self, logins: "Logins", failures: "LoginFailures", change_watcher: "ChangeWatcher", address: TcpAddress
    ) -> Any:
        """Return the application. Takes the better part of a second."""
        from relay.control.people.admission import Admission  # noqa: PLC0415
        from relay.web.app import make_app  # noqa: PLC0415
        from relay.web.kit.site import Site, make_templates  # noqa: PLC0415

        parts = self._parts
        templates = make_templates(parts.settings.effective_hostname)
        admission = Admission(parts, logins, failures=failures)
        site = Site(self._operations(), admission, lambda: parts.settings.web.public_url, templates, change_watcher)
        return make_app(site, address, parts.settings.web.proxy_networks)
