"""`relay directory`: between a file and the database; and what the commands make of a directory in there."""

import tomllib
from pathlib import Path

import pytest

from relay.directory.rules.validation import parse_directory
from tests.unit.cli.cli_kit import CommandLine
from tests.unit.directory.directory_kit import HOUSE

RICH = (
    HOUSE
    + """
full_name = 'Jane "JD" Doe \\ Größe 🎈'
may_send_as = ["support", "group:sales"]

[agents.jane.incoming]
host = "imap.acme.example"
port = 143
security = "starttls"
watch_bounces = true

[servers.oauth]
host = "smtp.office365.example"
auth = "oauth2"
username = "a@acme.example"
message_size = "36MiB"
verify_tls = false

[[servers.oauth.answers]]
match = "mailbox busy"
means = "throttle"

[servers.oauth.oauth]
provider = "microsoft"
client_id = "4711"
tenant = "acme"

[applications."contact.center"]
may_send_as = ["*"]

[scripts.default]
set_headers = { Organization = "Acme; Jets" }
remove_headers = ["X-Originating-IP"]
"""
)
KEPT = 'directory = "database"\n'


@pytest.fixture
def stored(relay: CommandLine) -> CommandLine:
    """A relay whose store keeps the directory, which is empty yet."""
    relay.settings_file.write_text(KEPT + relay.settings_file.read_text())
    relay.state_dir.mkdir(mode=0o700)
    return relay


def here(relay: CommandLine) -> str:
    return f"the directory in {relay.state_dir / 'relay.db'}"


def written(relay: CommandLine, text: str) -> Path:
    relay.directory_file.write_text(text)
    return relay.directory_file


def test_a_file_goes_into_the_database_and_comes_back_the_same(stored: CommandLine) -> None:
    written(stored, HOUSE)
    out = stored.good("directory", "import")
    assert "+ default_server\n+ servers.custom\n+ servers.shared\n+ channels.support\n" in out
    assert out.endswith("\nentries: 7 added\n")
    assert [one["name"] for one in stored.ask("channel", "list")] == ["news", "sales", "support"]
    text = stored.good("directory", "export")
    assert tomllib.loads(text) == tomllib.loads(HOUSE)
    assert list(tomllib.loads(text)["channels"]) == ["support", "sales", "news"]
    assert stored.good("directory", "import", "-", stdin=text) == "all of it is there already; nothing was changed\n"


def test_everything_that_a_directory_can_say_comes_back(stored: CommandLine) -> None:
    written(stored, RICH)
    stored.good("directory", "import")
    found = tomllib.loads(stored.good("directory", "export"))
    assert found == tomllib.loads(RICH)
    assert parse_directory(found) == parse_directory(tomllib.loads(RICH))


def test_what_it_changes_and_removes(stored: CommandLine) -> None:
    written(stored, HOUSE)
    stored.good("directory", "import")
    text = HOUSE.replace("[channels.sales]", "[channels.trade]").replace('group = "sales"', 'group = "trade"')
    written(stored, text)
    dry = stored.good("directory", "import", "--dry-run")
    assert dry == "+ channels.trade\n~ agents.jane\n- channels.sales\n"
    assert tomllib.loads(stored.good("directory", "export")) == tomllib.loads(HOUSE)
    done = stored.ask("directory", "import")
    assert (done["ok"], done["done"], done["unchanged"]) == (True, True, 5)
    assert done["removes"] == ["channels.sales"]
    assert tomllib.loads(stored.good("directory", "export")) == tomllib.loads(text)


def test_a_file_with_faults_changes_nothing(stored: CommandLine) -> None:
    written(stored, HOUSE)
    stored.good("directory", "import")
    file = written(stored, HOUSE.replace('server = "shared"', 'server = "shard"').replace("internal", "inner"))
    done = stored("directory", "import")
    assert done.code == 1
    assert done.err == (
        f"{file}: agents.jane.server: there is no server 'shard'; did you mean 'shared'?\n"
        f"{file}: servers.shared.inner: there is no such key; did you mean 'internal'?\n"
        "nothing was changed\n"
    )
    written(stored, "default_server = ")
    done = stored("directory", "import", "--json")
    assert done.code == 1
    assert done.json["ok"] is False
    assert tomllib.loads(stored.good("directory", "export")) == tomllib.loads(HOUSE)


def test_a_date_in_the_file_is_a_fault_as_anywhere(stored: CommandLine) -> None:
    """JSON, which the rows are in, has none."""
    file = written(stored, HOUSE + "\n[agents.dated]\naddress = 2026-01-02\n")
    done = stored("directory", "import")
    assert done.code == 1
    assert done.err == (
        f"{file}: agents.dated.address: 2026-01-02 is not text; write it in quotes\nnothing was changed\n"
    )


def test_a_password_in_the_file_is_refused(stored: CommandLine) -> None:
    file = written(stored, HOUSE.replace("[servers.shared]", '[servers.shared]\npassword = "geheim"'))
    done = stored("directory", "import")
    assert done.code == 1
    assert f"{file}: servers.shared.password: a password stands in this file" in done.err
    assert "relay secrets import" in done.err


def test_passwords_stay_in_the_vault(stored: CommandLine) -> None:
    written(stored, HOUSE)
    stored.good("directory", "import")
    stored.good("channel", "password", "support", "--password-stdin", "--unchecked", stdin="geheim\n")
    written(stored, HOUSE.replace("help@acme.example", "hilfe@acme.example"))
    stored.good("directory", "import")
    assert stored.ask("channel", "show", "support")["password_set"]


def test_the_database_can_be_filled_before_relay_goes_by_it(relay: CommandLine) -> None:
    relay.state_dir.mkdir(mode=0o700)
    written(relay, HOUSE)
    refused = relay("directory", "export")
    assert refused.err.startswith(
        f"there is nothing in {here(relay)} yet; put a file there with: relay directory import"
    )
    with relay.running():
        out = relay.good("directory", "import")
        assert 'to go by it, write directory = "database" in relay.toml, and restart relay\n' in out
        relay.good("channel", "remove", "news")
        assert "[channels.news]" in relay.good("directory", "export")
    relay.settings_file.write_text(KEPT + relay.settings_file.read_text())
    assert "news" in {one["name"] for one in relay.ask("channel", "list")}


def test_a_running_relay_goes_by_it_at_once(stored: CommandLine) -> None:
    with stored.running():
        written(stored, HOUSE)
        stored.good("directory", "import")
        assert stored.ask("route", "news@acme.example")["server"] == "custom"
        entry = stored.ask("channel", "show", "news")
        assert entry["address"] == "news@acme.example"


def test_nothing_is_overwritten(stored: CommandLine, tmp_path: Path) -> None:
    written(stored, HOUSE)
    stored.good("directory", "import")
    new = tmp_path / "new.toml"
    assert stored.good("directory", "export", str(new)) == f"wrote {new}: {here(stored)}\n"
    assert new.stat().st_mode & 0o777 == 0o600
    new.write_text("mine")
    done = stored("directory", "export", str(new))
    assert (done.code, done.err) == (
        1,
        f"{new} is there already, and nothing is overwritten; name another file\n",
    )
    assert new.read_text() == "mine"


def test_a_person_is_asked(stored: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    written(stored, HOUSE)
    monkeypatch.setattr("relay.cli.transfers.is_person", lambda: True)
    monkeypatch.setattr("relay.cli.transfers.ask_yes", lambda *_, **__: False)
    done = stored("directory", "import")
    assert (done.code, done.err) == (1, "nothing was changed\n")
    assert stored.ask("channel", "list") == []


def test_a_file_that_is_not_there_is_one_sentence(stored: CommandLine) -> None:
    done = stored("directory", "import")
    assert (done.code, done.err) == (1, f"{stored.directory_file}: No such file or directory\n")


def test_check_and_status_look_into_the_database(stored: CommandLine) -> None:
    checked = stored.good("check")
    assert checked.endswith(f"{here(stored)} (which is not there yet: nobody can send)\n")
    assert not (stored.state_dir / "relay.db").exists(), "a look makes nothing"
    written(stored, HOUSE)
    stored.good("directory", "import")
    done = stored("check")
    assert done.code == 0
    assert done.out.endswith(f"relay.toml and {here(stored)}\n")
    assert "warning: " in done.err
    assert 'write server = "custom"' in done.err
    stored.settings_file.write_text(stored.settings_file.read_text() + '[[listener]]\nmay_send_as = ["nobody"]\n')
    done = stored("check")
    assert done.code == 1
    assert "may_send_as: there is no channel, agent" in done.err or "nobody" in done.err


def test_init_fills_the_database(stored: CommandLine) -> None:
    first = ("--host", "smtp.acme.example", "--address", "a@acme.example", "--username", "a@acme.example", "--no-test")
    stored.good("init", *first)
    assert not stored.directory_file.exists()
    assert stored.ask("server", "list")[0]["host"] == "smtp.acme.example"
    done = stored("init", *first)
    assert done.code == 1
    assert done.err.startswith(f"{here(stored)} is there already, and nothing is overwritten; go on with: ")


def test_a_backup_has_it(stored: CommandLine, tmp_path: Path) -> None:
    written(stored, HOUSE)
    stored.good("directory", "import")
    out = stored.good("backup", str(tmp_path / "backup"))
    assert "directory.toml" not in out
    stored.good("channel", "remove", "news")
    stored.good("restore", str(tmp_path / "backup"))
    assert "news" in {one["name"] for one in stored.ask("channel", "list")}


def test_a_fault_names_the_database(stored: CommandLine) -> None:
    written(stored, HOUSE)
    stored.good("directory", "import")
    refused = stored("channel", "set", "news", "server=shard")
    assert refused.err == f"{here(stored)}: channels.news.server: there is no server 'shard'; did you mean 'shared'?\n"
