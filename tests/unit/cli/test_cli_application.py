"""`relay application` and the logins of profiles."""

import tomllib

import pytest

from tests.unit.cli.cli_kit import CommandLine

PASSWORD = "geheim-login-1"


def test_an_application_is_added_and_told_how_to_go_on(peopled: CommandLine) -> None:
    out = peopled.good("application", "add", "contact-center", "--may-send-as", "support, group:flights")
    hint = f"relay application password contact-center --config {peopled.settings_file}"
    assert out == f"application contact-center added\nset the password used to log in: {hint}\n"
    applications = tomllib.loads(peopled.directory_file.read_text())["applications"]
    assert applications == {"contact-center": {"may_send_as": ["support", "group:flights"]}}
    out = peopled.good("application", "password", "contact-center", "--password-stdin", stdin=PASSWORD)
    assert out == "the login password of application contact-center is set\n"
    lines = [line.split() for line in peopled.good("application", "list").splitlines()]
    assert lines == [
        ["NAME", "MAY", "SEND", "AS", "LOGIN"],
        ["contact-center", "support,", "group:flights", "set"],
    ]


def test_an_application_with_its_password_needs_nothing_more(peopled: CommandLine) -> None:
    options = ("--may-send-as", "*", "--password-stdin")
    assert peopled.good("application", "add", "crm", *options, stdin=PASSWORD) == "application crm added\n"
    record = peopled.ask("application", "show", "crm")
    assert record == {
        "name": "crm",
        "may_send_as": ["*"],
        "bounces": None,
        "login_set": True,
        "version": record["version"],
    }
    assert peopled.ask("application", "list") == [record]
    assert "may_send_as  *\n" in peopled.good("application", "show", "crm")


def test_an_application_is_changed_and_removed(peopled: CommandLine) -> None:
    assert peopled.good("application", "list") == "there is no application yet\n"
    peopled.good("application", "add", "crm", "--may-send-as", "support")
    assert peopled.good("application", "set", "crm", "may_send_as=sales,*") == "application crm changed\n"
    assert peopled.ask("application", "show", "crm")["may_send_as"] == ["sales", "*"]
    done = peopled("application", "set", "crm", "may_send_as=sale")
    assert done.code == 1
    assert "there is no channel or agent 'sale'; did you mean 'sales'?" in done.err
    done = peopled("channel", "remove", "sales")
    sentence = "application crm may send as 'sales'; take it out first: relay application set crm 'may_send_as=*'"
    assert (done.code, done.err.startswith(sentence)) == (1, True)
    assert peopled.good("application", "remove", "crm") == "application crm removed\n"
    assert peopled.good("channel", "remove", "sales") == "channel sales removed\n"


@pytest.mark.parametrize(("kind", "name"), [("channel", "support"), ("agent", "jane")])
def test_a_profile_has_a_login_beside_its_email_password(peopled: CommandLine, kind: str, name: str) -> None:
    out = peopled.good(kind, "password", name, "--login", "--password-stdin", stdin=PASSWORD + "\n")
    assert out == f"the login password of {kind} {name} is set\n"
    record = peopled.ask(kind, "show", name)
    assert (record["login_set"], record["password_set"]) == (True, False)
    assert peopled.good(kind, "list", "--sort", "login").splitlines()[-1].split()[-1] == "set"
    assert f"login/{name}" in peopled.good("secrets", "list")
    peopled.good(kind, "remove", name)
    assert peopled.ask("secrets", "list") == []


@pytest.mark.parametrize(
    ("stdin", "code", "sentence"),
    [
        ("\n", 1, "the password is empty; nothing was changed\n"),
        ("geheim7\n", 1, "a login password has at least 8 characters\n"),
        ("geheim\tzwei\n", 1, "a login password is one line of text without control characters\n"),
    ],
)
def test_a_bad_login_password_is_one_sentence(peopled: CommandLine, stdin: str, code: int, sentence: str) -> None:
    done = peopled("agent", "password", "jane", "--login", "--password-stdin", stdin=stdin)
    assert (done.code, done.err) == (code, sentence)
    assert peopled.ask("agent", "show", "jane")["login_set"] is False


def test_nobody_is_asked_for_a_login_where_stdin_is_no_terminal(peopled: CommandLine) -> None:
    peopled.good("application", "add", "crm", "--may-send-as", "*")
    for words in (("agent", "password", "jane", "--login"), ("application", "password", "crm")):
        done = peopled(*words, stdin=PASSWORD)
        assert (done.code, done.out) == (2, "")
        assert "--password-stdin" in done.err


def test_a_login_of_nobody_is_refused_before_it_is_read(peopled: CommandLine) -> None:
    done = peopled("application", "password", "crm", stdin="")
    assert (done.code, done.err) == (1, "there is no application 'crm'\n")


def test_an_agent_may_send_as_others(peopled: CommandLine) -> None:
    options = ("--address", "joe@acmejets.example", "--may-send-as", "support,group:flights")
    peopled.good("agent", "add", "joe", *options)
    assert peopled.ask("agent", "show", "joe")["may_send_as"] == ["support", "group:flights"]
    assert peopled.ask("route", "support@acmejets.example", "--login", "joe")["profile"] == "support"


def test_a_running_relay_sets_the_login(peopled: CommandLine) -> None:
    with peopled.running():
        peopled.good("agent", "password", "jane", "--login", "--password-stdin", stdin=PASSWORD)
        assert peopled.ask("agent", "show", "jane")["login_set"] is True
