"""What a person is asked: a wrong password is asked for again, a few times."""

import getpass
import sys
from collections.abc import Callable

import pytest

from relay.cli.shared import read_password
from relay.control.refused import Refused

Type = Callable[..., None]


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Have a person type these passwords, and then end the input."""

    def prepare(*passwords: str) -> None:
        remaining = iter(passwords)

        def answer(_prompt: str, stream: object) -> str:
            for password in remaining:
                return password
            raise EOFError

        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(getpass, "getpass", answer)

    return prepare


def test_an_empty_or_different_password_is_asked_for_again(types: Type, capsys: pytest.CaptureFixture[str]) -> None:
    types("", "one", "two", "three", "three")
    assert read_password("server main", from_stdin=False) == "three"
    assert capsys.readouterr().err == "the password is empty\nthe two passwords differ\n"


def test_after_three_tries_it_is_over(types: Type) -> None:
    types("", "", "one", "two", "three", "three")
    with pytest.raises(Refused, match="no password in 3 tries"):
        read_password("server main", from_stdin=False)


def test_an_end_of_the_input_is_a_sentence(types: Type) -> None:
    types("one")
    with pytest.raises(Refused, match="the input ended"):
        read_password("server main", from_stdin=False)
