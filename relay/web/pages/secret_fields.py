"""The fields of forms that take a password or another secret, and what is done with them after a save."""

from collections.abc import Sequence
from typing import NamedTuple

from relay.secrets.login_password import prepare
from relay.web.kit.entry_editing import Record
from relay.web.kit.forms import Field, FieldFaults
from relay.web.kit.page_request import PageRequest

MAILBOX_PASSWORD = "incoming_password"  # noqa: S105 - the name of a field
LOGIN_PASSWORD = "login_password"  # noqa: S105 - the name of a field
REPLACE = "Set; fill in to replace it."
KEPT = "It is kept encrypted and never shown again."


class SetSecret(NamedTuple):
    """What is done with a secret that was given: the field, the operation and its parameter, and what is said of it."""

    field: str
    operation: str
    words: str
    parameter: str = "password"


async def set_secrets(visit: PageRequest, name: str, secrets: Sequence[SetSecret]) -> list[str]:
    """Set the secrets of an entry that were given, and return what is said of each. Raises Refused."""
    done = []
    for field, operation, words, parameter in secrets:
        given = visit.secret(field)
        if given is not None:
            await visit.run(operation, name=name, **{parameter: given})
            done.append(words)
    return done


def secret_field(key: str, label: str, hint: str) -> Field:
    """Return the field of a secret. Left empty, what is set stays."""
    return Field(key=key, label=label, kind="password", autocomplete="new-password", hint=hint)


def login_field(hint: str) -> Field:
    """Return the field of a password to log in with at Relay."""
    return Field(
        key=LOGIN_PASSWORD,
        label="Login password",
        kind="password",
        check=prepare,
        autocomplete="new-password",
        hint=hint,
    )


def has_login(record: Record | None) -> bool:
    """Whether an entry has a password to log in with at Relay."""
    return record is not None and bool(record["login_set"])


def mailbox_field(record: Record | None) -> Field:
    """Return the field of the password of an entry's mailbox."""
    has_one = record is not None and record["incoming"] is not None
    return secret_field(
        MAILBOX_PASSWORD, "Incoming password", "Leave it empty to keep the one that is set." if has_one else KEPT
    )


def mailbox_faults(visit: PageRequest) -> FieldFaults:
    """Return what is wrong where a mailbox has a password and no server."""
    if visit.secret(MAILBOX_PASSWORD) is None or visit.text("incoming.host"):
        return {}
    return {MAILBOX_PASSWORD: "it is for an incoming server; name that, or leave this empty"}
