"""`relay import`: what it shows, when it asks, and that nothing is done by halves."""

from pathlib import Path

import pytest

from tests.peers.packages import program
from tests.peers.system import run
from tests.unit.cli.cli_kit import CommandLine

MAIN_CF = """\
relayhost = [smtp.acme.example]:587
smtp_sasl_auth_enable = yes
smtp_sender_dependent_authentication = yes
smtp_sasl_password_maps = hash:$config_directory/sasl
smtp_tls_security_level = secure
always_bcc = all@acme.example
"""
SASL = "[smtp.acme.example]:587 mailer@acme.example:geheim-1\nsupport@acme.example desk:geheim-2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "postfix"
    folder.mkdir()
    (folder / "main.cf").write_text(MAIN_CF)
    (folder / "sasl").write_text(SASL)
    return folder


def test_what_it_makes_of_postfix(relay: CommandLine, folder: Path) -> None:
    out = relay.good("import", "postfix", str(folder))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    server = "smtp.acme.example"
    assert f"new {server} (default) {server}:587 (starttls) mailer@acme.example vault" in lines
    assert f"new channel support support@acme.example {server} desk vault" in lines
    assert f"  {folder}/main.cf:6: always_bcc: Relay sends no copies of mail" in out
    assert '  policy.unknown_sender = "default"' in out
    assert out.endswith("\nadded: 1 server, 2 senders\n")
    assert relay.ask("channel", "show", "support")["password_set"]
    again = relay.good("import", "postfix", str(folder / "main.cf"))
    assert again.endswith("\nall of it is there already; nothing was changed\n")


def test_a_running_relay_is_asked(relay: CommandLine, folder: Path) -> None:
    with relay.running():
        relay.good("import", "postfix", str(folder))
        assert relay.ask("server", "show", "smtp.acme.example")["password_set"]


def test_a_dry_run_does_nothing(relay: CommandLine, folder: Path) -> None:
    out = relay.good("import", "postfix", str(folder), "--dry-run")
    assert "added" not in out
    assert relay.ask("server", "list") == []


def test_json(relay: CommandLine, folder: Path) -> None:
    said = relay.ask("import", "postfix", str(folder), "--agents")
    assert (said["ok"], said["done"], said["default_server"]) == (True, True, "smtp.acme.example")
    assert [(one["kind"], one["name"], one["password"]) for one in said["profiles"]] == [
        ("agent", "support", "vault"),
        ("agent", "mailer", None),
    ]
    [note] = said["not_taken_over"]
    assert (note["file"], note["line"]) == (f"{folder}/main.cf", 6)
    assert said["suggestions"][0]["key"] == "policy.unknown_sender"


def test_what_is_there_is_not_overwritten(relay: CommandLine, folder: Path) -> None:
    relay.good("server", "add", "smtp.acme.example", "--host", "smtp.acme.example", "--username", "other@acme.example")
    done = relay("import", "postfix", str(folder))
    assert done.code == 1
    place = f"{folder}/main.cf:1: servers.smtp.acme.example.username: "
    assert done.err.startswith(place)
    assert done.err.endswith("\nnothing was changed\n")
    assert relay.ask("channel", "list") == []
    done = relay("import", "postfix", str(folder), "--json")
    assert (done.code, done.json["ok"], done.json["done"]) == (1, False, False)


@pytest.mark.parametrize(("answer", "is_done"), [("yes\n", True), ("no\n", False), ("\n", False), ("", False)])
def test_on_a_terminal_it_asks(
    answer: str, *, is_done: bool, relay: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("relay.cli.transfers.is_person", lambda: True)
        done = relay("import", "postfix", str(folder), stdin=answer)
    assert done.err.startswith("Do this? (yes or no) [no]: ")
    assert (done.code == 0) == is_done
    assert bool(relay.ask("server", "list")) == is_done


@pytest.mark.needs("postmap")
def test_a_table_whose_text_is_gone_is_asked_of_postmap(relay: CommandLine, folder: Path) -> None:
    postmap = program("postmap")
    assert run([postmap, "-c", str(folder), f"hash:{folder}/sasl"]).status == 0
    (folder / "sasl").unlink()
    said = relay.ask("import", "postfix", str(folder))
    assert [one["address"] for one in said["profiles"]] == ["support@acme.example", "mailer@acme.example"]


def test_a_table_that_is_gone_is_told(relay: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.moving.files._SYSTEM_FOLDERS", "/nowhere")
    table = folder / "sasl"
    table.unlink()
    out = relay.good("import", "postfix", str(folder), "--dry-run")
    told = f"{table} is not there, and postmap, which could read hash:{table}, is not, either"
    assert f"{folder}/main.cf:4: smtp_sasl_password_maps: {told}\n" in out


@pytest.mark.needs("postmap")
def test_a_table_that_postmap_cannot_read_is_told(relay: CommandLine, folder: Path) -> None:
    (folder / "sasl").unlink()
    out = relay.good("import", "postfix", str(folder), "--dry-run")
    assert f"{folder}/sasl is not there, and postmap cannot read hash:{folder}/sasl" in out


def test_accounts_of_msmtp(relay: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "msmtprc"
    file.write_text(
        "defaults\nauth on\ntls on\nport 587\naccount a\nhost h.example\nfrom a@b.example\nuser a\npassword geheim\n"
        "account c : a\nfrom c@b.example\nuser c\npassword geheim-c\naccount default : a\n"
    )
    out = relay.good("import", "msmtp", str(file))
    assert out.endswith("\nadded: 1 server, 2 senders\n")
    assert relay.ask("route", "c@b.example")["account"] == "h.example/c"
    assert relay.ask("route", "a@b.example")["account"] == "h.example/a"


@pytest.mark.parametrize(
    ("words", "text", "sentence"),
    [
        (("postfix",), None, "it cannot be read: No such file or directory"),
        (("postfix",), "# nothing\n", "no server is named there through which mail leaves"),
        (("postfix",), "relayhost = ${x\n", "relayhost: a brace in it is open"),
        (("msmtp",), "account\n", ":1: an account has no name"),
        (("msmtp",), "account a\nfrom a@b.example\n", "account a: it has no host"),
        (("msmtp",), "\0", "it is not text"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(
    words: tuple[str, ...], text: str | None, sentence: str, relay: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    if text is not None:
        file.write_text(text)
    done = relay("import", *words, str(file))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(str(file))
    assert sentence in done.err


def test_a_folder_is_no_msmtprc(relay: CommandLine, tmp_path: Path) -> None:
    assert "is a folder; name the file" in relay("import", "msmtp", str(tmp_path)).err
