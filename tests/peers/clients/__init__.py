"""Mail clients as people use them: each sends one message and says how that ended."""

from collections.abc import Mapping

from tests.peers.clients.letter import OPEN, Access, Client, Composer, Composition, Endpoint, Letter
from tests.peers.clients.python import python_smtplib
from tests.peers.clients.tools import curl, msmtp, swaks

__all__ = [
    "CLIENTS",
    "OPEN",
    "Access",
    "Client",
    "Composer",
    "Composition",
    "Endpoint",
    "Letter",
    "curl",
    "msmtp",
    "python_smtplib",
    "swaks",
]

# Quick, and each passes a message on octet for octet: what most tests send by.
CLIENTS: Mapping[str, Client] = {"swaks": swaks, "curl": curl, "msmtp": msmtp, "smtplib": python_smtplib}
