"""Forms: what was posted becomes values of the directory, tables in an entry as a whole, and only what was touched."""

from typing import Any

from starlette.datastructures import FormData

from relay.config.faults import Fault
from relay.control.refused import Refused
from relay.directory.model import Agent, Server
from relay.secrets.login_password import prepare
from relay.web.kit.forms import Field, changed_values, faults_of, given_values, read_values, shown_texts

FIELDS = (
    Field(key="host", label="Host"),
    Field(key="port", label="Port", kind="number"),
    Field(key="verify_tls", label="Check", kind="check"),
    Field(key="incoming.protocol", label="Protocol", kind="select"),
    Field(key="incoming.host", label="Incoming host"),
    Field(key="incoming.port", label="Incoming port", kind="number"),
    Field(key="default", label="Default", kind="check", is_own=True),
)
MAILBOX = {"host": "imap.example", "port": 993, "protocol": "imap", "watch_bounces": True, "ca_file": ""}
POSTED = {"host": "smtp.example", "verify_tls": "true", "incoming.protocol": "imap", "default": "true"}


def values_of(**posted: str) -> dict[str, Any]:
    """The values in what was posted beside `POSTED`; AssertionError for a fault."""
    values, faults = read_values(FIELDS, FormData({**POSTED, **posted}), Server)
    assert not faults
    return values


def test_a_new_entry_has_no_defaults_and_no_table_that_nobody_filled() -> None:
    assert given_values(values_of(), FIELDS, Server) == {"host": "smtp.example"}
    assert given_values(values_of(verify_tls=""), FIELDS, Server) == {"host": "smtp.example", "verify_tls": False}


def test_a_table_is_put_together_without_its_defaults() -> None:
    values = values_of(**{"incoming.host": "imap.example", "incoming.port": "1993"})
    assert given_values(values, FIELDS, Server)["incoming"] == {"host": "imap.example", "port": 1993}


def test_what_no_form_asks_for_stays_in_a_table_that_is_changed() -> None:
    record = {"host": "smtp.example", "verify_tls": True, "incoming": MAILBOX}
    values = values_of(**{"incoming.host": "imap.example", "incoming.port": ""})
    changed = changed_values(values, FIELDS, record, Server)
    assert changed == {"incoming": {"host": "imap.example", "watch_bounces": True}}


def test_nothing_is_changed_where_nothing_was_touched() -> None:
    for incoming in (None, MAILBOX):
        record = {"host": "smtp.example", "verify_tls": True, "incoming": incoming}
        texts = {key: text for key, text in shown_texts(FIELDS, record).items() if text}
        assert changed_values(values_of(**texts), FIELDS, record, Server) == {}


def test_a_secret_that_can_be_none_is_told_before_anything_is_saved() -> None:
    fields = (Field(key="login", label="Login password", kind="password", check=prepare),)
    short = {"login": "a login password has at least 8 characters"}
    for given, told in (("short", short), ("long enough", {}), ("", {})):
        assert read_values(fields, FormData({"login": given}), Agent) == ({}, told)


def test_an_emptied_table_is_gone() -> None:
    record = {"host": "smtp.example", "verify_tls": True, "incoming": MAILBOX}
    assert changed_values(values_of(), FIELDS, record, Server) == {"incoming": None}


def test_a_fault_finds_its_field_whatever_the_entry_is_called() -> None:
    keys = ("servers.far.away.host", "servers.far.away.incoming.port", "servers.far.away.incoming", "servers.x.host")
    error = Refused("no", faults=tuple(Fault("", key, f"about {key}") for key in keys))
    beside, others = faults_of(error, FIELDS, "servers.far.away.")
    assert beside == {
        "host": "about servers.far.away.host",
        "incoming.port": "about servers.far.away.incoming.port",
        "incoming.host": "about servers.far.away.incoming",
    }
    assert others == ["servers.x.host: about servers.x.host"]
