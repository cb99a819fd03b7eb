"""DMARC: which record holds for a domain, what it asks, and what aligns (RFC 9989)."""

from collections.abc import Mapping
from typing import cast

import pytest

from relay.doctor.dmarc import Policy, aligns, policy_of, read_record, walk
from relay.doctor.dns import Dns


class Answers:
    """TXT records below _dmarc."""

    def __init__(self, records: Mapping[str, tuple[str, ...]]) -> None:
        self._records = records

    async def txt(self, name: str) -> tuple[bytes, ...]:
        return tuple(text.encode() for text in self._records.get(name.removeprefix("_dmarc."), ()))


async def policy(domain: str, **records: str | tuple[str, ...]) -> Policy:
    found = {
        name.replace("__", "-").replace("_", "."): (text,) if isinstance(text, str) else text
        for name, text in records.items()
    }
    return await policy_of(cast("Dns", Answers(found)), domain)


def test_the_walk_goes_up_to_the_top_and_is_short_for_long_names() -> None:
    assert walk("mail.acme.example") == ("mail.acme.example", "acme.example", "example")
    assert walk("example") == ("example",)
    long = walk("a.b.c.d.e.f.g.h.acme.example")
    assert long[:2] == ("a.b.c.d.e.f.g.h.acme.example", "d.e.f.g.h.acme.example")
    assert len(long) == 8


async def test_the_own_record_holds_before_that_of_the_organisation() -> None:
    found = await policy("mail.acme.example", mail_acme_example="v=DMARC1; p=none", acme_example="v=DMARC1; p=reject")
    assert (found.wish, found.is_inherited, found.organisation) == ("none", False, "acme.example")


@pytest.mark.parametrize(
    ("record", "wish"),
    [
        ("v=DMARC1; p=reject", "reject"),
        ("v=DMARC1; p=reject; sp=quarantine", "quarantine"),
        ("v=DMARC1; p=reject; sp=none", "none"),
        ("v=DMARC1; p=reject; t=y", "quarantine"),
        ("v=DMARC1; p=quarantine; t=y", "none"),
        ("v=DMARC1; rua=mailto:a@acme.example", "none"),
    ],
)
async def test_a_record_above_is_inherited(record: str, wish: str) -> None:
    found = await policy("mail.acme.example", acme_example=record)
    assert (found.wish, found.is_inherited, found.organisation) == (wish, True, "acme.example")


async def test_a_public_suffix_ends_the_organisation() -> None:
    found = await policy("mail.acme.co.example", co_example="v=DMARC1; p=reject; psd=y")
    assert found.organisation == "acme.co.example"
    assert found.wish == "reject", "the suffix's own policy holds where there is no other"


async def test_a_domain_can_say_that_it_is_the_organisation() -> None:
    found = await policy(
        "mail.unit.acme.example", unit_acme_example="v=DMARC1; p=none; psd=n", acme_example="v=DMARC1; p=reject"
    )
    assert (found.organisation, found.wish) == ("unit.acme.example", "none")


async def test_several_records_count_as_none() -> None:
    found = await policy("acme.example", acme_example=("v=DMARC1; p=none", "v=DMARC1; p=reject"))
    assert found.record is None
    assert "2 DMARC records" in found.wrong


async def test_without_any_record_a_domain_is_its_own_organisation() -> None:
    found = await policy("mail.acme.example")
    assert (found.record, found.organisation, found.wish) == (None, "mail.acme.example", "none")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("v=DMARC1; p=reject", ()),
        ("v = DMARC1 ; p = reject ;", ()),
        ("v=DMARC1; p=reject; pct=50; rf=afrf; ri=86400", ()),
        ("v=DMARC1; p=reject; adkim=x", ("adkim=x is none of r, s",)),
        ("v=DMARC1; p=reject; polic=1", ("polic= is not a DMARC tag and is ignored",)),
        ("v=DMARC1; sp=none", ("it has no policy (p=), which stands for none",)),
        ("v=DMARC1; p=reject; none", ("'none' is not name=value",)),
        ("v=DMARC1; p=none; p=reject", ("p= stands in it twice",)),
    ],
)
def test_faults_of_a_record(text: str, faults: tuple[str, ...]) -> None:
    record = read_record("acme.example", text.encode())
    assert record is not None
    assert record.faults == faults


@pytest.mark.parametrize("text", [b"v=spf1 -all", b"v=DMARC10; p=none", b"V=DMARC1; p=none", b"", b"\xff\xfe"])
def test_other_texts_are_no_record(text: bytes) -> None:
    assert read_record("acme.example", text) is None


def test_relaxed_looks_at_the_organisation_and_strict_at_the_domain() -> None:
    assert aligns("mail.a.example", "a.example", "a.example", "a.example", is_strict=False)
    assert not aligns("mail.a.example", "a.example", "a.example", "a.example", is_strict=True)
    assert not aligns("a.example", "a.example", "b.example", "b.example", is_strict=False)
