"""An answer of one line is read as aiosmtplib reads it, whatever is in it."""

import asyncio

from aiosmtplib.errors import SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse
from hypothesis import example, given
from hypothesis import strategies as st

from relay.upstream.link import Link

_CODES = st.sampled_from([b"250", b"354", b"421", b"599", b"000", b"+25", b" 25", b"25", b"2500", "٢٥٠".encode()])
_SEPARATORS = st.sampled_from([b" ", b"-", b"", b"\t", b"  "])
_TEXTS = st.one_of(st.binary(max_size=40), st.just(b"x" * 999), st.just(b"x" * 1001), st.just(b"x" * 9000))
_ENDS = st.sampled_from([b"\r\n", b"\n", b"\r", b"", b"\r\r\n"])
_LINES = st.builds(lambda *parts: b"".join(parts), _CODES, _SEPARATORS, _TEXTS, _ENDS)


def _read(protocol: SMTPProtocol, octets: bytes) -> tuple[SMTPResponse | str | None, bytes]:
    """Return what is read of the octets, or why nothing can be, and what is left in the buffer."""
    protocol._buffer = bytearray(octets)
    try:
        return protocol._read_response_from_buffer(), bytes(protocol._buffer)
    except SMTPResponseException as error:
        return str(error), bytes(protocol._buffer)


@given(lines=st.lists(_LINES, max_size=3))
@example(lines=[b"250 \t 2.0.0 Ok \t\r\n", b"250 next\r\n"])
@example(lines=[b"250 \xff\xfe\r\n"])
def test_one_line_is_read_as_the_library_does(lines: list[bytes]) -> None:
    async def read() -> None:
        octets = b"".join(lines)
        assert _read(Link(), octets) == _read(SMTPProtocol(asyncio.get_running_loop()), octets)

    asyncio.run(read())
