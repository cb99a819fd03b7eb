"""Where in a delivery something happened. What an answer means depends on it, and whether it may be repeated."""

from enum import StrEnum


class Phase(StrEnum):
    """The steps of a delivery, in their order."""

    RESOLVE = "resolve"
    """The server's name is looked up."""
    CONNECT = "connect"
    """A TCP connection is made."""
    GREETING = "greeting"
    """The server's first words are awaited."""
    EHLO = "ehlo"
    """EHLO, before and after STARTTLS."""
    STARTTLS = "starttls"
    """TLS begins, by STARTTLS or from the start."""
    LOGIN = "login"
    """AUTH."""
    MAIL = "mail"
    """MAIL, and a RSET before it."""
    RCPT = "rcpt"
    """One RCPT after the other."""
    DATA = "data"
    """DATA was sent, 354 is awaited."""
    CONTENT = "content"
    """The message is on its way, its final dot is not."""
    FINAL = "final"
    """Our final dot was sent, no answer yet: from here on a lost connection leaves the outcome unknown."""


BEFORE_LOGIN = frozenset({Phase.RESOLVE, Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.STARTTLS})
"""Where a server knows neither the login nor the message: what it says there is about neither."""
