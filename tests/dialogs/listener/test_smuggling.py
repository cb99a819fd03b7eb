"""SMTP smuggling: twelve sequences that some server takes for the end of data, and how many messages come of each."""

import pytest

from tests.dialogs.listener.listener_kit import HELLO, MAIL, RCPT, door

SECOND = b"MAIL FROM:<foreign@acmejets.example>\r\nRCPT TO:<jo@customer.example>\r\nDATA\r\nSubject: Two\r\n\r\nx"
END = b"\r\n.\r\n"

NOT_AN_END = {
    b"\n.\n": "250",
    b"\n.\r\n": "250",
    b"\r\n.\n": "250",
    b"\r.\r": "554",
    b"\r\n.\r": "554",
    b"\n.\r": "554",
    b"\r.\r\n": "554",
    b"\r.\n": "554",
    b"\r\n.\r\r\n": "554",
    b"\r\n\x00.\r\n": "554",
    b"\r\n.\x00\r\n": "554",
}


@pytest.mark.parametrize("sequence", NOT_AN_END, ids=repr)
async def test_what_is_no_end_makes_no_second_message(sequence: bytes) -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        answer = await client.ask(b"Subject: One\r\n\r\nx" + sequence + SECOND + END)
        assert answer[:3] == NOT_AN_END[sequence]
        assert (await client.ask(b"NOOP\r\n")) == "250 2.0.0 Ok"
        assert len(relay.acceptance.messages) == (answer[:3] == "250")
        for handed in relay.acceptance.messages:
            # What leaves has CRLF alone, so that dot-stuffing on the way out is enough.
            assert b"\n" not in handed.content.replace(b"\r\n", b"")
            assert b"\r" not in handed.content.replace(b"\r\n", b"")


async def test_a_true_end_behind_a_bare_cr_ends_the_message() -> None:
    r"""The twelfth: "\r\r\n.\r\n" holds CRLF.CRLF. The message before it has a bare CR and is refused."""
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        assert (await client.ask(b"Subject: One\r\n\r\nx\r\r\n.\r\n"))[:10] == "554 5.6.0 "
        assert (await client.ask(b"NOOP\r\n")) == "250 2.0.0 Ok"
        assert relay.acceptance.messages == []


async def test_data_may_end_in_any_two_writes() -> None:
    text = b"Subject: One\r\n\r\n..x\r\n.\r\n"
    async with door() as relay, relay.client() as client:
        await client.reply()
        await client.ask(HELLO)
        for cut in range(len(text) + 1):
            for command in (MAIL, RCPT, b"DATA\r\n"):
                await client.ask(command)
            await client.send(text[:cut])
            assert (await client.ask(text[cut:]))[:3] == "250"
        assert {handed.content for handed in relay.acceptance.messages} == {b"Subject: One\r\n\r\n.x\r\n"}
