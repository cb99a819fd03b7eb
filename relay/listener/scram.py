"""The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), by the library scramp.

scramp asks for the verifier while it reads the client's first message, and cannot wait for it. So that message is read
twice: once for the name alone, and once more when the verifier has been found.
"""

import re
from dataclasses import dataclass
from typing import Any

from scramp import ScramException, ScramMechanism

from relay.listener import replies
from relay.listener.commands import CommandFault
from relay.secrets.login_password import Verifier

# Octets. scramp looks at each character of the name in twelve tables, after a normalization that can multiply it.
_LONGEST_MESSAGE = 1024
# RFC 5802 section 7: gs2-header, here without channel binding, and client-first-message-bare.
_FIRST = re.compile(r"(?P<flag>[ny]),(?:a=(?P<identity>[^,]+))?,(?P<bare>.*)", re.DOTALL)
_NO_FIRST_MESSAGE = replies.bad_login_response("it is no first message of SCRAM without channel binding")


@dataclass(frozen=True, slots=True)
class _Header:
    """The gs2-header as the client sent it. scramp's own knows no authorization identity, which mutt sends."""

    octets: bytes

    def make_cbind_input(self, _binding: object) -> bytes:
        """What the client's last message has to repeat."""
        return self.octets


class ScramExchange:
    """One exchange, message by message. No channel binding: a client that wants it is refused."""

    def __init__(self, first: bytes) -> None:
        """Read the client's first message. Raises CommandFault for one that is none, or wants to act for another."""
        text = _text(first)
        parts = _FIRST.fullmatch(text)
        if not parts:
            raise CommandFault(_NO_FIRST_MESSAGE)
        self._header = _Header(text[: parts.start("bare")].encode())
        self._first = f"{parts['flag']},,{parts['bare']}"
        self.name = _name_in(self._first)
        if parts["identity"] and _saslname(parts["identity"]) != self.name:
            raise CommandFault(replies.FOREIGN_IDENTITY)
        self._server: Any = None

    def challenge(self, verifier: Verifier) -> bytes:
        """Return the server's first message. Raises CommandFault."""
        known = (verifier.salt, verifier.stored_key, verifier.server_key, verifier.iterations)
        self._server = _new_server(lambda _name: known)
        self._server.set_client_first(self._first)
        self._server.gs2_header = self._header
        return str(self._server.get_server_first()).encode()

    def check(self, final: bytes) -> bytes | None:
        """Return the server's final message if the client's proves that it knows the password, else None.

        Raises CommandFault for bytes that are no message at all.
        """
        message = _text(final)
        try:
            self._server.set_client_final(message)
        except ScramException:
            # A wrong proof, nonce or binding: which it was is nothing to tell.
            return None
        return str(self._server.get_server_final()).encode()


def _name_in(first: str) -> str:
    names: list[str] = []
    try:
        # list.append returns None, which scramp takes for an unknown name and stops at.
        _new_server(names.append).set_client_first(first)
    except ScramException:
        if names:
            return names[0]
    raise CommandFault(_NO_FIRST_MESSAGE)


def _saslname(text: str) -> str:
    """RFC 5802 section 5.1: a comma and an equals sign stand for themselves nowhere."""
    return text.replace("=2C", ",").replace("=3D", "=")


def _new_server(find: Any) -> Any:
    return ScramMechanism("SCRAM-SHA-256").make_server(find)


def _text(message: bytes) -> str:
    if len(message) > _LONGEST_MESSAGE:
        raise CommandFault(replies.bad_login_response(f"a message of SCRAM has at most {_LONGEST_MESSAGE} octets"))
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise CommandFault(replies.bad_login_response("a message of SCRAM is UTF-8")) from None
