"""Messages that are sent into a queue, and what waits in it."""

from typing import Any

from tests.peers.relay import Relay

SENDER = "support@acmejets.example"
MESSAGE = b"Subject: hello\r\nMessage-ID: <1@customer.example>\r\n\r\nhello\r\n"


def settings(mode: str = "auto", **delivery: Any) -> dict[str, Any]:
    quick = {"patience": "15s", "retry": ["1s"], "unknown_pause": "1s", "probe": ["1h"]}
    return {"delivery": {"mode": mode, **quick, **delivery}}


def submit(relay: Relay, *recipients: str, sender: str = SENDER, message: bytes = MESSAGE) -> str:
    with relay.connect() as client:
        client.say("EHLO raw.test")
        client.say(f"MAIL FROM:<{sender}>")
        for recipient in recipients or ("you@customer.example",):
            client.say(f"RCPT TO:<{recipient}>")
        client.say("DATA")
        return client.say(message.decode() + ".")


def queued_id(reply: str) -> str:
    assert reply.startswith("250 2.0.0 Ok: queued as "), reply
    return reply.rpartition(" ")[2]


def waiting(relay: Relay) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = relay.ask("queue", "list")
    return found


def state_of(relay: Relay, id_: str) -> str:
    return str(relay.ask("messages", "show", id_)["state"])
