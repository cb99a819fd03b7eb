"""What the tests of `moving` share: files as texts, and what was found in them in few words."""

from collections.abc import Mapping
from typing import Any

from relay.moving.found import Found, profile_entries, server_entries
from relay.moving.msmtp import read_msmtp
from relay.moving.postfix import read_postfix
from relay.moving.postfix_settings import TableUnavailable

FILE = "/etc/postfix/main.cf"


def postfix(main_cf: str, **tables: str) -> Found:
    """Read a main.cf whose tables and files are texts by their last path component; any other is not there."""

    def source(kind: str, path: str) -> tuple[str, str]:
        name = path.rpartition("/")[2]
        if name not in tables:
            raise TableUnavailable(f"{path} is not there ({kind})")
        return tables[name], path

    return read_postfix(main_cf, FILE, source, "mail.acme.example")


def msmtp(text: str) -> Found:
    return read_msmtp(text, "/home/jane/.msmtprc", "/home/jane")


def notes(found: Found) -> list[str]:
    """What is not taken over, as people read it, with what only the entries know."""
    more = list(found.notes)
    profile_entries(found, more)
    return [f"{place}: {message}" for place, message in more]


def servers(found: Found) -> Mapping[str, Any]:
    """The keys of each server."""
    return {one.key: dict(one.values) for one in server_entries(found)}


def profiles(found: Found) -> list[tuple[str, dict[str, Any], str]]:
    """Server, keys and password of each profile."""
    return [(one.server, one.values, one.password) for one in profile_entries(found, [])]
