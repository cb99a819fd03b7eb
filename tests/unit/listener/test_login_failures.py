"""How bad logins are counted. The invariant: within five minutes nobody has more answers than the limit."""

import pytest

from relay.directory.client import Client
from relay.listener.login_failures import MOST_KEYS, WINDOW, LoginFailures, failure_key, pause_after


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def client(peer: str, *, is_trusted: bool = False, name: str = "") -> Client:
    return Client(name or peer, peer, (), is_trusted=is_trusted)


def test_the_limit_bars_for_five_minutes() -> None:
    clock = Clock()
    failures = LoginFailures(3, clock)
    assert [failures.add("a") for _ in range(2)] == [1, 2]
    assert not failures.is_barred("a")
    clock.now += 100
    assert failures.add("a") == 3
    assert failures.is_barred("a")
    assert not failures.is_barred("b")
    # The first two are forgotten five minutes after they were made, the third later.
    clock.now += WINDOW - 100
    assert not failures.is_barred("a")
    assert failures.add("a") == 2


def test_more_failures_than_the_limit_do_not_bar_for_longer_than_the_newest_do() -> None:
    clock = Clock()
    failures = LoginFailures(2, clock)
    for _ in range(100):
        failures.add("a")
    clock.now += WINDOW
    assert not failures.is_barred("a")


def test_forgetting_is_for_one_key() -> None:
    failures = LoginFailures(1, Clock())
    failures.add("a")
    failures.add("b")
    failures.forget("a")
    failures.forget("never seen")
    assert (failures.is_barred("a"), failures.is_barred("b")) == (False, True)


def test_only_so_many_keys_are_kept_and_the_quietest_go() -> None:
    failures = LoginFailures(2, Clock())
    failures.add("busy")
    for number in range(MOST_KEYS - 1):
        failures.add(str(number))
    failures.add("busy")
    for number in range(100):
        failures.add(f"new {number}")
    assert failures.is_barred("busy")
    assert len(failures._times) == MOST_KEYS
    assert failures.add("0") == 1


def test_what_has_expired_takes_no_memory_when_it_is_asked_for() -> None:
    clock = Clock()
    failures = LoginFailures(2, clock)
    failures.add("a")
    clock.now += WINDOW
    assert not failures.is_barred("a")
    assert not failures._times


def test_outside_the_trusted_networks_the_name_does_not_count() -> None:
    assert failure_key(client("192.0.2.1"), "jane") == failure_key(client("192.0.2.1"), "support") == "192.0.2.1"


def test_an_ipv6_client_counts_with_its_whole_network() -> None:
    assert failure_key(client("2001:db8::1"), "") == failure_key(client("2001:db8::ffff:1"), "") == "2001:db8::/64"
    assert failure_key(client("2001:db8:0:1::1"), "") == "2001:db8:0:1::/64"


@pytest.mark.parametrize("name", ["Jane@AcmeJets.example", "jane@ACMEJETS.example", "JANE@acmejets.example"])
def test_within_a_trusted_network_each_name_counts_alike_in_all_its_spellings(name: str) -> None:
    trusted = client("10.0.0.1", is_trusted=True)
    assert failure_key(trusted, name) == failure_key(trusted, "jane@acmejets.example")
    assert failure_key(trusted, name) != failure_key(trusted, "support@acmejets.example")
    assert failure_key(trusted, name) != failure_key(client("10.0.0.2", is_trusted=True), name)


def test_users_of_a_unix_socket_do_not_count_for_each_other() -> None:
    assert failure_key(client("unix", name="www-data"), "") != failure_key(client("unix", name="uid 1000"), "")


def test_pauses_begin_with_the_third_failure_and_do_not_grow_for_ever() -> None:
    assert [pause_after(count) for count in range(1, 9)] == [0, 0, 1, 2, 4, 8, 8, 8]
    assert pause_after(1_000_000) == 8


def test_two_processes_count_together() -> None:
    clock, two = Clock(), LoginFailures(3)
    one = LoginFailures(3, clock, tell=lambda key, is_failure: two.heard(key, is_failure=is_failure))
    for _ in range(2):
        one.add("a")
    assert two.add("a") == 3
    assert two.is_barred("a")
    one.forget("a")
    assert not two.is_barred("a")
