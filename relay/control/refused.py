"""What an operation says when it does not do what was asked."""

from relay.config.faults import Fault


class Refused(Exception):
    """Nothing was done, or not all of it. The message is for people: what is wrong and what to do, one fault a line.

    `faults` are the same by their keys, where they have any; `key` is the key or parameter at fault, where it is one.
    """

    def __init__(self, message: str = "", *, faults: tuple[Fault, ...] = (), key: str = "") -> None:
        super().__init__(message)
        self.faults = faults
        self.key = key or (faults[0].key if len(faults) == 1 else "")


class UnknownOperation(Refused):
    """There is no operation of that name, or it does not take these parameters."""


class NotFound(Refused):
    """There is nothing of that name or id."""


class Forbidden(Refused):
    """Whoever asks may not do this."""


class Unavailable(Refused):
    """The store cannot be used now. The message has its file, and is for administrators alone."""


class Conflict(Refused):
    """Somebody else changed it since it was looked at."""


class LoginRefused(Refused):
    """A mail server refuses a password, so it was not kept. `words` say that, without the command that keeps it."""

    def __init__(self, words: str, noun: str, name: str) -> None:
        way = f"relay {noun} password {name} --unchecked"
        super().__init__(f"{words}; it was not saved. Keep it all the same with: {way}", key="password")
        self.words = words
