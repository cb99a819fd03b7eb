"""SIGKILL while the relay does anything but deliver: accounts held and freed, changes by hand, a start, a purge."""

from contextlib import suppress

import pytest

from relay.control.refused import Refused
from tests.e2e.kills import check, directory, settings, start_to_die, wait_for_kill
from tests.e2e.ledger import Ledger, arrivals, control
from tests.peers.canaries import RIGHT
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import REPLIES, Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

pytestmark = pytest.mark.slow

ACCOUNT = "acmejets/support@acmejets.example"


@pytest.mark.parametrize("mode", ["queued", "auto"])
@pytest.mark.parametrize(
    "point", ["hold not committed", "hold kept", "mail not yet held", "mail held", "settled, not committed", "settled"]
)
def test_a_kill_while_an_account_is_being_held(
    mode: str, point: str, start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_with_login(start_relay, recorder, mode)
    recorder.replies["AUTH"] = b"535 5.7.8 Wrong password\r\n"
    ledger = Ledger()
    if point.startswith("mail "):
        hold_for_login(relay, ledger, ("earlier",))
        relay.stop()
    start_to_die(relay, point)
    ledger.submit(relay, "killed")
    wait_for_kill(relay)
    recorder.replies["AUTH"] = REPLIES["AUTH"]
    relay.start()
    release_account(relay)
    check(ledger, relay, recorder, is_doubtful=False)


@pytest.mark.parametrize("point", ["hold dropped", "mail not yet freed", "mail freed"])
def test_a_kill_while_a_hold_is_being_lifted(point: str, start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_with_login(start_relay, recorder, "queued")
    recorder.replies["AUTH"] = b"535 5.7.8 Wrong password\r\n"
    ledger = Ledger()
    hold_for_login(relay, ledger, ("one", "two", "three"))
    relay.stop()
    recorder.replies["AUTH"] = REPLIES["AUTH"]
    start_to_die(relay, point)
    with suppress(Refused):
        control(relay).run("account.release", {"account": ACCOUNT})
    wait_for_kill(relay)
    relay.start()
    release_account(relay)
    check(ledger, relay, recorder, is_doubtful=False)


@pytest.mark.parametrize("verb", ["hold", "release", "retry", "remove"])
@pytest.mark.parametrize("point", ["change not committed", "change committed"])
def test_a_kill_while_a_person_changes_a_message(
    verb: str, point: str, start_relay: StartRelay, recorder: Recorder
) -> None:
    recorder.replies["MAIL"] = b"451 4.3.0 Not now\r\n"
    own = settings("queued")
    own["delivery"]["retry"] = ["1h"]
    relay = start_relay(one_channel(open_server(recorder.port)), own)
    ledger = Ledger()
    id_ = ledger.submit(relay, "killed").rpartition(" ")[2]
    wait_until(lambda: control(relay).run("queue.show", {"id": id_})["reason"], "the first attempt's end")
    if verb == "release":
        control(relay).run("queue.hold", {"id": id_})
    relay.stop()
    recorder.replies["MAIL"] = REPLIES["MAIL"]
    start_to_die(relay, point)
    parameters = {"ids": [id_]} if verb == "retry" else {"id": id_}
    with suppress(Refused):
        control(relay).run(f"queue.{verb}", parameters)
    wait_for_kill(relay)
    relay.start()
    is_done = point == "change committed"
    if verb == "remove" and is_done:
        assert control(relay).run("messages.show", {"id": id_})["state"] == "removed"
        return
    state = control(relay).run("messages.show", {"id": id_})["state"]
    if verb in {"hold", "release"}:
        assert (state == "held") is (is_done if verb == "hold" else not is_done)
    for again in ("release", "retry"):
        with suppress(Refused):
            control(relay).run(f"queue.{again}", {"ids": [id_]} if again == "retry" else {"id": id_})
    check(ledger, relay, recorder, is_doubtful=False)


@pytest.mark.parametrize("state", ["attempt recorded", "dot recorded"])
@pytest.mark.parametrize("point", ["not yet taken back", "taken back, one settled", "taken back"])
def test_a_kill_while_the_next_start_takes_back(
    state: str, point: str, start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(directory("in line", recorder.port), settings("in line"), starts=False)
    ledger = Ledger()
    start_to_die(relay, state)
    ledger.submit(relay, "killed")
    wait_for_kill(relay)
    start_to_die(relay, point)
    wait_for_kill(relay)
    relay.start()
    check(ledger, relay, recorder, is_doubtful=False)
    assert arrivals(recorder) == {"killed": 1}


@pytest.mark.parametrize("point", ["purge not committed", "purged", "shrunk"])
def test_a_kill_while_old_mail_is_purged(point: str, start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory("queued", recorder.port), settings("queued", keep_messages="1ms"))
    ledger = Ledger()
    recorder.replies["RCPT TO:<waits@customer.example>"] = b"451 4.3.0 Not now\r\n"
    ledger.submit(relay, "old", body=(b"x" * 998 + b"\r\n") * 300)
    ledger.submit(relay, "waits")
    wait_until(lambda: arrivals(recorder)["old"], "the first message")
    relay.stop()
    start_to_die(relay, point)
    wait_for_kill(relay)
    del recorder.replies["RCPT TO:<waits@customer.example>"]
    relay.start()
    check(ledger, relay, recorder, is_doubtful=False)
    assert arrivals(recorder) == {"old": 1, "waits": 1}


def start_with_login(start_relay: StartRelay, recorder: Recorder, mode: str) -> Relay:
    """A relay, not running, whose one account logs in."""
    server = open_server(recorder.port, auth="plain", allow_plaintext_password=True)
    relay = start_relay(one_channel(server), settings(mode), starts=False)
    relay.set_password("channel", "support", RIGHT)
    return relay


def hold_for_login(relay: Relay, ledger: Ledger, names: tuple[str, ...]) -> None:
    """Let a relay run until its account is held, and these messages wait for that."""
    relay.start()
    for name in names:
        ledger.submit(relay, name)
    wait_until(lambda: states(relay) == ["held"] * len(names), "the hold")


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
