"""`relay check`, `relay config show`, `relay route` and `relay status`."""

import tomllib

from tests.cli.cli_kit import CommandLine

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


def test_good_files_have_no_fault(peopled: CommandLine) -> None:
    out = peopled.good("check")
    assert out == f"no fault in {peopled.settings_file} and {peopled.directory_file}\n"
    assert peopled.ask("check") == {"ok": True, "faults": []}


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
