"""One operation: a function by name, with its parameters checked, and its refusals as sentences.

What may go wrong below (a fault in the directory, a lost key, a full disk) has its own exception with its own
sentence; here, at the one boundary, each becomes a `Refused` with that sentence.
"""

import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from shlex import quote
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError, validate_call

from relay.config.faults import Faults, did_you_mean
from relay.control.actor import Actor, Role
from relay.control.refused import Conflict, NotFound, Refused, Unavailable, UnknownOperation
from relay.directory.storage import ChangeRefused, DirectoryChanged
from relay.directory.values import EditRefused, NoSuchEntry, Remedy
from relay.mail.address import AddressError
from relay.secrets.master_key import MasterKeyError
from relay.secrets.sources import SecretUnavailable
from relay.secrets.vault import SecretBroken, SecretRefused
from relay.store.db.errors import StoreError

# A parameter may be a password: no message repeats what was given.
_CHECKED = ConfigDict(strict=True, hide_input_in_errors=True)

_SENTENCES = (
    ChangeRefused,
    AddressError,
    MasterKeyError,
    SecretUnavailable,
    SecretBroken,
)


class Access(StrEnum):
    """Who may run an operation beside administrators.

    READ: viewers. ADMIN: nobody. OWN: the agent that it is about. OWN_READ: that agent, and viewers.
    """

    READ = "read"
    ADMIN = "admin"
    OWN = "own"
    OWN_READ = "own-read"


@dataclass(frozen=True, slots=True)
class Operation:
    """A function of keyword parameters: async, or, as a stream, an async generator.

    A generator yields objects, one as each step is done or, where they are many, a list of them as each page is read.
    An operation that `is_change` is for administrators, unless its `access` is OWN: then the parameter `name` says
    which agent's it is. `about` is the key by which the log names what it was done to.
    """

    function: Callable[..., Any]
    is_change: bool = False
    is_stream: bool = False
    access: Access = Access.READ
    about: Literal["name", "id"] = "name"

    def allows(self, actor: Actor, params: Mapping[str, Any]) -> bool:
        """Whether somebody may run it with these parameters."""
        if actor.role is Role.ADMINISTRATOR:
            return True
        if actor.role is Role.VIEWER:
            return self.access in {Access.READ, Access.OWN_READ} and not self.is_change
        return self.access in {Access.OWN, Access.OWN_READ} and params.get("name") == actor.name

    async def run(self, params: Mapping[str, Any]) -> Any:
        """Return the result. Raises Refused."""
        with refusals():
            return await self._call(params)

    async def batches(self, params: Mapping[str, Any]) -> AsyncGenerator[list[Any]]:
        """Yield what the operation says while it goes on, as many objects at once as there are. Raises Refused."""
        with refusals():
            found = self._call(params)
            async with aclosing(found):
                async for batch in found:
                    yield batch if isinstance(batch, list) else [batch]

    def _call(self, params: Mapping[str, Any]) -> Any:
        @wraps(self.function)
        def start(**checked: Any) -> Any:
            """Start the async function: pydantic would check its parameters at the first await only."""
            return self.function(**checked)

        for key, value in params.items():
            if not _is_text(value):
                raise UnknownOperation(f"the parameter {key!r} is wrong: it has half a character in it", key=key)
        try:
            return validate_call(config=_CHECKED)(start)(**params)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            if first["type"] == "literal_error":
                known = re.findall(r"'([^']*)'", first["ctx"]["expected"])
                meant = did_you_mean(str(params.get(key)), known)
                raise UnknownOperation(f"the {key} is {' or '.join(known)}{meant}", key=key) from None
            raise UnknownOperation(f"the parameter {key!r} is wrong: {first['msg']}", key=key) from None


def _is_text(value: Any) -> bool:
    """Whether all texts in a value can be written. JSON lets surrogates through, which are no characters."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if isinstance(value, Mapping):
        return all(_is_text(key) and _is_text(inner) for key, inner in value.items())
    return not isinstance(value, list) or all(_is_text(inner) for inner in value)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the parts below say no with into Refused, with the same sentence."""
    try:
        yield
    except Faults as error:
        raise Refused(str(error), faults=error.faults) from error
    except NoSuchEntry as error:
        raise NotFound(str(error), key=error.key) from error
    except EditRefused as error:
        raise Refused(_with_way(error), key=error.key) from error
    except DirectoryChanged as error:
        raise Conflict(str(error)) from error
    except StoreError as error:
        raise Unavailable(str(error)) from error
    except SecretRefused as error:
        raise Refused(str(error), key="password") from error
    except _SENTENCES as error:
        raise Refused(str(error)) from error


def _with_way(error: EditRefused) -> str:
    """Return the sentence of an edit that is refused, with the command or the option that does what it advises."""
    if error.remedy is not None:
        return f"{error}: {_command(error.remedy)}"
    return f"{error}: --move-to SERVER" if error.key == "move_to" else str(error)


def _command(remedy: Remedy) -> str:
    """Return a remedy as people type it."""
    assigned = (f"{key}={_assigned(value)}" for key, value in remedy.values.items())
    return " ".join(("relay", *remedy.operation.split("."), remedy.name, *map(quote, assigned)))


def _assigned(value: Any) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
