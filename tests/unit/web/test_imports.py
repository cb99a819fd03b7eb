"""Texts that are kept until somebody confirms: for whom, for how long, and how many."""

from relay.web.pages.imports import KeptTexts


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_text_is_given_to_who_brought_it_until_it_is_forgotten() -> None:
    texts = KeptTexts()
    name = texts.keep("a", "the text")
    assert texts.get("b", name) is None
    assert texts.get("a", name) == "the text"
    texts.forget(name)
    texts.forget(name)
    assert texts.get("a", name) is None


def test_a_text_is_kept_for_half_an_hour() -> None:
    clock = Clock()
    texts = KeptTexts(clock=clock)
    name = texts.keep("a", "the text")
    clock.now += 29 * 60
    assert texts.get("a", name) == "the text"
    clock.now += 2 * 60
    assert texts.get("a", name) is None


def test_the_oldest_go_where_there_are_too_many_and_the_newest_stays() -> None:
    texts = KeptTexts(most=10)
    first, second = texts.keep("a", "x" * 6), texts.keep("a", "y" * 6)
    assert (texts.get("a", first), texts.get("a", second)) == (None, "y" * 6)
    large = texts.keep("a", "z" * 100)
    assert (texts.get("a", second), texts.get("a", large)) == (None, "z" * 100)
