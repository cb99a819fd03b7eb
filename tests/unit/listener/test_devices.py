"""What old devices may do: addresses without brackets, and lines of any length."""

from hypothesis import given
from hypothesis import strategies as st

from relay.listener.devices import LineFolder, with_brackets
from relay.mail.content import InMemory
from tests.peers.rows import each_row

LINES = st.lists(st.text(alphabet="ab \u00e9\u20ac", max_size=3000), max_size=4)


def folded(*chunks: bytes) -> bytes:
    folder = LineFolder(InMemory())
    for chunk in chunks:
        folder.add(chunk)
    body = folder.finish()
    assert isinstance(body, tuple)
    return b"".join(body)


@each_row(
    ("argument", "meant"),
    [
        (b"FROM:a@b.example", b"FROM:<a@b.example>"),
        (b"from: a@b.example SIZE=1", b"from: <a@b.example> SIZE=1"),
        (b"TO:<a@b.example>", b"TO:<a@b.example>"),
        (b"FROM:<>", b"FROM:<>"),
        (b"FROM:", b"FROM:"),
        (b"TO:a@b.example>", b"TO:a@b.example>"),
        (b'TO:"a b"@b.example', b'TO:<"a> b"@b.example'),
    ],
)
def test_an_address_gets_its_brackets(argument: bytes, meant: bytes) -> None:
    assert with_brackets(argument) == meant


@given(lines=LINES, sizes=st.lists(st.integers(1, 2000), max_size=8))
def test_no_line_is_too_long_and_nothing_else_changes(lines: list[str], sizes: list[int]) -> None:
    text = "".join(line + "\r\n" for line in lines).encode()
    chunks, at = [], 0
    for size in sizes:
        end = at + size + (text[at + size - 1 : at + size + 1] == b"\r\n")  # no chunk ends between CR and LF
        chunks.append(text[at:end])
        at = end
    whole = folded(*filter(None, [*chunks, text[at:]]))
    assert all(len(line) <= 998 for line in whole.split(b"\r\n"))
    assert whole.decode().replace("\r\n", "").replace(" ", "") == text.decode().replace("\r\n", "").replace(" ", "")
    if all(len(line.encode()) <= 998 for line in lines):
        assert whole == text


@each_row(
    ("line", "lines"),
    [
        (b"x" * 998, [998]),
        (b"x" * 999, [998, 2]),
        (b"x" * 3000, [998, 998, 998, 9]),
        (b"word " * 300, [994, 506]),
        ("\u20ac" * 400 + "x", [996, 206]),
    ],
)
def test_a_line_is_cut_at_a_space_or_else_at_a_character(line: bytes | str, lines: list[int]) -> None:
    octets = line.encode() if isinstance(line, str) else line
    for chunks in ([octets + b"\r\n"], [octets[:500], octets[500:] + b"\r\n"], [octets, b"\r\n"]):
        cut = folded(*chunks).split(b"\r\n")
        assert [len(one) for one in cut] == [*lines, 0]
        assert all(one.startswith(b" ") for one in cut[1:-1])
        assert b"".join(cut).replace(b" ", b"") == octets.replace(b" ", b"")


def test_what_is_not_ended_is_held_and_counted() -> None:
    folder = LineFolder(InMemory())
    folder.add(b"x" * 100)
    assert folder.held == 100
    assert folder.finish() == (b"x" * 100,)
