"""`relay check`, `relay config show`, `relay route` and `relay status`."""

import tomllib

import pytest

from tests.unit.cli.cli_kit import CommandLine

STATUS = {
    "running",
    "pid",
    "version",
    "since",
    "listeners",
    "directory",
    "queue",
    "oldest",
    "accounts_held",
}
LISTENER = '\n[[listener]]\nname = "{}"\naddress = "{}"\n'


def test_good_files_have_no_fault(peopled: CommandLine) -> None:
    out = peopled.good("check")
    assert out == f"no fault in {peopled.settings_file} and {peopled.directory_file}\n"
    assert peopled.ask("check") == {"ok": True, "faults": []}


def test_listeners_without_the_default_address_are_told_and_no_fault(peopled: CommandLine) -> None:
    plain, told = peopled.settings_file.read_text(), "127.0.0.1:2525, where it listens without a [[listener]]"
    peopled.settings_file.write_text(plain + LISTENER.format("crm", "0.0.0.0:2587") + LISTENER.format("sub", "fd:sub"))
    (note,) = peopled.good("check").splitlines()[1:]
    assert note.startswith(f"it listens at 0.0.0.0:2587 and fd:sub; {told}, is not among them, unless systemd opens it")
    assert note.endswith(": programs of this machine that send there find nobody")
    assert peopled.ask("check") == {"ok": True, "faults": []}
    peopled.settings_file.write_text(plain + LISTENER.format("here", "[::1]:2525"))
    assert f"it listens at [::1]:2525; {told}, is not among them: programs" in peopled.good("check")
    for address in ("127.0.0.1:2525", "0.0.0.0:2525", "localhost:2525"):
        both = LISTENER.format("crm", "0.0.0.0:2587") + LISTENER.format("here", address)
        peopled.settings_file.write_text(plain + both)
        assert "[[listener]]" not in peopled.good("check"), address


def test_the_faults_of_both_files_come_together(peopled: CommandLine) -> None:
    peopled.settings_file.write_text(peopled.settings_file.read_text() + 'hostnam = "x"\nworkers = 0\n')
    text = peopled.directory_file.read_text()
    peopled.directory_file.write_text(text.replace('server = "other"', 'server = "ohter"') + "\n[agents.joe]\n")
    done = peopled("check")
    assert (done.code, done.out) == (1, "")
    settings, directory = str(peopled.settings_file), str(peopled.directory_file)
    assert done.err.splitlines() == [
        f"{settings}: hostnam: there is no such key; did you mean 'hostname'?",
        f'{settings}: workers: 0 is no number of processes; write 1 or more, or "auto"',
        f"{directory}: agents.joe.address: this key is needed; add it",
        f"{directory}: channels.sales.server: there is no server 'ohter'; did you mean 'other'?",
    ]
    faults = peopled("check", "--json").json
    assert faults["ok"] is False
    assert [fault.keys() for fault in faults["faults"]] == [{"file", "key", "message"}] * 4


def test_a_settings_file_that_is_no_toml_is_one_fault(peopled: CommandLine) -> None:
    peopled.settings_file.write_text("state_dir = \n")
    done = peopled("check")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert f"{peopled.settings_file}: line 1" in done.err


def test_a_settings_file_that_is_missing_is_one_fault(relay: CommandLine) -> None:
    relay.settings_file.unlink()
    for command in (("check",), ("server", "list"), ("serve",)):
        done = relay(*command)
        assert (done.code, done.err) == (1, f"{relay.settings_file}: there is no such file\n")


def test_a_master_key_that_is_not_set_here_is_a_warning(peopled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = peopled.settings_file.read_text()
    peopled.settings_file.write_text(plain + '[secrets]\nmaster_key = "env:RELAY_KEY"\n')
    for value in (None, ""):
        monkeypatch.delenv("RELAY_KEY", raising=False) if value is None else monkeypatch.setenv("RELAY_KEY", value)
        done = peopled("check")
        assert done.code == 0
        assert done.err == (
            f"warning: {peopled.settings_file}: secrets.master_key: the variable RELAY_KEY is not set here; "
            "make sure that the service has it, or no password can be read\n"
        )
    monkeypatch.setenv("RELAY_KEY", "x" * 44)
    assert peopled("check").err == ""


def test_all_missing_files_of_tls_come_at_once_and_with_other_faults(peopled: CommandLine) -> None:
    plain, folder = peopled.settings_file.read_text(), peopled.folder
    tls = f'[tls]\ncertificate = "{folder}/chain.pem"\nkey = "{folder}/key.pem"\n'
    listeners = LISTENER.format("one", "127.0.0.1:2525") + 'security = "starttls"\n'
    listeners += LISTENER.format("two", "127.0.0.1:2526") + 'security = "tls"\n'
    missing = [
        f"{peopled.settings_file}: tls.certificate: there is no file {folder}/chain.pem",
        f"{peopled.settings_file}: tls.key: there is no file {folder}/key.pem",
    ]
    for first in ("", "workers = 0\n"):
        peopled.settings_file.write_text(first + plain + listeners + tls)
        assert peopled("check").err.splitlines()[-2:] == missing
        assert first or peopled("serve").err.splitlines() == missing
    peopled.settings_file.write_text(plain + listeners + tls.replace("key =", "# key ="))
    unnamed, first_missing = peopled("check").err.splitlines()
    assert (first_missing, "tls.key: listener 'one' has security" in unnamed) == (missing[0], True)


def test_a_missing_file_of_authorities_is_a_warning(peopled: CommandLine) -> None:
    peopled.good("server", "set", "acmejets", f"ca_file={peopled.folder}/ca.pem")
    incoming = ("incoming.host=imap.acmejets.example", f"incoming.ca_file={peopled.folder}")
    peopled.good("channel", "set", "support", *incoming)
    done = peopled("check")
    assert done.code == 0
    first, second = (line.removeprefix(f"warning: {peopled.directory_file}: ") for line in done.err.splitlines())
    without = "without it no connection is made"
    assert first == f"servers.acmejets.ca_file: there is no file {peopled.folder}/ca.pem; {without}"
    said = f"{peopled.folder} cannot be read: it is not a regular file; {without}"
    assert second == f"channels.support.incoming.ca_file: {said}"


def test_a_readable_password_is_a_warning(peopled: CommandLine) -> None:
    text = peopled.directory_file.read_text()
    peopled.directory_file.write_text(text.replace("[agents.jane]", '[agents.jane]\npassword = "geheim-9"'))
    done = peopled("check")
    assert done.code == 0
    assert done.err.startswith(f"warning: {peopled.directory_file}: agents.jane.password: ")


def test_an_own_account_without_its_server_is_a_warning(peopled: CommandLine) -> None:
    """The commands write the server into the entry; whoever writes the file by hand may leave it out."""
    text = peopled.directory_file.read_text()
    peopled.directory_file.write_text(f'{text}\n[agents.joe]\naddress = "joe@acmejets.example"\noverride = true\n')
    done = peopled("check")
    assert done.code == 0
    assert "agents.joe.server: it logs in with its own account, and the server is left out" in done.out + done.err
    assert 'write server = "acmejets"' in done.out + done.err
    peopled.good("agent", "set", "joe", "override=true")
    assert "left out" not in peopled.good("check")


def test_a_store_that_others_may_open_is_a_fault(peopled: CommandLine) -> None:
    (peopled.state_dir / "relay.db").chmod(0o644)
    done = peopled("check")
    assert done.code == 1
    assert "chmod 600" in done.err or "chmod 0600" in done.err
    assert "relay.db" in peopled("server", "list").err


def test_every_command_refuses_files_with_faults_in_the_same_words(peopled: CommandLine) -> None:
    text = peopled.directory_file.read_text()
    peopled.directory_file.write_text(text.replace('server = "other"', 'server = "ohter"'))
    checked = peopled("check").err
    for command in (("channel", "list"), ("route", "support@acmejets.example"), ("serve",)):
        assert peopled(*command).err.splitlines()[-1:] == checked.splitlines()[-1:]


def test_config_show_is_a_settings_file(peopled: CommandLine) -> None:
    out = peopled.good("config", "show")
    shown = tomllib.loads(out)
    assert out.startswith(f"# {peopled.settings_file}\n")
    assert (shown["hostname"], shown["state_dir"]) == ("relay.test", str(peopled.state_dir))
    assert peopled.ask("config", "show") == shown


def test_route_explains(peopled: CommandLine) -> None:
    route = peopled.ask("route", "help@acmejets.example", "--from", "Help <help@acmejets.example>")
    assert route.keys() >= {
        "profile",
        "server",
        "account",
        "identity",
        "override",
        "from",
        "reply_to",
        "reason",
    }
    assert route["from"] == "Help <mailer@acmejets.example>"
    out = peopled.good("route", "help@acmejets.example")
    assert "reply-to  help@acmejets.example\n" in out
    words = "=?utf-8?b?SsO8cmdlbg==?= <help@acmejets.example>"
    assert "from      Jürgen <mailer@acmejets.example>\n" in peopled.good(
        "route", "help@acmejets.example", "--from", words
    )


def test_no_route_is_a_failure(peopled: CommandLine) -> None:
    done = peopled("route", "nobody@acmejets.example")
    assert (done.code, done.out) == (1, "")
    done = peopled("route", "support@acmejets.example", "--login", "jane", "--json")
    assert (done.code, done.json["ok"]) == (1, False)


def test_status_without_a_relay_has_the_same_keys(peopled: CommandLine) -> None:
    done = peopled("status", "--json")
    assert done.code == 1
    assert done.json.keys() >= STATUS
    assert (done.json["running"], done.json["directory"]) == (False, {"ok": True, "faults": []})
    hint = f"relay serve --config {peopled.settings_file}"
    assert peopled("status").out == f"no relay is running; start it with: {hint}\n"
    peopled.directory_file.write_text("x = 1\n")
    [fault] = peopled("status", "--json").json["directory"]["faults"]
    assert fault["key"] == "x"
