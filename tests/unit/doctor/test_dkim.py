"""DKIM key records: what receivers can use, and why not."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.doctor.dkim import read_key, tag_list
from tests.unit.doctor.zone import dkim, public_key

ED25519 = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "record",
    [
        dkim(),
        f"p={public_key()}",
        f"v=DKIM1;p={public_key()};",
        dkim(s="email"),
        dkim(s="tlsrpt : email"),
        dkim(h="sha1:sha256"),
        dkim(t="s"),
        f"v=DKIM1; k=ed25519; p={ED25519}",
    ],
)
def test_good_keys(record: str) -> None:
    key = read_key(record.encode())
    assert (key.fault, key.weakness) == ("", "")


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ("v=DKIM1; k=rsa; p=", "the key is revoked (p= is empty)"),
        ("v=DKIM1; k=rsa", "it has no key (p=)"),
        ("v=DKIM2; p=x", "its version is 'DKIM2', not DKIM1"),
        ("v=DKIM1; p=!!", "the key is not in base64; it may be cut off"),
        ("v=DKIM1; p=YWJj", "the key cannot be read; it may be cut off"),
        ("v=DKIM1; k=ed25519; p=YWJj", "the Ed25519 key has not 32 octets"),
        ("v=DKIM1; k=dsa; p=YWJj", "its kind is 'dsa', not rsa or ed25519"),
        ("hello", "it is not a list of tags: 'hello' is not name=value"),
        ("v=DKIM1; p=a; p=b", "it is not a list of tags: p= stands in it twice"),
        (dkim(s="tlsrpt"), "it is not for mail (s=tlsrpt)"),
        (dkim(h="sha1"), "it allows only hashes that receivers refuse; h= must name sha256"),
    ],
)
def test_faults(record: str, fault: str) -> None:
    assert read_key(record.encode()).fault == fault


def test_a_key_of_1024_bits_is_weak_and_one_below_is_none() -> None:
    assert read_key(dkim(1024).encode()).weakness == "the key has 1024 bits, 2048 are usual now"
    # A key of 512 bits, which cryptography makes no more: SubjectPublicKeyInfo with a modulus of 64 octets.
    modulus = b"\x02\x41\x00" + b"\xc5" * 64
    key = b"\x30\x48" + modulus + b"\x02\x03\x01\x00\x01"
    bits = b"\x03" + bytes([len(key) + 1]) + b"\x00" + key
    body = bytes.fromhex("300d06092a864886f70d0101010500") + bits
    info = b"\x30" + bytes([len(body)]) + body
    found = read_key(b"v=DKIM1; p=" + base64.b64encode(info))
    assert (found.bits, found.fault) == (512, "the key has 512 bits, and receivers take none below 1024")


@given(st.binary(max_size=300))
def test_any_record_can_be_read(record: bytes) -> None:
    key = read_key(record)
    assert key.fault or key.bits >= 1024


def test_tags_keep_their_order_and_lose_their_spaces() -> None:
    assert list(tag_list(" v = DKIM1 ;p=a=b; ").items()) == [("v", "DKIM1"), ("p", "a=b")]
