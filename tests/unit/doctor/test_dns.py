"""Questions to a real name server: what is not there, what cannot be a name, and that each is asked once."""

import asyncio

import pytest

from relay.doctor.dns import Dns, RecordType, Unanswered
from tests.peers.system import free_port

pytestmark = pytest.mark.needs("nsd")


async def test_records_come_in_plain_values(dns_server: str) -> None:
    dns = Dns((dns_server,))
    assert await dns.mx("right.example") == ((10, "mail.test"),)
    assert await dns.mx("null-mx.example") == ((0, ""),)
    assert await dns.addresses("mail.test") == ("192.0.2.1",)
    assert [text[:7] for text in await dns.txt("right.example")] == [b"v=spf1 "]
    (key,) = await dns.txt("google._domainkey.right.example")
    assert len(key) > 255, "a long record is several strings, joined; it may need TCP"


@pytest.mark.parametrize("name", ["nothing.test", "mail.test.", "a..b", "x" * 64 + ".test", "bücher.test", ""])
async def test_what_is_not_there_or_no_name_has_no_records(dns_server: str, name: str) -> None:
    assert await Dns((dns_server,)).txt(name) == ()


async def test_a_question_is_asked_once(dns_server: str) -> None:
    dns = Dns((dns_server,))
    await asyncio.gather(*(dns.txt(name) for name in ["right.example", "RIGHT.example", "right.example."] * 20))
    assert list(dns._asked) == [("right.example", RecordType.TXT)]


async def test_another_server_takes_the_place_of_a_dead_one(dns_server: str) -> None:
    dns = Dns((f"127.0.0.1:{free_port()}", dns_server))
    assert await dns.mx("right.example") == ((10, "mail.test"),)


async def test_a_name_server_may_be_a_name(dns_server: str) -> None:
    assert await Dns((dns_server.replace("127.0.0.1", "localhost"),)).mx("right.example") == ((10, "mail.test"),)
    with pytest.raises(Unanswered, match=r"\[dns\] servers names nowhere\.invalid:53, which is not known"):
        await Dns(("nowhere.invalid:53",)).mx("right.example")
