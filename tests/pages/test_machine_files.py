"""Who has a password of the pages or a token names no file of the machine; what is set there stays through an edit."""

from collections.abc import Iterator

import pytest

from tests.peers.api import ApiClient
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, Console, console_process
from tests.peers.form_filler import FormFiller
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server

SENTENCE = "this names a file or a program of the machine"
FILE = "/etc/ssl/private-ca.pem"
INCOMING = {"host": "imap.acmejets.example", "protocol": "imap"}


@pytest.fixture(scope="module")
def own(upstream: Recorder) -> Iterator[Console]:
    directory = one_channel(open_server(upstream.port))
    directory["servers"]["acmejets"]["ca_file"] = FILE
    directory["channels"]["support"]["incoming"] = {**INCOMING, "ca_file": FILE}
    with console_process(directory) as running:
        yield running


@pytest.fixture(scope="module")
def program(own: Console) -> ApiClient:
    return ApiClient(own.url, own.add_token("files"))


@pytest.mark.parametrize("value", ["/proc/self/fd/2", "/etc/passwd", FILE, "", None])
def test_a_program_names_no_file(value: str | None, own: Console, program: ApiClient) -> None:
    asked = (
        ("PATCH", "/servers/acmejets", {"ca_file": value}, "ca_file"),
        ("POST", "/servers", {"name": "new", "host": "a.example", "ca_file": value}, "ca_file"),
        ("PATCH", "/channels/support", {"incoming": {**INCOMING, "ca_file": value}}, "incoming.ca_file"),
        ("PATCH", "/channels/support", {"password_from": value}, "password_from"),
    )
    for method, path, body, key in asked:
        told = program.ask(method, path, body)
        assert told.status == 422, (path, told.json)
        assert SENTENCE in told.json["detail"]
        assert [one["key"] for one in told.json["errors"]] == [key]
    assert own.relay.directory_file.read_text().count(FILE) == 2


def test_an_edit_leaves_the_files_as_they_are(own: Console, program: ApiClient) -> None:
    assert program.ask("PATCH", "/servers/acmejets", {"max_connections": 3}).json["ca_file"] == FILE
    changed = program.ask("PATCH", "/channels/support", {"incoming": {**INCOMING, "watch_bounces": False}})
    assert changed.json["incoming"]["ca_file"] == FILE
    visitor = FormFiller(own.url)
    visitor.sign_in(ADMINISTRATOR, canary(ADMINISTRATOR))
    assert "is saved" in visitor.save("/servers/acmejets", max_connections="2")
    assert "is saved" in visitor.save("/channels/support", **{"incoming.port": "1993"})
    assert program.get("/servers/acmejets")["ca_file"] == FILE
    assert program.get("/channels/support")["incoming"]["ca_file"] == FILE


def test_a_page_shows_a_file_and_takes_none(own: Console, program: ApiClient) -> None:
    visitor = FormFiller(own.url)
    visitor.sign_in(ADMINISTRATOR, canary(ADMINISTRATOR))
    assert f'value="{FILE}"' in visitor.get("/servers/acmejets")
    visitor.save("/servers/acmejets", ca_file="/etc/passwd")
    visitor.save("/channels/support", **{"incoming.ca_file": "/etc/passwd"})
    assert "/etc/passwd" not in own.relay.directory_file.read_text()
    assert program.get("/servers/acmejets")["ca_file"] == FILE
