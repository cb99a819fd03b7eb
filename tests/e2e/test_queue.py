"""The queue: what the upstream did not take is kept, tried again, held or reported, and never lost or doubled."""

import re
import signal
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.e2e.queued import SENDER, queued_id, settings, state_of, submit, waiting
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.recorder import HANG_UP, REPLIES, Recorder, recorder_server
from tests.peers.relay import one_channel, open_server
from tests.peers.sink import Sink
from tests.peers.system import free_port, run, wait_until


def test_what_is_taken_at_once_never_touches_the_queue(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), settings())
    assert submit(relay) == "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"
    assert waiting(relay) == []
    wait_until(lambda: relay.ask("messages", "list"), "the history")
    (message,) = relay.ask("messages", "list")
    assert (message["state"], message["sender"], message["message_id"]) == (
        "delivered",
        SENDER,
        "<1@customer.example>",
    )


def test_a_server_that_is_away_gets_the_message_when_it_is_back(start_relay: StartRelay) -> None:
    port = free_port()
    relay = start_relay(one_channel(open_server(port)), settings())
    id_ = queued_id(submit(relay))
    # An attempt of every second may just be under way.
    entry = wait_until(lambda: [one for one in waiting(relay) if one["state"] == "queued"], "a pause")[0]
    assert (entry["id"], entry["profile"]) == (id_, "support")
    assert entry["reason"].startswith("temporary: 451 4.4.1 ")
    with recorder_server(port=port) as recorder:
        wait_until(lambda: state_of(relay, id_) == "delivered", "delivery")
        assert len(recorder.messages) == 1
    assert waiting(relay) == []


def test_mode_queued_answers_before_the_upstream_does(start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.hold("MAIL")
    relay = start_relay(one_channel(open_server(recorder.port)), settings("queued"))
    id_ = queued_id(submit(relay))
    recorder.wait_for("MAIL")
    assert [entry["state"] for entry in waiting(relay)] == ["sending"]
    recorder.release("MAIL")
    wait_until(lambda: state_of(relay, id_) == "delivered", "delivery")
    assert len(recorder.messages) == 1


def test_a_refusal_is_the_clients_while_it_waits(start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.replies["RCPT"] = b"550 5.1.1 No such user here\r\n"
    relay = start_relay(one_channel(open_server(recorder.port)), settings())
    assert submit(relay) == "550 5.1.1 No such user here"
    assert waiting(relay) == []


@pytest.mark.parametrize("step", ["DATA", "."])
def test_patience_ends_and_the_delivery_goes_on_and_is_done_once(
    step: str, start_relay: StartRelay, recorder: Recorder
) -> None:
    recorder.hold(step)
    relay = start_relay(one_channel(open_server(recorder.port)), settings(patience="0.2s"))
    id_ = queued_id(submit(relay))
    assert [entry["state"] for entry in waiting(relay)] == ["sending"]
    recorder.release(step)
    wait_until(lambda: state_of(relay, id_) == "delivered", "delivery")
    assert len(recorder.messages) == 1


def test_some_recipients_are_refused_some_deferred_and_the_sender_is_told(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    recorder.replies["RCPT TO:<gone@customer.example>"] = b"550 5.1.1 No such user here\r\n"
    recorder.replies["RCPT TO:<later@customer.example>"] = b"450 4.2.1 Try later\r\n"
    relay = start_relay(one_channel(open_server(recorder.port)), settings())
    id_ = queued_id(submit(relay, "you@customer.example", "gone@customer.example", "later@customer.example"))
    wait_until(lambda: len(recorder.messages) >= 2, "the report")
    report = message_from_bytes(recorder.messages[1])
    assert report.get_content_type() == "multipart/report"
    assert report["To"] == SENDER
    assert report["From"] == f"Mail delivery <{SENDER}>"
    status = report.get_payload(1)
    assert "gone@customer.example" in str(status)
    assert "550 5.1.1 No such user here" in str(status)
    assert "later@" not in str(status)
    talks = [command for talk in recorder.conversations for command in talk.commands]
    assert "MAIL FROM:<>" in talks
    del recorder.replies["RCPT TO:<later@customer.example>"]
    wait_until(lambda: not waiting(relay), "the last recipient")
    shown = relay.ask("messages", "show", id_)
    assert {one["address"]: one["state"] for one in shown["recipients"]} == {
        "you@customer.example": "delivered",
        "gone@customer.example": "failed",
        "later@customer.example": "delivered",
    }


@pytest.mark.slow
def test_a_lost_answer_is_tried_once_more_and_then_held(start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.replies["."] = HANG_UP
    relay = start_relay(one_channel(open_server(recorder.port)), settings(unknown_pause="6s"))
    assert waiting(relay) == []  # whose answer takes longer the first time
    id_ = queued_id(submit(relay))
    assert state_of(relay, id_) == "unknown"
    wait_until(lambda: state_of(relay, id_) == "held", "the hold after the second time", 30)
    assert len(recorder.messages) == 2
    identities = {message_from_bytes(message)["Message-ID"] for message in recorder.messages}
    assert identities == {"<1@customer.example>"}
    recorder.replies["."] = REPLIES["."]
    assert relay.command("queue", "release", id_).status == 0
    wait_until(lambda: state_of(relay, id_) == "delivered", "delivery")


@pytest.mark.parametrize(("step", "state"), [("MAIL", "queued"), (".", "unknown")])
def test_a_kill_in_the_middle_loses_nothing(step: str, state: str, start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.hold(step)
    relay = start_relay(one_channel(open_server(recorder.port)), settings("queued", unknown_pause="1h"))
    id_ = queued_id(submit(relay))
    recorder.wait_for(step)
    relay.signal(signal.SIGKILL)
    relay.stop()
    before = len(recorder.messages)
    recorder.release(step)
    relay.start()
    if state == "unknown":
        wait_until(lambda: state_of(relay, id_) == "unknown", "the pause, as the server may have it")
        assert relay.command("queue", "retry", id_).status == 0
    wait_until(lambda: state_of(relay, id_) == "delivered", "delivery after the restart")
    assert len(recorder.messages) == before + 1


def test_a_stop_stores_what_is_under_way(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(free_port())), settings(retry=["1h"]))
    id_ = queued_id(submit(relay))
    assert relay.stop() == 0
    relay.write_directory(one_channel(open_server(recorder.port)))
    relay.start()
    assert relay.command("queue", "retry", id_).status == 0
    wait_until(lambda: state_of(relay, id_) == "delivered", "delivery by the new route")


def test_another_way_is_tried_at_once_and_a_lost_answer_keeps_its_pause(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    """Who mends the server of waiting mail does not wait for the next time of each message."""
    recorder.replies["RCPT TO:<lost@customer.example>"] = b"250 2.1.5 Ok\r\n"
    relay = start_relay(one_channel(open_server(recorder.port)), settings(retry=["1h"], unknown_pause="1h"))
    recorder.replies["."] = HANG_UP
    lost = queued_id(submit(relay, "lost@customer.example"))
    assert state_of(relay, lost) == "unknown"
    relay.write_directory(one_channel(open_server(free_port())))
    wait_until(lambda: relay.log.count('"changed"') > 1, "the new directory")
    id_ = queued_id(submit(relay))
    recorder.replies["."] = REPLIES["."]
    relay.write_directory(one_channel(open_server(recorder.port)))
    wait_until(lambda: state_of(relay, id_) == "delivered", "delivery by the new way")
    assert state_of(relay, lost) == "unknown"
    assert len(recorder.messages) == 2


def test_reports_cause_no_reports(start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.replies["RCPT TO:<gone@customer.example>"] = b"550 5.1.1 No such user here\r\n"
    recorder.replies[f"RCPT TO:<{SENDER}>"] = b"550 5.1.1 Nobody here either\r\n"
    relay = start_relay(one_channel(open_server(recorder.port)), settings())
    queued_id(submit(relay, "you@customer.example", "gone@customer.example"))
    wait_until(lambda: not waiting(relay), "the end of the report")
    assert len(relay.ask("messages", "list")) == 2
    assert len(recorder.messages) == 1


def test_a_provider_that_takes_no_null_sender_gets_the_report_from_the_identity(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    recorder.replies["MAIL FROM:<>"] = b"550 5.7.1 Who are you?\r\n"
    recorder.replies["RCPT TO:<gone@customer.example>"] = b"550 5.1.1 No such user here\r\n"
    relay = start_relay(one_channel(open_server(recorder.port)), settings())
    queued_id(submit(relay, "you@customer.example", "gone@customer.example"))
    wait_until(lambda: len(recorder.messages) == 2, "the report")
    commands = [command for talk in recorder.conversations for command in talk.commands]
    assert commands.count("MAIL FROM:<>") == 1
    assert relay.ask("account", "list")[0]["state"] == "ok"


@pytest.mark.slow
@pytest.mark.needs("dovecot", "submission")
def test_one_refused_login_holds_its_account_and_nobody_elses(
    start_relay: StartRelay, dovecot: Dovecot, certificates: Certificates, sink: Sink
) -> None:
    names = [f"held{number}" for number in range(10)]
    users = {name: f"{name}@queue.example" for name in names}
    dovecot.add_users(dict.fromkeys(users.values(), RIGHT))
    server = {"host": dovecot.host, "port": dovecot.starttls_port, "ca_file": str(certificates.ca_file)}
    channels = {name: {"address": user, "override": True} for name, user in users.items()}
    directory = {"default_server": "d", "servers": {"d": {**server, "auth": "plain"}}, "channels": channels}
    relay = start_relay(directory, settings("queued"))
    for name in names:
        relay.set_password("channel", name, WRONG if name == "held7" else RIGHT)
    for number in range(100):
        name = names[number % 10]
        queued_id(submit(relay, f"{name}.{number // 10}@customer.example", sender=users[name]))

    wait_until(lambda: sum(bool(sink.to(f"{n}.{i}@customer.example")) for n in names for i in range(10)) == 90, "90")
    wait_until(lambda: len(relay.ask("queue", "list", "--state", "held")) == 10, "the other ten held")
    assert dovecot.failed_logins(users["held7"]) == 1
    (held,) = relay.ask("status")["accounts_held"]
    assert held["account"] == f"d/{users['held7']}"

    relay.set_password("channel", "held7", RIGHT)
    wait_until(lambda: not waiting(relay), "an empty queue")
    for number in range(10):
        assert sink.wait_for(f"held7.{number}@customer.example").login == users["held7"]
    assert dovecot.failed_logins(users["held7"]) == 1
    assert not sink.to(users["held7"]), "nothing bounced"


def test_a_dead_account_delays_nobody(start_relay: StartRelay, recorder: Recorder) -> None:
    recorder_port = recorder.port
    with recorder_server({"greeting": b""}) as dead:
        dead.hold("greeting")
        servers = {"dead": open_server(dead.port), "well": open_server(recorder_port)}
        channels = {
            f"c{number}": {
                "address": f"c{number}@acmejets.example",
                "override": True,
                "server": "well" if number else "dead",
            }
            for number in range(51)
        }
        directory = {"default_server": "well", "servers": servers, "channels": channels}
        relay = start_relay(directory, settings("queued"))
        for number in range(51):
            for _ in range(2):
                queued_id(submit(relay, sender=f"c{number}@acmejets.example"))
        wait_until(lambda: len(recorder.messages) == 100, "all but the dead account's")
        wait_until(lambda: {entry["profile"] for entry in waiting(relay)} == {"c0"}, "what came of all others")
        dead.release("greeting")


def test_a_disk_without_room_takes_nothing_new(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), settings(free_space=str(2**60)))
    wait_until(lambda: "no new mail" in relay.log, "a look at the disk")
    with relay.connect() as client:
        client.say("EHLO raw.test")
        assert client.say(f"MAIL FROM:<{SENDER}>").startswith("452 4.3.1 ")


def test_the_queue_is_only_for_its_owner(start_relay: StartRelay) -> None:
    relay = start_relay(one_channel(open_server(free_port())), settings())
    queued_id(submit(relay))
    for path in Path(relay.state_dir).glob("relay.db*"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.needs("sqlite3")
def test_a_lost_master_key_costs_the_passwords_and_no_mail(start_relay: StartRelay, recorder: Recorder) -> None:
    server = open_server(recorder.port, auth="plain", allow_plaintext_password=True)
    relay = start_relay(one_channel(server), settings("queued", retry=["1h"]), starts=False)
    relay.set_password("channel", "support", RIGHT)
    recorder.replies["MAIL"] = b"451 4.3.2 Later\r\n"
    relay.start()
    id_ = queued_id(submit(relay))
    wait_until(lambda: state_of(relay, id_) == "queued", "the first attempt")
    relay.stop()
    (relay.state_dir / "master.key").unlink()
    sentence = relay.command("secrets", "list").err
    command = re.search(r" with (sqlite3 .*) and set every password again$", sentence.strip())
    assert command, sentence
    assert run(["sh", "-c", command[1]]).text == ""
    recorder.replies["MAIL"] = REPLIES["MAIL"]
    relay.start()
    relay.set_password("channel", "support", WRONG)
    assert relay.command("queue", "retry", "--all").status == 0
    wait_until(lambda: state_of(relay, id_) == "delivered", "delivery with the new password")
