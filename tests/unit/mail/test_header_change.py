"""What is kept of the changes in a header, however many and long they are."""

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.header import Change, KeptChanges, kept

WORDS = st.text(max_size=30).flatmap(lambda text: st.sampled_from([text, text * 40]))
CHANGES = st.lists(st.builds(Change, WORDS, WORDS, WORDS), max_size=80)


def _octets(changes: tuple[Change, ...]) -> int:
    return sum(len((one.field + one.before + one.after).encode("utf-8", "replace")) for one in changes)


@given(CHANGES)
def test_what_is_kept_is_whole_in_order_and_bounded_and_the_rest_is_counted(changes: list[Change]) -> None:
    found = kept(changes)
    assert len(found.changes) <= 50
    assert _octets(found.changes) <= 16 * 1024
    assert len(found.changes) + found.left_out == len(changes)
    left = iter(changes)
    assert all(one in left for one in found.changes), "in their order"
    if len(changes) <= 50 and _octets(tuple(changes)) <= 16 * 1024:
        assert found == KeptChanges(tuple(changes))


def test_one_that_is_too_long_leaves_room_for_those_behind_it() -> None:
    short, long = Change("From", "a@x.example", "b@x.example"), Change("Bcc", "ü" * 9000, "")
    assert kept([short, long, short]) == KeptChanges((short, short), 1)
    assert kept([short] * 60) == KeptChanges((short,) * 50, 10)
