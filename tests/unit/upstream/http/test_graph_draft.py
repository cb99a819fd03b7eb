"""A message that is too large for one request: its attachments arrive octet for octet, and no draft stays."""

import asyncio
import random
from base64 import encodebytes

import pytest

from relay.directory.model import Meaning
from relay.mail.content import Content
from relay.upstream.http.graph_draft import take_apart
from relay.upstream.outcome import Phase
from relay.upstream.transaction import Progress
from tests.peers.graph import GraphServer
from tests.unit.upstream.http.api_kit import HEADER, deliver, graph_at, transfer_to

_LARGE = random.Random(1).randbytes(5_000_000)
_MIDDLE = random.Random(2).randbytes(2_500_000)


def _coded(octets: bytes) -> bytes:
    return encodebytes(octets).replace(b"\n", b"\r\n")


def _part(name: str, octets: bytes, more: str = "") -> bytes:
    head = (
        f"Content-Type: application/pdf; name=old\r\nContent-Transfer-Encoding: base64\r\n{more}"
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    )
    return head.encode() + _coded(octets)


def _mixed(*parts: bytes, boundary: str = "b1") -> Content:
    head = HEADER + f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{boundary}"\r\n'.encode()
    text = b"Content-Type: text/plain\r\n\r\nSee the files.\r\n"
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part for part in (text, *parts))
    return Content(head, (body + b"--" + boundary.encode() + b"--\r\n",))


async def test_attachments_arrive_octet_for_octet(graph: GraphServer) -> None:
    content = _mixed(_part("large =?utf-8?q?=C3=BC?=.pdf", _LARGE), _part("middle.pdf", _MIDDLE))
    outcome = await deliver(transfer_to(graph_at(graph.url), "jo@customer.example", "hi@x.example", content=content))
    assert outcome.accepted is not None
    (sent,) = graph.sent
    assert sent.attachments == {"large ü.pdf": _LARGE, "middle.pdf": _MIDDLE}
    assert sent.recipients == ["jo@customer.example", "hi@x.example"]
    assert b"See the files.\r\n" in sent.mime
    assert b"Bcc" not in sent.mime
    assert graph.drafts == ()
    assert sum(asked.startswith("PUT") for asked in graph.requests) == 2


async def test_what_has_nothing_to_upload_apart_is_too_large(graph: GraphServer) -> None:
    content = Content(HEADER, (b"x" * 998 + b"\r\n",) * 4000)
    failure = (await deliver(transfer_to(graph_at(graph.url), content=content))).failure
    assert failure is not None
    assert (failure.meaning, failure.reply.code, failure.reply.enhanced) == (Meaning.REFUSED, 552, "5.3.4")
    assert graph.requests == []


def test_what_is_signed_stays_whole() -> None:
    inner = b"".join(_mixed(_part("a.pdf", _MIDDLE)).chunks()).partition(b"MIME-Version: 1.0\r\n")[2]
    signed = HEADER + b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n" + inner + b"\r\n--s--\r\n"
    assert take_apart(signed, 1000) == (signed, [])


def test_pictures_of_a_page_keep_their_ids() -> None:
    related = (
        b"Content-Type: multipart/related; boundary=r\r\n\r\n--r\r\n"
        b"Content-Type: text/html\r\n\r\n<img src=cid:pic>\r\n--r\r\n"
        b"Content-Type: image/png; name=pic.png\r\nContent-ID: <pic@x>\r\nContent-Disposition: inline\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + _coded(_MIDDLE) + b"--r--\r\n"
    )
    whole = b"".join(_mixed(related).chunks())
    small, (picture,) = take_apart(whole, 100_000)
    assert (picture.name, picture.content_id, picture.is_inline, picture.octets) == ("pic.png", "pic@x", True, _MIDDLE)
    assert b"<img src=cid:pic>" in small


async def test_a_draft_that_is_not_sent_is_removed(graph: GraphServer) -> None:
    graph.moods = ["403 ErrorSendAsDenied"]
    failure = (await deliver(transfer_to(graph_at(graph.url), content=_mixed(_part("a.pdf", _LARGE))))).failure
    assert failure is not None
    assert failure.meaning is Meaning.IDENTITY_REFUSED


async def test_a_draft_that_a_killed_relay_left_is_removed(graph: GraphServer) -> None:
    content, reached = _mixed(_part("a.pdf", _LARGE)), asyncio.Event()

    async def gate() -> None:
        reached.set()
        raise OSError

    progress = Progress(before_final_dot=gate)
    failure = (await deliver(transfer_to(graph_at(graph.url), content=content), progress)).failure
    assert failure is not None
    assert failure.phase is Phase.CONTENT
    assert reached.is_set()
    await deliver(transfer_to(graph_at(graph.url), content=content))
    assert (len(graph.sent), graph.drafts) == (1, ())


@pytest.mark.parametrize("mood", ["lost after", "500 after"])
async def test_a_lost_answer_is_found_in_sent_items(graph: GraphServer, mood: str) -> None:
    graph.moods = [mood]
    outcome = await deliver(transfer_to(graph_at(graph.url), content=_mixed(_part("a.pdf", _LARGE))))
    assert outcome.accepted is not None
    assert len(graph.sent) == 1
