"""Where a relay runs, commands go to it: it alone needs the master key, and a change is in effect at once."""

import socket

from tests.unit.cli.cli_kit import CommandLine


def test_commands_work_without_the_master_key(peopled: CommandLine) -> None:
    key = peopled.state_dir / "master.key"
    with peopled.running():
        key.rename(peopled.folder / "away")
        peopled.good("agent", "password", "jane", "--password-stdin", "--unchecked", stdin="geheim-8\n")
        assert peopled.ask("agent", "show", "jane")["password_set"] is True
        assert peopled.good("channel", "set", "support", "script=") == "channel support changed\n"
        (peopled.folder / "away").rename(key)
    assert peopled.ask("agent", "show", "jane")["password_set"] is True
    key.unlink()
    done = peopled("agent", "show", "jane", "--json")
    assert done.code == 1
    assert "master key" in done.json["error"]


def test_steps_of_a_test_come_over_the_socket(peopled: CommandLine) -> None:
    peopled.good("server", "set", "acmejets", "host=127.0.0.1", "port=1")
    with peopled.running():
        done = peopled("channel", "test", "support", "--json")
        assert (done.code, [step["ok"] for step in done.json["steps"]]) == (1, [True, False])
        done = peopled("channel", "test", "suport", "--json")
        assert done.json == {"ok": False, "error": "there is no channel 'suport'; did you mean 'support'?"}


def test_a_socket_that_nobody_answers_counts_as_none(peopled: CommandLine) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(peopled.state_dir / "control.sock"))
    assert len(peopled.ask("server", "list")) == 2
    assert peopled("status").code == 1


def test_a_relay_with_another_state_dir_is_refused(peopled: CommandLine) -> None:
    with peopled.running():
        text = f'state_dir = "{peopled.folder}/other"\nruntime_dir = "{peopled.state_dir}"\n'
        peopled.settings_file.write_text(text)
        for arguments in (("server", "list"), ("status",)):
            done = peopled(*arguments)
            assert (done.code, done.out) == (1, "")
            assert f"keeps its state in {peopled.state_dir}" in done.err
        assert not (peopled.folder / "other").exists()
