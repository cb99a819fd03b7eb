"""The resolver: gives the secret for a reference, wherever it is, and remembers what is slow to ask for.

A file is read again when it changed (a look at its times and size decides), a variable every time, a command every
5 minutes or after `forget`, which a refused login calls. A command that failed is not run again for 10 seconds, so
that waiting mail does not start it over and over. Access tokens (`oauth`) are renewed by themselves.

SECURITY: a command inherits our environment, but for the variables with the master key: a password manager, and
whatever it starts, has no use for the key to all passwords.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from relay.secrets.master_key import MasterKeyError
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.secret import Secret, SecretRef, client_owner
from relay.secrets.sources import (
    UNBOUND,
    SecretDelayed,
    SecretUnavailable,
    Source,
    SourceKind,
    parse_source,
    read_source,
    source_path,
)
from relay.secrets.vault import Vault
from relay.system.files import file_stamp

_COMMAND_KEPT_SECONDS = 300.0
_FAILURE_KEPT_SECONDS = 10.0


@dataclass(slots=True)
class _Answer:
    """What a source last said. `stamp` is the file's state then, `until` the monotonic time to which it holds."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    value: str | None = field(default=None, repr=False)
    failure: str = ""
    stamp: tuple[int, ...] | None = None
    until: float = 0.0


class SecretResolver:
    """Secrets by reference. `password_from` comes first, then a password in the file, then the vault and `tokens`."""

    def __init__(
        self,
        vault: Vault,
        environ: Mapping[str, str],
        state_dir: Path,
        clock: Callable[[], float] = time.monotonic,
        tokens: Tokens | None = None,
    ) -> None:
        self.tokens = tokens or Tokens(vault)
        self._vault = vault
        self._environ = environ
        self._state_dir = state_dir
        self._clock = clock
        self._answers: dict[str, _Answer] = {}

    def is_set(self, ref: SecretRef) -> bool:
        """Tell whether there is a secret to ask for. Cheap: a source that is named counts without being read.

        One that nobody has bound yet is one: `secret` delays it until that is done.
        """
        if ref.source or ref.inline:
            return True
        if ref.token is not None:
            return self.tokens.is_set(ref)
        return self._vault.is_for(ref.owner, ref.bound_to) or self._vault.is_unbound(ref.owner)

    def is_set_for_another(self, ref: SecretRef) -> bool:
        """Tell whether there is a secret that was set for another server than this would go to. Cheap."""
        owner = client_owner(ref.token.server) if ref.token and ref.token.is_own else ref.owner
        return not self.is_set(ref) and self._vault.bound_to(owner) is not None

    def lack(self, ref: SecretRef, account: object) -> str:
        """Return in words why there is no secret to log in to an account with."""
        if self.is_set_for_another(ref):
            kind = "password" if ref.token is None else "client secret" if ref.token.is_own else "authorization"
            return f"the {kind} of {account} was set for another server or host"
        return f"no password is set for {account}" if ref.token is None else f"nobody has authorized {account}"

    async def secret(self, ref: SecretRef) -> Secret | None:
        """Return the secret, None where none is set. Raises SecretUnavailable, and what the store raises."""
        if ref.source:
            return self._vault.secret_of(await self._from_source(ref.source))
        if ref.inline:
            return self._vault.secret_of(ref.inline)
        with _key_at_hand():
            if ref.token is not None:
                return await self.tokens.secret(ref)
            secret = await self._vault.get(ref.owner)
            # Not before: what the store says now may be bound elsewhere than what was known.
            is_ours = secret is not None and self._vault.is_for(ref.owner, ref.bound_to)
            if secret is not None and not is_ours and self._vault.is_unbound(ref.owner):
                raise SecretDelayed(UNBOUND)
            return secret if is_ours else None

    async def version(self, ref: SecretRef) -> str | None:
        """Return the secret's version, None where none is set. No provider is asked for a token. Raises as `secret`."""
        if ref.source or ref.inline or ref.token is None:
            secret = await self.secret(ref)
            return secret.version if secret else None
        with _key_at_hand():
            return await self.tokens.version(ref)

    async def renewed(self, ref: SecretRef, refused: Secret) -> Secret | None:
        """Return another access token than the one that was refused; None where a secret cannot be renewed.

        Raises as `secret`.
        """
        if ref.source or ref.inline or ref.token is None:
            return None
        with _key_at_hand():
            return await self.tokens.renewed(ref, refused)

    def forget(self, ref: SecretRef) -> None:
        """Ask the source anew next time: what it said was refused."""
        self._answers.pop(ref.source, None)

    async def _from_source(self, text: str) -> str:
        source = parse_source(text)
        if source.kind is SourceKind.ENV:
            return await read_source(source, self._environ, self._state_dir)
        answer = self._answers.setdefault(text, _Answer())
        async with answer.turn:  # who comes meanwhile waits for the same answer
            if source.kind is SourceKind.COMMAND:
                return await self._from_command(source, answer)
            return await self._from_file(source, answer)

    async def _from_file(self, source: Source, answer: _Answer) -> str:
        path = source_path(source, self._environ, self._state_dir)
        assert path is not None
        stamp = file_stamp(path)
        if answer.value is None or stamp is None or stamp != answer.stamp:
            answer.value = await read_source(source, self._environ, self._state_dir)
            answer.stamp = stamp  # taken before the reading: a change in between is seen next time
        return answer.value

    async def _from_command(self, source: Source, answer: _Answer) -> str:
        if self._clock() >= answer.until:
            await self._run(source, answer)
        if answer.value is None:
            raise SecretUnavailable(answer.failure)
        return answer.value

    async def _run(self, source: Source, answer: _Answer) -> None:
        try:
            answer.value = await read_source(source, self._environ_of_commands(), self._state_dir)
        except SecretUnavailable as error:
            answer.value, answer.failure = None, str(error)
        kept = _FAILURE_KEPT_SECONDS if answer.value is None else _COMMAND_KEPT_SECONDS
        answer.until = self._clock() + kept

    def _environ_of_commands(self) -> dict[str, str]:
        hidden = self._vault.key_variables
        return {name: value for name, value in self._environ.items() if name not in hidden}


@contextmanager
def _key_at_hand() -> Iterator[None]:
    try:
        yield
    except MasterKeyError as error:  # another process changed the key, and the new one is not at hand
        raise SecretUnavailable(str(error)) from None
