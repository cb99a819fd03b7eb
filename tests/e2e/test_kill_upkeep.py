"""SIGKILL while the relay does anything but deliver: accounts held and freed, changes by hand, a start, a purge."""

from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from relay.control.refused import Refused
from tests.e2e.kills import Lives, directory, settings
from tests.e2e.ledger import arrivals, control
from tests.peers.canaries import RIGHT
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import REPLIES, Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

pytestmark = pytest.mark.slow

ACCOUNT = "acmejets/support@acmejets.example"
WRONG_PASSWORD = b"535 5.7.8 Wrong password\r\n"
HOLDING = ("hold not committed", "hold kept", "mail not yet held", "mail held", "settled, not committed", "settled")


@pytest.mark.parametrize("mode", ["queued", "auto"])
def test_a_kill_while_an_account_is_being_held(mode: str, start_relay: StartRelay, recorder: Recorder) -> None:
    lives = Lives(start_with_login(start_relay, recorder, mode), recorder)
    for point in HOLDING:
        with lives.life(point, first=partial(release_account, lives.relay)) as arm:
            recorder.cut()  # so that the next message logs in
            recorder.replies["AUTH"] = WRONG_PASSWORD
            if point.startswith("mail "):  # the account is held before
                hold_for_login(lives, f"earlier {point}")
            arm()
            lives.ledger.submit(lives.relay, named(f"killed {point}"))
        recorder.replies["AUTH"] = REPLIES["AUTH"]
    lives.end()


def test_a_kill_while_a_hold_is_being_lifted(start_relay: StartRelay, recorder: Recorder) -> None:
    lives = Lives(start_with_login(start_relay, recorder, "queued"), recorder)
    for point in ("hold dropped", "mail not yet freed", "mail freed"):
        with lives.life(point, first=partial(release_account, lives.relay)) as arm:
            recorder.cut()
            recorder.replies["AUTH"] = WRONG_PASSWORD
            hold_for_login(lives, *(f"{number} {point}" for number in range(3)))
            recorder.replies["AUTH"] = REPLIES["AUTH"]
            arm()
            with suppress(Refused):
                control(lives.relay).run("account.release", {"account": ACCOUNT})
    lives.end()


def test_a_kill_while_a_person_changes_a_message(start_relay: StartRelay, recorder: Recorder) -> None:
    own = settings("queued")
    own["delivery"]["retry"] = ["1h"]
    lives = Lives(start_relay(one_channel(open_server(recorder.port)), own, starts=False), recorder)
    for point in ("change not committed", "change committed"):
        for verb in ("hold", "release", "retry", "remove"):
            change_and_kill(lives, verb, point)
    lives.end()


def change_and_kill(lives: Lives, verb: str, point: str) -> None:
    """A life in which a message waits that its server put off, and which ends while a person changes it."""
    name, is_done, id_ = named(f"{verb} {point}"), point == "change committed", ""
    show = partial(_show, lives.relay)

    def first() -> None:
        state = show(id_)["state"]
        if verb == "remove" and is_done:
            assert state == "removed"
            lives.ledger.promised.remove(name)  # a person took it away
            return
        if verb in {"hold", "release"}:
            assert (state == "held") is (is_done if verb == "hold" else not is_done)
        for again in ("release", "retry"):
            with suppress(Refused):
                control(lives.relay).run(f"queue.{again}", {"ids": [id_]} if again == "retry" else {"id": id_})

    with lives.life(point, first=first) as arm:
        recorder = lives.recorder
        recorder.replies["MAIL"] = b"451 4.3.0 Not now\r\n"
        id_ = lives.ledger.submit(lives.relay, name).rpartition(" ")[2]
        wait_until(lambda: control(lives.relay).run("queue.show", {"id": id_})["reason"], "the first attempt's end")
        if verb == "release":
            control(lives.relay).run("queue.hold", {"id": id_})
        recorder.replies["MAIL"] = REPLIES["MAIL"]
        arm()
        with suppress(Refused):
            control(lives.relay).run(f"queue.{verb}", {"ids": [id_]} if verb == "retry" else {"id": id_})


def _show(relay: Relay, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = control(relay).run("messages.show", {"id": id_})
    return found


def test_a_kill_while_the_next_start_takes_back(start_relay: StartRelay, recorder: Recorder) -> None:
    lives = Lives(start_relay(directory("in line", recorder.port), settings("in line"), starts=False), recorder)
    names = []
    for state in ("attempt recorded", "dot recorded"):
        for point in ("not yet taken back", "taken back, one settled", "taken back"):
            names.append(named(f"{state} {point}"))
            lives.end_at(state, name=names[-1])
            lives.end_at_start(point)
    lives.end()
    assert arrivals(recorder) == dict.fromkeys([*names, "after"], 1)


def test_a_kill_while_old_mail_is_purged(start_relay: StartRelay, recorder: Recorder) -> None:
    """The first life does not get to it, the second does and gives no room back, which the third then does."""
    relay = start_relay(directory("queued", recorder.port), settings("queued", keep_messages="1ms"))
    lives = Lives(relay, recorder)
    recorder.replies["RCPT TO:<waits@customer.example>"] = b"451 4.3.0 Not now\r\n"
    lives.ledger.submit(relay, "old", body=(b"x" * 998 + b"\r\n") * 300)
    lives.ledger.submit(relay, "waits")
    wait_until(lambda: arrivals(recorder)["old"], "the first message")
    relay.stop()
    for point in ("purge not committed", "purged", "shrunk"):
        lives.end_at_start(point)
    del recorder.replies["RCPT TO:<waits@customer.example>"]
    lives.end()
    assert arrivals(recorder) == {"old": 1, "waits": 1, "after": 1}


def named(words: str) -> str:
    """A name for a message, which an address can bear."""
    return words.replace(" ", "-").replace(",", "")


def start_with_login(start_relay: StartRelay, recorder: Recorder, mode: str) -> Relay:
    """A relay, not running, whose one account logs in."""
    server = open_server(recorder.port, auth="plain", allow_plaintext_password=True)
    relay = start_relay(one_channel(server), settings(mode), starts=False)
    relay.set_password("channel", "support", RIGHT)
    return relay


def hold_for_login(lives: Lives, *names: str) -> None:
    """Wait until the account is held, and these messages wait for that."""
    for name in names:
        lives.ledger.submit(lives.relay, named(name))
    wait_until(lambda: states(lives.relay) == ["held"] * len(names), "the hold")


def states(relay: Relay) -> list[str]:
    return [entry["state"] for entry in relay.ask("queue", "list")]


def release_account(relay: Relay) -> None:
    """Let the account's mail go on as a person does: as long as `status` shows a hold."""

    def is_free() -> bool:
        held = relay.ask("status")["accounts_held"]
        for one in held:
            control(relay).run("account.release", {"account": one["account"]})
        return not held and "held" not in states(relay)

    wait_until(is_free, "no hold any more", 30)
