"""A signature over a field that was changed goes; every other one stays byte for byte."""

import pytest

from relay.mail.header import Edited, Header, HeaderEdit
from relay.mail.outgoing import remove_broken_signatures

ARC = "".join(
    f"ARC-Seal: i={number}; cv=none; b=x\r\n"
    f"ARC-Message-Signature: i={number}; h={signed}; b=x\r\n"
    f"ARC-Authentication-Results: i={number}; mx.example; spf=pass\r\n"
    for number, signed in ((3, "to"), (2, "from:to"), (1, "subject"))
)


def signed_of(header: Header, changed: set[str]) -> tuple[Header, list[Edited]]:
    edit = HeaderEdit(header)
    edit.done = [Edited(key, (), (b"x",)) for key in changed]
    remove_broken_signatures(edit)
    return edit.header, edit.done[len(changed) :]


@pytest.mark.parametrize(
    ("signature", "changed", "stays"),
    [
        ("v=1; d=a.example; h=from:subject; b=x", "from", False),
        ("v=1; d=a.example; h=from:subject; b=x", "reply-to", True),
        ("v=1; d=a.example; H=from; h=Subject :\r\n\t Reply-To; b=x", "reply-to", False),
        ("h=date", "date", False),
        ("v=1;h=to", "to", False),
        ("v=1; bh=from; b=from", "from", True),
        ("v=1; d=a.example", "from", True),
        ("v=1; h=from:received", "sender", True),
        ("v=1; h=from:received:received", "sender", False),
        ("v=1; h=fr\xf6m", "from", True),
    ],
)
def test_which_dkim_signatures_stay(signature: str, changed: str, *, stays: bool) -> None:
    header = Header.parse(f"Received: by x.example\r\nDKIM-Signature: {signature}\r\nTo: x\r\n".encode())
    left, changes = signed_of(header, {changed})
    assert (left == header) is stays
    assert bool(left.get_all("dkim-signature")) is stays
    assert [change.key for change in changes] == ([] if stays else ["dkim-signature"])


@pytest.mark.parametrize(
    ("changed", "sets"), [("cc", "321321321"), ("to", "1" * 3), ("from", "1" * 3), ("subject", "")]
)
def test_an_arc_set_goes_with_all_sets_above_it(changed: str, sets: str) -> None:
    left, changes = signed_of(Header.parse(ARC.encode()), {changed})
    instances = [item.text[2] for item in left.fields]
    assert sorted(instances) == sorted(sets)
    assert bool(changes) is (len(sets) < 9)


def test_a_signature_over_a_signature_that_goes_goes_too() -> None:
    block = b"DKIM-Signature: h=to:dkim-signature\r\nDKIM-Signature: h=from\r\nX-A: 1\r\n"
    left, _ = signed_of(Header.parse(block), {"from"})
    assert bytes(left) == b"X-A: 1\r\n"


@pytest.mark.parametrize(("number", "changed", "left"), [(1000, "to", 1000), (1001, "to", 0), (9_990, "from", 0)])
def test_of_very_many_signatures_none_is_read_and_none_stays(number: int, changed: str, left: int) -> None:
    block = b"".join(b"DKIM-Signature: h=from; b=%d\r\n" % each for each in range(number))
    header, changes = signed_of(Header.parse(block + b"To: x\r\n"), {changed})
    assert len(header.get_all("dkim-signature")) == left
    assert header.get_all("to")
    assert [change.key for change in changes] == ([] if left else ["dkim-signature"])
