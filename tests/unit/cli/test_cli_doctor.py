"""What `relay doctor` prints: equal findings once, lines that fit, and what is to be copied in one piece."""

from dataclasses import replace
from typing import Any

import pytest

from relay.cli import doctor
from relay.cli.doctor import by_profile, grouped
from relay.cli.invocation import Invocation
from relay.control.tests.results import FindingRecord
from tests.unit.cli.cli_kit import CommandLine


def record(*names: str, check: str = "login", level: str = "bad", fix: str = "mend it", **more: Any) -> FindingRecord:
    given = FindingRecord(
        check=check,
        profile=names[0] if len(names) == 1 else None,
        level=level,
        why="it is so",
        fix=fix if level != "good" else "",
        record="",
        profiles=list(names),
        server="main",
    )
    return replace(given, **more)


def test_equal_findings_are_one_and_know_everybody() -> None:
    found = grouped([record("b", check="mx"), record("a"), record("c", fix="other"), record("d", "a")])
    assert [(each.check, each.fix, each.profiles) for each in found] == [
        ("login", "mend it", ["a", "d"]),
        ("login", "other", ["c"]),
        ("mx", "mend it", ["b"]),
    ]
    assert [each.profile for each in found] == [None, "c", "b"]


def test_a_finding_about_a_server_alone_is_of_no_profile() -> None:
    (found,) = grouped([record(server="spare", check="server")])
    assert (found.profile, found.profiles, found.server) == (None, [], "spare")


def test_in_json_each_profile_has_its_own_findings() -> None:
    found = by_profile(grouped([record("a", "b"), record(server="spare", check="server")]))
    assert [(each["check"], each["profile"], each["server"]) for each in found] == [
        ("server", None, "spare"),
        ("login", "a", "main"),
        ("login", "b", "main"),
    ]
    assert set(found[0]) == {"check", "profile", "level", "why", "fix", "record", "server"}


def printed(capsys: pytest.CaptureFixture[str], found: list[FindingRecord], profile: str | None = None) -> list[str]:
    doctor._print(grouped(found), Invocation(), profile)
    return capsys.readouterr().out.splitlines()


def test_lines_fit_and_records_and_commands_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    txt = 'acmejets.example. IN TXT "' + "v=spf1 " + "include:x.example " * 8 + '~all"'
    command = "relay server password a-server-with-quite-a-long-name --and --many --more --words"
    long = "it is so because of this and of that " * 5
    lines = printed(
        capsys,
        [
            record("a", why=long, fix=f"publish one: {txt}", record=txt, check="spf"),
            record("a", fix=f"set it with: {command}"),
        ],
        "a",
    )
    whole = [line for line in lines if len(line) > 80]
    assert [line.strip() for line in whole] == [command, txt]


def test_many_profiles_are_counted_and_some_of_them_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    names = [f"agent{number}" for number in range(10_000)]
    lines = printed(capsys, [record(*names), *(record(name, level="good", check="mx") for name in names)])
    assert lines[0].split() == ["CHECK", "GOOD", "WARN", "BAD"]
    assert [line.split() for line in lines[1:3]] == [["login", "10000"], ["mx", "10000"]]
    assert lines[-1].strip() == "for: agent0, agent1, agent2, agent3, agent4 and 9995 more profiles"


def test_what_dns_says_does_not_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, [record("a", why="evil \x1b[31m red")], "a")
    assert "\x1b" not in "".join(lines)


def test_nothing_to_examine_and_nobody_of_that_name(relay: CommandLine) -> None:
    assert relay.good("doctor") == "there is nothing to examine yet\n"
    done = relay("doctor", "suport", "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    assert "there is no profile 'suport'" in done.json["error"]
