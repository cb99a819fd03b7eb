"""`relay channel` and `relay agent` and their verbs."""

import re
import tomllib

from tests.unit.cli.cli_kit import CommandLine


def test_every_option_of_add_is_written(peopled: CommandLine) -> None:
    peopled.good("agent", "remove", "jane")
    peopled.directory_file.write_text(
        peopled.directory_file.read_text() + '[scripts.house]\nremove_headers = ["X-A"]\n'
    )
    options = ["--address", "jane@acmejets.example", "--alias", "j@acmejets.example", "--alias", "@j.example"]
    options += ["--server", "other", "--override", "--username", "jane", "--script", "house", "--mode", "direct"]
    options += [
        "--full-name",
        "Jane Doe",
        "--group",
        "flights",
        "--role",
        "lead",
        "--country",
        "NZ",
        "--language",
        "en",
    ]
    out = peopled.good("agent", "add", "jane", *options)
    hint = f"relay agent password jane --config {peopled.settings_file}"
    assert out == f"agent jane added; it sends through other\nset its email password with: {hint}\n"
    assert tomllib.loads(peopled.directory_file.read_text())["agents"]["jane"] == {
        "address": "jane@acmejets.example",
        "aliases": ["j@acmejets.example", "@j.example"],
        "server": "other",
        "override": True,
        "username": "jane",
        "script": "house",
        "mode": "direct",
        "full_name": "Jane Doe",
        "group": "flights",
        "role": "lead",
        "country": "NZ",
        "language": "en",
    }


def test_a_list_shows_the_server_as_it_resolves(peopled: CommandLine) -> None:
    lines = peopled.good("channel", "list").splitlines()
    assert lines[0].split() == ["NAME", "ADDRESS", "SERVER", "OVERRIDE", "PASSWORD", "LOGIN"]
    assert lines[1].split() == ["sales", "sales@acmejets.example", "other", "yes", "missing"]
    assert lines[2].split() == ["support", "support@acmejets.example", "acmejets", "(default)", "no"]
    assert peopled.good("agent", "list").splitlines()[0].split() == [
        "NAME",
        "ADDRESS",
        "SERVER",
        "OVERRIDE",
        "GROUP",
        "ROLE",
        "PASSWORD",
        "LOGIN",
    ]


def test_a_list_is_sorted_and_filtered(peopled: CommandLine) -> None:
    def names(*options: str) -> list[str]:
        return [record["name"] for record in peopled.ask("channel", "list", *options)]

    assert names("--sort", "server") == ["support", "sales"]
    assert names("--filter", "HELP@") == ["support"]
    assert peopled.good("channel", "list", "--filter", "nothing") == "no channel has 'nothing' in it\n"
    done = peopled("channel", "list", "--sort", "adress")
    assert (done.code, done.err) == (1, "there is no column 'adress' to sort by; did you mean 'address'?\n")


def test_lines_are_neither_cut_nor_wrapped_for_a_program(peopled: CommandLine) -> None:
    long = "a" * 60 + "@" + "b" * 60 + ".example"
    peopled.good("channel", "add", "long", "--address", long, "--username", "x" * 64)
    [line] = [line for line in peopled.good("channel", "list").splitlines() if line.startswith("long")]
    assert long in line


def test_a_password_comes_from_stdin_without_its_line_end(peopled: CommandLine) -> None:
    done = peopled("agent", "password", "jane", "--password-stdin", stdin="geheim-3\r\nrest\n")
    assert (done.code, done.out) == (0, "the email password of agent jane is set\n")
    assert done.err.startswith("not tested: acmejets could not try it: The name of the mail server cannot be resolved")
    out = peopled.good("channel", "password", "support", "--password-stdin", "--unchecked", stdin="geheim-4")
    hint = f"relay channel set support override=true --config {peopled.settings_file}"
    assert out.endswith(f"it is used once this is done: {hint}\n")


def test_nobody_is_asked_where_stdin_is_no_terminal(peopled: CommandLine) -> None:
    done = peopled("agent", "password", "jane", stdin="geheim-5\n")
    assert (done.code, done.out) == (2, "")
    assert "--password-stdin" in done.err


def test_an_empty_password_changes_nothing(peopled: CommandLine) -> None:
    done = peopled("agent", "password", "jane", "--password-stdin", stdin="\n")
    assert (done.code, done.err) == (1, "the password is empty; nothing was changed\n")
    assert peopled.ask("agent", "show", "jane")["password_set"] is False


def test_a_password_of_nobody_is_refused_before_it_is_read(peopled: CommandLine) -> None:
    done = peopled("agent", "password", "jan", stdin="")
    assert (done.code, done.err) == (1, "there is no agent 'jan'; did you mean 'jane'?\n")


def test_a_password_is_no_argument(peopled: CommandLine) -> None:
    done = peopled("agent", "set", "jane", "password=geheim-6")
    assert done.code == 1
    assert "a password is never an argument" in done.err


def test_set_show_and_remove(peopled: CommandLine) -> None:
    assert peopled.good("channel", "set", "support", "aliases=a@b.example,c@d.example") == "channel support changed\n"
    assert re.search(r"^aliases +a@b\.example, c@d\.example$", peopled.good("channel", "show", "support"), re.MULTILINE)
    assert peopled.good("channel", "remove", "support") == "channel support removed\n"
    assert peopled("channel", "show", "support").code == 1


def test_a_test_without_a_password_says_so_at_the_login(peopled: CommandLine) -> None:
    peopled.good("server", "set", "other", "host=127.0.0.1", "port=1")
    done = peopled("channel", "test", "sales", "--json")
    assert (done.code, done.json["steps"][-1]["step"]) == (1, "connect")


def test_secrets_are_listed_imported_and_rotated(peopled: CommandLine) -> None:
    assert peopled.good("secrets", "list") == "no password is set yet\n"
    text = peopled.directory_file.read_text()
    peopled.directory_file.write_text(text.replace("[agents.jane]", '[agents.jane]\npassword = "geheim-7"'))
    assert f"relay secrets import --config {peopled.settings_file} moves it" in peopled.good("secrets", "list")
    assert peopled.good("secrets", "import") == "1 password moved to the vault: profile/jane\n"
    [record] = peopled.ask("secrets", "list")
    assert record.keys() == {"owner", "source", "changed", "used"}
    assert peopled.good("secrets", "rotate").startswith("1 password encrypted under the new master key ")
    assert peopled.ask("agent", "show", "jane")["password_set"] is True
