"""AUTH over a connection: failures, pauses, long lines, what the log says, and clients that leave."""

import asyncio
import base64

import pytest

from relay.config.settings import Limits, Listener
from relay.listener import replies
from relay.listener.commands import LONGEST_LINE
from relay.listener.session_limits import SessionLimits
from relay.secrets.authentication import TooManyLogins
from relay.secrets.sources import SecretUnavailable
from relay.store.db.errors import StoreBusy
from tests.dialogs.listener.listener_kit import MAIL, RCPT, TEXT, Door, FakeLogins, door, on_both_loops, within
from tests.peers.told import capture_logs

PASSWORD = "canary-password"
LOGINS = {"jane": PASSWORD, "support": "another"}
QUICK = SessionLimits(login_pause=0.01)


def plain(name: str, password: str) -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()) + b"\r\n"


GOOD, WRONG = plain("jane", PASSWORD), plain("jane", "guess")
REFUSED, TOO_MANY = str(replies.LOGIN_FAILED), str(replies.TOO_MANY_LOGIN_FAILURES)


def outside() -> Listener:
    return Listener(address="127.0.0.1:0", trusted_networks=())


async def once(relay: Door, *commands: bytes) -> list[str]:
    """Return the answers to commands on a connection of its own."""
    async with relay.client() as client:
        await client.begin()
        return [await client.ask(command) for command in commands]


@on_both_loops
async def test_the_login_is_in_the_client_and_the_arrival_of_each_message() -> None:
    async with door(outside(), logins=FakeLogins(LOGINS)) as relay, relay.client() as client:
        await client.begin(GOOD)
        for _ in range(2):
            await client.send(MAIL, RCPT, b"DATA\r\n", TEXT, b".\r\n")
            assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]
        for handed in relay.acceptance.messages:
            assert (handed.client.name, handed.client.login, handed.client.may_send_as) == ("jane", "jane", ("jane",))
            assert (handed.arrival.login, handed.arrival.protocol) == ("jane", "ESMTPA")


async def test_the_limit_holds_over_connections_and_listeners_and_no_password_is_checked_then() -> None:
    logins = FakeLogins(LOGINS)
    async with door(outside(), outside(), logins=logins, session_limits=QUICK) as relay:
        for _ in range(4):
            assert await once(relay, WRONG) == [REFUSED]
        assert await once(relay, WRONG) == [TOO_MANY]
        checked = len(logins.checked)
        for address in relay.listeners.addresses:
            async with relay.client(address) as client:
                await client.begin()
                assert await client.ask(GOOD) == TOO_MANY
                assert await client.line() == ""
        assert len(logins.checked) == checked == 5


async def test_one_good_login_does_not_pay_for_guessing_others() -> None:
    async with door(
        outside(), logins=FakeLogins(LOGINS), session_limits=QUICK, limits=Limits(login_failures=2)
    ) as relay:
        assert await once(relay, WRONG, plain("support", "another")) == [REFUSED, str(replies.LOGGED_IN)]
        assert await once(relay, WRONG) == [TOO_MANY]


async def test_on_a_trusted_network_names_do_not_shut_each_other_out_and_a_good_login_forgets() -> None:
    async with door(logins=FakeLogins(LOGINS), session_limits=QUICK, limits=Limits(login_failures=2)) as relay:
        assert await once(relay, WRONG, GOOD) == [REFUSED, str(replies.LOGGED_IN)]
        assert await once(relay, WRONG, plain("JANE", "guess")) == [REFUSED, TOO_MANY]
        assert await once(relay, GOOD) == [TOO_MANY]
        assert await once(relay, plain("support", "another")) == [str(replies.LOGGED_IN)]


async def test_who_asks_all_at_once_has_no_more_answers_than_the_limit() -> None:
    logins = FakeLogins(LOGINS, is_slow=True)
    async with door(outside(), logins=logins, session_limits=QUICK) as relay:
        asking = [asyncio.create_task(once(relay, GOOD if number == 19 else WRONG)) for number in range(20)]
        await logins.asked(20)
        logins.gate.set()
        answers = [answer for answers in await within(asyncio.gather(*asking)) for answer in answers]
    assert sorted(answers).count(REFUSED) <= 4
    assert answers.count(TOO_MANY) >= 15


async def test_a_refused_client_waits_and_no_other_does() -> None:
    session_limits = SessionLimits(login_pause=600.0)
    async with door(outside(), logins=FakeLogins(LOGINS), session_limits=session_limits) as relay:
        assert await once(relay, WRONG, WRONG) == [REFUSED, REFUSED]
        async with relay.client() as guessing:
            await guessing.begin()
            await guessing.send(b"NOOP\r\n", WRONG)
            # What was answered before the pause is not held back by it.
            assert await guessing.line() == str(replies.OK)
            await relay.logins.asked(3)
            assert await once(relay, GOOD) == [str(replies.LOGGED_IN)]
            guessing.reset()
        # Nobody waits for the end of a pause whose client is gone.
        await relay.all_left()


async def test_stopping_does_not_wait_for_a_pause() -> None:
    session_limits = SessionLimits(login_pause=600.0)
    async with door(outside(), logins=FakeLogins(LOGINS), session_limits=session_limits) as relay:
        await once(relay, WRONG, WRONG)
        async with relay.client() as client:
            await client.begin()
            await client.send(WRONG, b"NOOP\r\n")
            await relay.logins.asked(3)
            await within(relay.listeners.stop(patience=5))
            assert (await client.until_closed()).decode() == f"{replies.STOPPING}\r\n"


@pytest.mark.parametrize("fault", [SecretUnavailable("no key"), StoreBusy("locked")])
async def test_trouble_of_ours_is_temporary_and_no_failure(fault: Exception) -> None:
    logins = FakeLogins(LOGINS, fault=fault)
    async with door(outside(), logins=logins, limits=Limits(login_failures=1)) as relay:
        with capture_logs() as lines:
            assert await once(relay, WRONG, GOOD) == [str(replies.NO_LOGINS_NOW)] * 2
        assert [line["what"] for line in lines if line["event"] == "broken"] == [
            f"a login could not be checked: {fault}"
        ] * 2
        logins.fault = None
        assert await once(relay, GOOD) == [str(replies.LOGGED_IN)]


async def test_a_crowd_that_waits_for_its_hashes_is_told_to_wait_and_does_not_cry_wolf() -> None:
    async with door(outside(), logins=FakeLogins(LOGINS, fault=TooManyLogins("64 logins wait"))) as relay:
        with capture_logs() as lines:
            assert await once(relay, GOOD) == [str(replies.NO_LOGINS_NOW)]
        assert [line["event"] for line in lines if line["log_level"] == "error"] == []


async def test_a_fault_of_ours_within_a_login_leaves_nobody_logged_in() -> None:
    async with door(outside(), logins=FakeLogins(LOGINS, fault=RuntimeError("odd"))) as relay:
        assert await once(relay, GOOD, MAIL) == [str(replies.INTERNAL_FAULT), "530 5.7.0 Authentication required"]


async def test_the_log_names_the_login_and_never_the_password() -> None:
    long_ago = base64.b64encode(PASSWORD.encode())
    with capture_logs() as lines:
        async with door(outside(), logins=FakeLogins({"jane": "x"}), session_limits=QUICK) as relay:
            await once(relay, plain("ja\u202ene", PASSWORD))
            await once(relay, b"AUTH CRAM-MD5 " + long_ago + b"\r\n", long_ago + b"\r\n", PASSWORD.encode() + b"\r\n")
            await once(relay, b"AUTH PLAIN " + long_ago + b"\r\n", b"AUTH LOGIN\r\n", PASSWORD.encode() + b"\r\n")
            await once(relay, b"AUTH LOGIN\r\n", base64.b64encode(b"jane") + b"\r\n", long_ago + b"\r\n", b"QUIT\r\n")
    logged = [line["login"] for line in lines if "login" in line]
    assert logged == ["ja ne", "jane"]
    assert all(line["at"] == "AUTH" for line in lines if "login" in line)
    for secret in (PASSWORD, long_ago.decode(), long_ago.decode().upper()[:16], PASSWORD.upper()[:15]):
        assert secret not in repr(lines)


async def test_lines_of_auth_may_be_long_and_others_not() -> None:
    """12,288 octets of base64 in one line, with AUTH before them or not (RFC 4954 section 4)."""
    name, longest = "j" * 250, b"A" * 12_288
    response = base64.b64encode(f"{name}\0{name}\0{'x' * 1000}".encode())
    async with door(logins=FakeLogins({name: "x" * 1000}), session_limits=SessionLimits(errors=100)) as relay:
        assert await once(relay, b"AUTH PLAIN " + response + b"\r\n") == [str(replies.LOGGED_IN)]
        async with relay.client() as client:
            await client.begin()
            assert (await client.ask(b"AUTH PLAIN " + longest + b"\r\n"))[:3] == "501"
            assert await client.ask(b"AUTH PLAIN " + longest + b"AAAA\r\n") == str(replies.LINE_TOO_LONG)
            assert await client.ask(b"AUTH PLAIN " + longest * 20 + b"\r\n") == str(replies.LINE_TOO_LONG)
            assert await client.ask(b"AUTH PLAIN\r\n") == "334 "
            assert (await client.ask(longest + b"\r\n"))[:3] == "501"
            assert await client.ask(b"AUTH PLAIN\r\n") == "334 "
            assert await client.ask(longest + b"A\r\n") == str(replies.LINE_TOO_LONG)
            assert await client.ask(b"NOOP " + b"x" * LONGEST_LINE + b"\r\n") == str(replies.LINE_TOO_LONG)
            assert await client.ask(GOOD.replace(b"AUTH", b"auth")) == REFUSED


async def test_a_password_as_long_as_a_line_is_wrong_like_any_other() -> None:
    """Clients show their user what 535 says; what they sent was no fault of protocol."""
    long_password, long_name = plain("jane", "x" * 9000), plain("j" * 9000, "x")
    async with door(
        outside(), logins=FakeLogins(LOGINS), session_limits=QUICK, limits=Limits(login_failures=3)
    ) as relay:
        with capture_logs() as lines:
            assert await once(relay, long_password, long_name, long_password) == [REFUSED, REFUSED, TOO_MANY]
    assert max(len(line["login"]) for line in lines if "login" in line) < 300


async def test_an_exchange_octet_by_octet() -> None:
    async with door(logins=FakeLogins(LOGINS)) as relay, relay.client() as client:
        await client.begin()
        for octet in b"AUTH LOGIN\r\n" + base64.b64encode(b"jane") + b"\r\n" + base64.b64encode(PASSWORD.encode()):
            await client.send(bytes([octet]))
        assert await client.line() == "334 VXNlcm5hbWU6"
        assert await client.line() == "334 UGFzc3dvcmQ6"
        assert await client.ask(b"\n") == str(replies.LOGGED_IN)


@on_both_loops
async def test_a_client_that_leaves_at_any_octet_of_a_login_leaves_nothing_behind() -> None:
    whole = b"AUTH LOGIN\r\n" + base64.b64encode(b"jane") + b"\r\n" + base64.b64encode(b"guess") + b"\r\n"
    async with door(
        outside(), logins=FakeLogins(LOGINS), session_limits=QUICK, limits=Limits(login_failures=1000)
    ) as relay:
        for count in range(len(whole) + 1):
            async with relay.client() as client:
                await client.begin()
                await client.send(whole[:count])
        await relay.all_left()
        assert relay.listeners.connections == 0


async def test_a_client_that_leaves_while_its_password_is_checked_is_nobody() -> None:
    logins = FakeLogins(LOGINS, is_slow=True)
    async with door(outside(), logins=logins) as relay:
        async with relay.client() as client:
            await client.begin()
            await client.send(GOOD, MAIL, RCPT, b"DATA\r\n", TEXT, b".\r\n")
            await logins.asked(1)
        logins.gate.set()
        await relay.all_left()
        # Its commands had all come; the message was handed over as by any client that leaves after its last octet, or
        # not at all, but never by nobody.
        assert all(handed.client.login == "jane" for handed in relay.acceptance.messages)


async def test_wrong_logins_are_no_errors_of_protocol() -> None:
    session_limits = SessionLimits(login_pause=0.0, errors=3)
    async with door(
        logins=FakeLogins(LOGINS), session_limits=session_limits, limits=Limits(login_failures=100)
    ) as relay:
        assert await once(relay, *[WRONG] * 10, GOOD) == [REFUSED] * 10 + [str(replies.LOGGED_IN)]


async def test_garbage_in_auth_is_an_error_of_protocol() -> None:
    async with (
        door(logins=FakeLogins(LOGINS), session_limits=SessionLimits(errors=3)) as relay,
        relay.client() as client,
    ):
        client_answers = [str(replies.NOT_BASE64)] * 2 + [str(replies.TOO_MANY_ERRORS)]
        await client.begin()
        assert [await client.ask(b"AUTH PLAIN ?\r\n") for _ in range(3)] == client_answers
        assert await client.line() == ""
