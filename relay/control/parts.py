"""What the operations work with. `service` gives the running relay's parts, `cli` its own where none runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relay.directory.live import LiveDirectory
from relay.secrets.keeper import SecretKeeper
from relay.secrets.vault import Vault
from relay.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one relay. `status` returns the status with the keys of DESIGN section 4."""

    settings: Settings
    directory: LiveDirectory
    vault: Vault
    secrets: SecretKeeper
    status: Callable[[], dict[str, Any]]
