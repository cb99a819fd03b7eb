"""SPF by pyspf over our own answers: the results of RFC 7208, and no surprise from a hostile record."""

from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.doctor.dns import Dns, Record, RecordType, Unanswered
from relay.doctor.spf import SpfResult, evaluate, merged, spf_records, with_term

RESULTS = {"pass", "fail", "softfail", "neutral", "none", "permerror", "temperror"}


class Answers:
    """DNS with these answers; None: no server answers."""

    def __init__(self, answers: Mapping[tuple[str, str], tuple[Record, ...] | None]) -> None:
        self._answers = answers
        self.asked: list[tuple[str, RecordType]] = []

    async def records(self, name: str, kind: RecordType) -> tuple[Record, ...]:
        self.asked.append((name, kind))
        found = self._answers.get((name, kind.value), ())
        if found is None:
            raise Unanswered(f"{name} could not be looked up: no name server answered")
        return found

    async def txt(self, name: str) -> tuple[Record, ...]:
        return await self.records(name, RecordType.TXT)


async def spf_result(record: bytes, address: str, **more: tuple[Record, ...] | None) -> SpfResult:
    others = {(name.replace("_", "."), "TXT"): found for name, found in more.items()}
    dns = cast("Dns", Answers({("a.test", "TXT"): (record,), ("a.test", "A"): ("192.0.2.1",), **others}))
    return (await evaluate(dns, "a.test", [address]))[address]


@pytest.mark.parametrize(
    ("record", "address", "result"),
    [
        (b"v=spf1 ip4:192.0.2.0/24 -all", "192.0.2.9", "pass"),
        (b"v=spf1 ip4:192.0.2.0/24 -all", "198.51.100.1", "fail"),
        (b"v=spf1 ip6:2001:db8::/32 ~all", "2001:db8::1", "pass"),
        (b"v=spf1 a ~all", "192.0.2.1", "pass"),
        (b"v=spf1 exists:%{d} -all", "198.51.100.1", "pass"),
        (b"v=spf1 include:b.test ~all", "198.51.100.1", "pass"),
        (b"v=spf1 redirect=b.test", "203.0.113.1", "fail"),
        (b"v=spf1", "203.0.113.1", "neutral"),
        (b"V=SPF1 -ALL", "203.0.113.1", "fail"),
        (b"v=spf2 -all", "203.0.113.1", "none"),
        (b"v=spf1 ip4:192.0.2 -all", "203.0.113.1", "permerror"),
        (b"v=spf1 redirect=gone.test", "203.0.113.1", "permerror"),
        (b"v=spf1 \xff -all", "203.0.113.1", "permerror"),
    ],
)
async def test_results(record: bytes, address: str, result: str) -> None:
    found = await spf_result(record, address, b_test=(b"v=spf1 ip4:198.51.100.0/24 -all",))
    assert found.result == result
    assert bool(found.reason) == (result == "permerror")


async def test_what_cannot_be_looked_up_is_no_verdict_about_the_record() -> None:
    found = await spf_result(b"v=spf1 include:b.test -all", "192.0.2.1", b_test=None)
    assert found.result == "temperror"
    assert "b.test could not be looked up" in found.reason


async def test_many_addresses_are_judged_with_the_same_answers() -> None:
    answers = Answers({("a.test", "TXT"): (b"v=spf1 include:b.test ~all",), ("b.test", "TXT"): (b"v=spf1 -all",)})
    addresses = [f"192.0.2.{number}" for number in range(30)]
    found = await evaluate(cast("Dns", answers), "a.test", addresses)
    assert {each.result for each in found.values()} == {"softfail"}
    assert answers.asked == [("a.test", RecordType.TXT), ("b.test", RecordType.TXT)]


PARTS = st.sampled_from(
    [
        *"+-~?:/=.%{} ",
        *("a", "mx", "ptr", "all", "include:", "exists:", "redirect=", "exp=", "ip4:", "ip6:", "a.test"),
        *("%{i}", "%{s1r.}", "%{p}", "%{d99999999}", "//", "33", "::1", "192.0.2.1", "x" * 70, "ü"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PARTS, max_size=20).map("".join), st.sampled_from(["192.0.2.77", "2001:db8::77"]))
async def test_a_hostile_record_gives_a_verdict(terms: str, address: str) -> None:
    assert (await spf_result(f"v=spf1 {terms}".encode(), address)).result in RESULTS


async def test_only_what_begins_so_is_an_spf_record() -> None:
    texts = (b"v=spf1 -all", b"v=spf10 -all", b"v=spf1", b"google-site-verification=1", b"V=spf1 a")
    dns = cast("Dns", Answers({("a.test", "TXT"): texts}))
    assert await spf_records(dns, "a.test") == ("v=spf1 -all", "v=spf1", "V=spf1 a")


def test_records_are_merged_and_extended_without_loss() -> None:
    assert merged(["v=spf1 a mx -all", "v=spf1 mx ip4:192.0.2.1 +all"]) == "v=spf1 a mx ip4:192.0.2.1 ~all"
    assert with_term("v=spf1 mx -all", "include:b.test") == "v=spf1 include:b.test mx -all"
    assert with_term("v=spf1", "include:b.test") == "v=spf1 include:b.test ~all"
