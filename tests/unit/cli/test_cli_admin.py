"""`relay admin`, `relay token` and `relay agent invite`."""

import re

import pytest

from tests.unit.cli.cli_kit import CommandLine

PASSWORD = "geheim-geheim"
LINK = re.compile(r"http://127\.0\.0\.1:8025/welcome/[\w-]{43}$")


def test_people_are_added_listed_changed_and_removed(relay: CommandLine) -> None:
    assert relay.good("admin", "list") == "there is no administrator yet\n"
    out = relay.good("admin", "add", "ada", "--password-stdin", stdin=PASSWORD)
    assert out == "administrator ada added\n"
    out = relay.good("admin", "add", "vera", "--role", "viewer", "--link")
    assert out.startswith("viewer vera added\nthe password is set at this address, once and within 24 hours: ")
    assert LINK.search(out.strip())
    listed = relay.ask("admin", "list")
    assert [(one["name"], one["role"], one["password_set"]) for one in listed] == [
        ("ada", "administrator", True),
        ("vera", "viewer", False),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one["created"]) for one in listed)
    assert [line.split()[0::3] for line in relay.good("admin", "list").splitlines()[:1]] == [["NAME", "PASSWORD"]]
    assert relay.good("admin", "set", "vera", "--role", "administrator") == "vera is an administrator now\n"
    out = relay.good("admin", "password", "vera", "--password-stdin", stdin=PASSWORD)
    assert out == "the password of vera is set\n"
    assert relay.good("admin", "remove", "ada") == "ada removed\n"
    done = relay("admin", "remove", "vera")
    assert (done.code, done.err) == (
        1,
        f"'vera' is the last administrator; add another first: relay admin add NAME --config {relay.settings_file}\n",
    )


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "sentence"),
    [
        (["add", "ada"], "", 2, "use --password-stdin or --link"),
        (["add", "ada", "--link", "--password-stdin"], "", 2, "give one of"),
        (["add", "ada", "--password-stdin"], "short", 1, "at least 8 characters"),
        (["add", "ada", "--password-stdin"], "", 1, "the password is empty"),
        (["add", "ada", "--link", "--role", "king"], "", 1, "the role is administrator or viewer"),
        (["add", "a b", "--link"], "", 1, "a name cannot contain spaces"),
        (["password", "ada", "--link"], "", 1, "there is no administrator or viewer 'ada'"),
        (["remove", "ada"], "", 1, "there is no administrator or viewer 'ada'"),
    ],
)
def test_what_cannot_be_done_is_refused(
    relay: CommandLine, arguments: list[str], stdin: str, code: int, sentence: str
) -> None:
    done = relay("admin", *arguments, stdin=stdin)
    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
    assert relay.ask("admin", "list") == []


def test_without_pages_there_are_no_links(peopled: CommandLine) -> None:
    peopled.settings_file.write_text(peopled.settings_file.read_text() + '[web]\naddress = ""\n')
    for arguments in (("admin", "add", "ada", "--link"), ("agent", "invite", "jane")):
        done = peopled(*arguments)
        assert (done.code, "the web pages are turned off" in done.err) == (1, True)
    assert peopled.ask("admin", "list") == []


def test_a_token_is_printed_once(relay: CommandLine) -> None:
    assert relay.good("token", "list") == "there is no token yet\n"
    token = relay.good("token", "add", "monitoring", "--role", "viewer").strip()
    assert re.fullmatch(r"relay_[\w-]{43}", token)
    (listed,) = relay.ask("token", "list")
    assert listed == {"name": "monitoring", "role": "viewer", "created": listed["created"], "used": None}
    assert "never" in relay.good("token", "list")
    assert token not in relay.good("token", "list")
    assert relay("token", "add", "monitoring").err.startswith("there is a token 'monitoring' already")
    assert relay.good("token", "remove", "monitoring") == "token monitoring removed\n"
    assert relay("token", "remove", "monitoring").err == "there is no token 'monitoring'\n"
    added = relay.ask("token", "add", "ci")
    assert (added["name"], added["role"], added["token"][:6]) == ("ci", "viewer", "relay_")


def test_an_agent_is_invited(peopled: CommandLine) -> None:
    done = peopled("agent", "invite", "jane")
    told, note = done.err.splitlines()
    assert (done.code, told) == (0, "agent jane sets its passwords at this address, once and within 24 hours:")
    assert note.startswith("it works on this machine alone; ")
    assert LINK.fullmatch(done.out.strip())
    plain = peopled.settings_file.read_text()
    peopled.settings_file.write_text(plain + '[web]\npublic_url = "https://relay.acmejets.example"\n')
    assert peopled("agent", "invite", "jane").err == f"{told}\n"
    peopled.settings_file.write_text(plain)
    assert peopled.ask("agent", "invite", "jane").keys() == {"url", "expires"}
    assert peopled("agent", "invite", "support").err == "'support' is no agent; it is one of the channels\n"


def test_a_running_relay_does_the_same(peopled: CommandLine) -> None:
    with peopled.running():
        peopled.good("admin", "add", "ada", "--password-stdin", stdin=PASSWORD)
        assert [one["name"] for one in peopled.ask("admin", "list")] == ["ada"]
        assert LINK.fullmatch(peopled("agent", "invite", "jane").out.strip())
