"""The counters: what is counted where, and that the text is what Prometheus reads."""

import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay import __version__
from relay.metrics import Metrics, Now

NOW = Now(
    queue={"queued": 2, "held": 0},
    oldest={"queued": 61.5},
    accounts_held=1,
    unreached=4,
    connections=3,
    connections_limit=1000,
    loop_lag=0.25,
    settings_ok=False,
    certificate_expires=1_900_000_000.0,
    free=2**40,
    free_floor=2**26,
)


def samples(metrics: Metrics, now: Now = NOW) -> dict[tuple[str, ...], float]:
    """Every sample of ours by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text(now))
        for sample in family.samples
        if sample.name.startswith("relay_")
    }


def test_each_event_counts_once_under_its_labels() -> None:
    metrics = Metrics()
    metrics.submitted("delivered", "acmejets")
    metrics.submitted("refused", "")
    metrics.delivered("acmejets", 0.3)
    metrics.failed("acmejets")
    metrics.attempted("")
    metrics.attempted("quota")
    metrics.held("quota")
    metrics.connected()
    metrics.login_refused()
    metrics.refused("5.7.1")
    metrics.refused("5.7.8")
    metrics.protected("TLSv1.3")
    metrics.tls_failed()
    metrics.protected_upstream("TLSv1.3")
    metrics.protected_upstream("")
    found = samples(metrics)
    expected: dict[tuple[str, ...], float] = {
        ("relay_submissions_total", "delivered", "acmejets"): 1,
        ("relay_submissions_total", "refused", ""): 1,
        ("relay_messages_total", "delivered", "acmejets"): 1,
        ("relay_messages_total", "failed", "acmejets"): 1,
        ("relay_delivery_seconds_bucket", "0.25"): 0,
        ("relay_delivery_seconds_bucket", "0.5"): 1,
        ("relay_delivery_seconds_count",): 1,
        ("relay_delivery_seconds_sum",): 0.3,
        ("relay_attempts_total", "accepted"): 1,
        ("relay_attempts_total", "quota"): 1,
        ("relay_holds_total", "quota"): 1,
        ("relay_connections_opened_total",): 1,
        ("relay_logins_refused_total",): 1,
        ("relay_refusals_total", "5.7"): 2,
        ("relay_tls_total", "TLSv1.3"): 1,
        ("relay_tls_failures_total",): 1,
        ("relay_upstream_tls_total", "TLSv1.3"): 1,
        ("relay_upstream_tls_total", "none"): 1,
        ("relay_queue_oldest_seconds", "queued"): 61.5,
        ("relay_queue_oldest_seconds", "held"): 0,
        ("relay_servers_unreached",): 4,
        ("relay_connections_limit",): 1000,
        ("relay_settings_ok",): 0,
        ("relay_directory_ok",): 1,
        ("relay_certificate_expires_seconds",): 1_900_000_000,
        ("relay_free_bytes",): 2**40,
        ("relay_free_floor_bytes",): 2**26,
        ("relay_build_info", __version__): 1,
        ("relay_queue_messages", "queued"): 2,
        ("relay_queue_messages", "held"): 0,
        ("relay_accounts_held",): 1,
        ("relay_connections",): 3,
        ("relay_loop_lag_seconds",): 0.25,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_what_is_true_now_replaces_what_was_true_before() -> None:
    metrics = Metrics()
    samples(metrics)
    later = samples(metrics, Now(queue={"queued": 0, "held": 2}, accounts_held=0, connections=0))
    assert later["relay_queue_messages", "queued"] == 0
    assert later["relay_queue_messages", "held"] == 2
    assert later["relay_accounts_held",] == 0


def test_what_nobody_can_count_is_no_number_of_a_moment_ago() -> None:
    metrics = Metrics()
    samples(metrics)
    later = samples(metrics, Now(queue={}, accounts_held=0, connections=0, store_ok=False))
    assert not [name for name, *_ in later if name.startswith("relay_queue_")]
    assert later["relay_store_ok",] == 0


def test_two_relays_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.connected()
    assert samples(second)["relay_connections_opened_total",] == 0


def test_nothing_says_when_a_series_began() -> None:
    metrics = Metrics()
    metrics.delivered("acmejets", 1)
    assert "_created" not in metrics.text(NOW)


def test_a_name_from_the_directory_cannot_break_the_text() -> None:
    metrics = Metrics()
    name = 'a"}\\\nrelay_forged_total 1'
    metrics.failed(name)
    found = samples(metrics)
    assert found["relay_messages_total", "failed", name] == 1
    assert ("relay_forged_total",) not in found


@pytest.mark.parametrize("word", ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"])
def test_the_process_is_there(word: str) -> None:
    assert f"\n{word} " in Metrics().text(NOW)


def test_what_other_processes_counted_is_added() -> None:
    one, two = Metrics(), Metrics()
    one.submitted("delivered", "acmejets")
    two.submitted("delivered", "acmejets")
    two.submitted("refused", "")
    two.delivered("acmejets", 0.3)
    others = [two.counts(Now(queue={}, accounts_held=0, connections=4, loop_lag=0.5))]
    text = one.text(NOW, json.loads(json.dumps(others)))
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["relay_submissions_total", "delivered", "acmejets"] == 2
    assert found["relay_submissions_total", "refused", ""] == 1
    assert found["relay_delivery_seconds_count",] == 1
    assert found["relay_connections",] == 7
    assert found["relay_loop_lag_seconds",] == 0.5
    assert found["relay_queue_messages", "queued"] == 2
    assert text.count("# TYPE relay_submissions_total") == 1


def test_of_what_is_no_sum_the_worst_counts() -> None:
    first, second = Metrics(), Metrics()
    fine = Now(
        queue={},
        accounts_held=0,
        connections=1,
        connections_limit=1000,
        certificate_expires=2_000_000_000.0,
        free=2**40,
        free_floor=2**26,
    )
    other = replace(fine, settings_ok=False, loop_lag=0.5, unreached=2, certificate_expires=1_900_000_000.0, free=2**30)
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(first.text(fine, [second.counts(other)]))
        for sample in family.samples
    }
    assert found["relay_connections"] == 2
    assert found["relay_connections_limit"] == 1000
    assert (found["relay_settings_ok"], found["relay_directory_ok"]) == (0, 1)
    assert (found["relay_loop_lag_seconds"], found["relay_servers_unreached"]) == (0.5, 2)
    assert found["relay_certificate_expires_seconds"] == 1_900_000_000
    assert (found["relay_free_bytes"], found["relay_free_floor_bytes"]) == (2**30, 2**26)
    assert found["relay_build_info"] == 1
