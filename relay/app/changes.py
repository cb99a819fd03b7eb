"""What a change of the directory, of secrets or of the lead brings about in a relay that runs."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from relay import log
from relay.delivery.events import Ending
from relay.delivery.queue_runner import QueueRunner
from relay.directory.directory import Directory
from relay.directory.live import LiveDirectory
from relay.directory.model import Meaning
from relay.incoming.returned_mail import ReturnedMail
from relay.metrics import Metrics
from relay.secrets.binding import bind_unbound
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.secret import SecretRef, token_refs
from relay.secrets.vault import Vault
from relay.store.cluster.leases import Lead
from relay.store.db.errors import StoreError
from relay.system.process import in_short_turns


class Changes:
    """Lets secrets be bound, mailboxes and access tokens be watched, and the queue runner look, as things are now.

    Nothing begins before `is_serving` is set, nor when it is no more. `later` lets a job go on by itself.
    """

    def __init__(
        self,
        *,
        directory: LiveDirectory,
        vault: Vault,
        tokens: Tokens,
        returned_mail: ReturnedMail,
        queue_runner: QueueRunner,
        lead: Lead,
        metrics: Metrics,
        later: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.is_serving = False
        self._directory = directory
        self._vault = vault
        self._tokens = tokens
        self._returned_mail = returned_mail
        self._queue_runner = queue_runner
        self._lead = lead
        self._metrics = metrics
        self._later = later
        self._turn = asyncio.Lock()

    def follow_directory(self) -> None:
        """Another directory is in effect."""
        begin_counters(self._metrics, self._directory)
        self._later(self._bind_secrets())
        self._queue_runner.directory_changed()
        self._later(self._follow_accounts())

    async def follow_secrets(self) -> None:
        """Another process has changed secrets. Raises StoreError, SecretUnavailable."""
        await self._vault.follow()
        await bind_unbound(self._vault, self._directory.routing().directory)

    async def follow_lead(self) -> None:
        """Begin what one of all relays does, or end it: when this returns, nothing of it is under way any more."""
        self._queue_runner.lead_changed()
        if self._lead.is_ours:
            self._later(self._follow_accounts())
        else:
            await self._follow_accounts()

    async def _bind_secrets(self) -> None:
        """Bind the secrets that have only now a server to go to."""
        with suppress(StoreError):  # every look does it again
            await bind_unbound(self._vault, self._directory.routing().directory)

    async def _follow_accounts(self) -> None:
        """Watch the mailboxes and tokens of the directory in effect: very many agents are looked at in a thread."""
        async with self._turn:  # the last change is followed last
            if not self._lead.is_ours:
                await self._returned_mail.rest()
                self._tokens.watch(())
                return
            await self._returned_mail.follow()
            refs = await in_short_turns(_token_refs, self._directory.routing().directory)
            if self.is_serving and self._lead.is_ours:
                self._tokens.watch(refs)


def begin_counters(metrics: Metrics, directory: LiveDirectory) -> None:
    """Let counters of servers be there from the start, at 0."""
    metrics.begin(Ending, Meaning, directory.routing().directory.servers)


def tell_directory(directory: LiveDirectory) -> None:
    """Say in the log what became of a directory that was read anew."""
    if directory.faults:
        faults = [str(fault) for fault in directory.faults]
        log.broken("the directory has faults; the one before stays in effect", faults=faults)
        return
    warn_of_directory(directory)
    now = directory.routing().directory
    log.changed(what="directory", profiles=len(now.channels) + len(now.agents))


def warn_of_directory(directory: LiveDirectory) -> None:
    """Say in the log what is odd about the directory in effect."""
    for warning in directory.warnings:
        log.warned(str(warning))


def _token_refs(directory: Directory) -> list[SecretRef]:
    return list(token_refs(directory))
