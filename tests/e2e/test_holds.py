"""Holds in the real process: probes by the schedule, one address of an account, what a setting or an answer says."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.queued import queued_id, settings, state_of, submit, waiting
from tests.e2e.refused_logins import REFUSED, commands, with_login
from tests.peers.canaries import RIGHT
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import HANG_UP, REPLIES, Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

SENDER = "support@acmejets.example"


def held(relay: Relay) -> list[dict[str, Any]]:
    return [one for one in relay.ask("account", "list") if one["state"] == "held"]


@pytest.mark.slow
def test_a_held_account_is_probed_by_one_login_at_a_time_and_goes_on_by_itself(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(with_login(recorder), settings("queued", probe=["2s", "1s"]), starts=False)
    relay.set_password("channel", "support", RIGHT)
    relay.start()
    recorder.replies["AUTH"] = REFUSED
    began = time.monotonic()
    ids = [queued_id(submit(relay)) for _ in range(6)]
    wait_until(lambda: len(waiting(relay)) == 6 and {one["state"] for one in waiting(relay)} == {"held"}, "the hold")
    (first,) = held(relay)
    assert first["reason"] == "535 5.7.8 Not with this password"
    wait_until(lambda: len(commands(recorder, "AUTH")) >= 4, "the first login and three probes", 20)
    logins, seconds = len(commands(recorder, "AUTH")), time.monotonic() - began
    # One more may fall between the two looks, and pauses are spread by a tenth; six messages would be six more.
    assert logins <= 3 + (seconds - 2), "the first, one after 2 s, and one each second after that"
    (later,) = held(relay)
    assert later["held_since"] == first["held_since"]
    recorder.replies["AUTH"] = REPLIES["AUTH"]
    wait_until(lambda: all(state_of(relay, id_) == "delivered" for id_ in ids), "delivery without a hand", 20)
    assert held(relay) == []
    assert len(recorder.messages) == 6, "each once, and no report"


@pytest.mark.parametrize("mode", ["auto", "queued", "direct"])
def test_a_burst_of_clients_makes_one_refused_login(mode: str, start_relay: StartRelay, recorder: Recorder) -> None:
    """A server that answers at once, so that messages come before, while and just after the refusal is known."""
    relay = start_relay(with_login(recorder), settings(mode, probe=["1h"]), starts=False)
    relay.set_password("channel", "support", RIGHT)
    relay.start()
    recorder.replies["AUTH"] = REFUSED
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: submit(relay), range(60)))
    beginning = "451 4.7.8 " if mode == "direct" else "250 2.0.0 Ok: queued as "
    assert {reply[: len(beginning)] for reply in replies} == {beginning}
    if mode != "direct":
        wait_until(lambda: len(relay.ask("queue", "list", "--state", "held")) == 60, "all of them held")
    assert len(commands(recorder, "AUTH")) == 1


@pytest.mark.slow
def test_a_hold_outlives_a_restart_and_makes_no_login(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(with_login(recorder), settings("auto", probe=["1h"]), starts=False)
    relay.set_password("channel", "support", RIGHT)
    relay.start()
    recorder.replies["AUTH"] = REFUSED
    first = queued_id(submit(relay))
    before = relay.ask("status")["accounts_held"]
    relay.stop()
    relay.start()
    assert relay.ask("status")["accounts_held"] == before
    second = queued_id(submit(relay))
    wait_until(lambda: state_of(relay, second) == "held", "the second one held, too")
    assert len(commands(recorder, "AUTH")) == 1
    recorder.replies["AUTH"] = REPLIES["AUTH"]
    assert relay.command("account", "release", f"acmejets/{SENDER}").status == 0
    wait_until(lambda: {state_of(relay, one) for one in (first, second)} == {"delivered"}, "both")


@pytest.mark.slow
def test_a_refused_identity_holds_that_address_alone(start_relay: StartRelay, recorder: Recorder) -> None:
    directory = with_login(recorder)
    directory["channels"]["support"] |= {"aliases": ["help@acmejets.example"], "alias_identity": "keep"}
    relay = start_relay(directory, settings(), starts=False)
    relay.set_password("channel", "support", RIGHT)
    relay.start()
    words = "553 5.7.1 <help@acmejets.example>: Sender address rejected: not owned by user support"
    recorder.replies["MAIL FROM:<help@acmejets.example>"] = f"{words}\r\n".encode()
    id_ = queued_id(submit(relay, sender="help@acmejets.example"))
    assert submit(relay).startswith("250 2.0.0 Ok: delivered via "), "the account itself is well"
    assert state_of(relay, id_) == "held"
    (pair,) = held(relay)
    assert (pair["account"], pair["address"], pair["reason"]) == (f"acmejets/{SENDER}", "help@acmejets.example", words)
    again = queued_id(submit(relay, sender="help@acmejets.example"))
    wait_until(lambda: state_of(relay, again) == "held", "the next one")
    assert len(commands(recorder, "MAIL FROM:<help@acmejets.example>")) == 1, "no attempt in vain"
    del recorder.replies["MAIL FROM:<help@acmejets.example>"]
    assert relay.command("account", "release", f"acmejets/{SENDER}").status == 0
    wait_until(lambda: {state_of(relay, one) for one in (id_, again)} == {"delivered"}, "both")


@pytest.mark.parametrize("means", ["quota", "lock-out", "account-full"])
def test_an_answer_means_what_the_directory_says(means: str, start_relay: StartRelay, recorder: Recorder) -> None:
    rules = [{"match": "enough for TODAY", "means": means}]
    relay = start_relay(one_channel(open_server(recorder.port, answers=rules)), settings(warn_after="1s"))
    recorder.replies["MAIL"] = b"550 5.1.0 That is Enough for today\r\n"
    id_ = queued_id(submit(relay))
    assert state_of(relay, id_) == "held"
    assert [one["reason"] for one in held(relay)] == ["550 5.1.0 That is Enough for today"]
    assert len(waiting(relay)) == 1, "neither a bounce nor a warning"


@pytest.mark.slow
def test_each_profile_may_have_a_mode_of_its_own(start_relay: StartRelay, recorder: Recorder) -> None:
    directory = one_channel(open_server(recorder.port))
    for mode in ("auto", "direct", "queued"):
        directory["channels"][mode] = {"address": f"{mode}@acmejets.example", "override": True, "mode": mode}
    relay = start_relay(directory, settings("queued", retry=["1h"]))
    recorder.replies["MAIL"] = b"451 4.3.2 Later\r\n"
    replies = {name: submit(relay, sender=f"{name}@acmejets.example") for name in ("auto", "direct", "queued")}
    assert replies.pop("direct") == "451 4.3.2 Later"
    assert {queued_id(reply) for reply in replies.values()} == {one["id"] for one in waiting(relay)}
    assert len(commands(recorder, "MAIL FROM:<direct@acmejets.example>")) == 1


@pytest.mark.slow
def test_unknown_may_be_set_to_wait_for_a_person(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), settings(unknown="hold", unknown_pause="1s"))
    recorder.replies["."] = HANG_UP
    id_ = queued_id(submit(relay))
    shown = relay.ask("queue", "show", id_)
    assert (shown["state"], shown["next_attempt"]) == ("held", None)
    assert shown["reason"].startswith("unknown: ")
    assert [(one["final_dot"], one["meaning"]) for one in shown["attempts"]] == [(True, "unknown")]
    recorder.replies["."] = REPLIES["."]
    assert relay.command("queue", "release", id_).status == 0
    wait_until(lambda: state_of(relay, id_) == "delivered", "delivery")


@pytest.mark.slow
def test_a_server_without_null_senders_gets_reports_from_the_identity(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port, null_sender=False)), settings("queued"))
    recorder.replies["RCPT TO:<gone@customer.example>"] = b"550 5.1.1 No such user here\r\n"
    recorder.replies[f"RCPT TO:<{SENDER}>"] = b"550 5.1.1 Nobody here either\r\n"
    queued_id(submit(relay, "gone@customer.example"))
    wait_until(lambda: len(relay.ask("messages", "list", "--state", "failed")) == 2, "the message and its report")
    assert commands(recorder, "MAIL") == [f"MAIL FROM:<{SENDER}>"] * 2
    assert waiting(relay) == [], "and no report about the report"
