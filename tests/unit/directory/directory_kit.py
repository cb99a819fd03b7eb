"""What the tests of the directory share: one directory with each of the three ways, as tables and as a value."""

from collections.abc import Mapping
from typing import Any

from relay.directory.directory import Directory
from relay.directory.rules.validation import parse_directory
from relay.mail.address import Address

HOUSE = """
default_server = "custom"

[servers.custom]
host = "smtp.custom.example"
username = "mailer@acme.example"

[servers.shared]
host = "smtp.shared.example"
internal = true
username = "login7"
address = "noreply@acme.example"

[channels.support]
address = "support@acme.example"
aliases = ["help@acme.example", "@support.acme.example"]
override = true

[channels.sales]
address = "sales@acme.example"
aliases = ["deals@acme.example"]
override = true
alias_identity = "keep"

[channels.news]
address = "news@acme.example"
aliases = ["letter@acme.example"]

[agents.jane]
address = "Jane.Doe@acme.example"
server = "shared"
group = "sales"
"""


def address(text: str) -> Address:
    return Address.parse(text)


def directory(tables: Mapping[str, Any]) -> Directory:
    return parse_directory(tables)
