"""A server that refuses the login of an account."""

from typing import Any

from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server

REFUSED = b"535 5.7.8 Not with this password\r\n"


def commands(recorder: Recorder, beginning: str) -> list[str]:
    said = (command for talk in recorder.conversations for command in talk.commands)
    return [command for command in said if command.startswith(beginning)]


def with_login(recorder: Recorder, **keys: Any) -> dict[str, Any]:
    return one_channel(open_server(recorder.port, auth="plain", allow_plaintext_password=True, **keys))
