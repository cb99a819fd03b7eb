"""Which mechanism logs in, and what of it may ever be shown."""

import base64

import pytest

from relay.directory.model import Auth
from relay.upstream.login import EXCHANGES, NoMechanism, choose, masked, may_send_password

ALL = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")


@pytest.mark.parametrize(
    ("auth", "offered", "is_encrypted", "is_safe", "chosen"),
    [
        (Auth.AUTO, ALL, True, True, Auth.PLAIN),
        (Auth.AUTO, ALL, False, True, Auth.CRAM_MD5),
        (Auth.AUTO, ALL, False, False, Auth.CRAM_MD5),
        (Auth.AUTO, ("LOGIN", "PLAIN"), False, True, Auth.PLAIN),
        # Exchange Online's EHLO (MailKit#1770): no PLAIN
        (Auth.AUTO, ("LOGIN", "XOAUTH2"), True, True, Auth.LOGIN),
        (Auth.AUTO, ("login",), True, True, Auth.LOGIN),
        (Auth.PLAIN, ALL, True, True, Auth.PLAIN),
        (Auth.LOGIN, ALL, True, True, Auth.LOGIN),
        (Auth.CRAM_MD5, ALL, True, True, Auth.CRAM_MD5),
        (Auth.CRAM_MD5, ALL, False, False, Auth.CRAM_MD5),
    ],
)
def test_one_mechanism_is_chosen_by_what_is_offered(
    auth: Auth, offered: tuple[str, ...], is_encrypted: bool, is_safe: bool, chosen: Auth
) -> None:
    assert choose(auth, offered, is_encrypted=is_encrypted, may_send_password=is_safe) is chosen


@pytest.mark.parametrize(
    ("auth", "offered", "is_encrypted", "is_safe", "why"),
    [
        (Auth.AUTO, (), True, True, "no login at all"),
        (Auth.AUTO, ("XOAUTH2", "GSSAPI"), True, True, "the server offers GSSAPI XOAUTH2, and auto was to be used"),
        (Auth.AUTO, ("CRAM-MD5",), True, True, "the server offers CRAM-MD5"),
        (Auth.AUTO, ("PLAIN", "LOGIN"), False, False, "in clear"),
        (Auth.PLAIN, ("LOGIN",), True, True, "the server offers LOGIN, and plain was to be used"),
        (Auth.PLAIN, ("PLAIN",), False, False, "in clear"),
        (Auth.LOGIN, ("LOGIN",), False, False, "in clear"),
        (Auth.OAUTH2, ("XOAUTH2",), True, True, "oauth2 was to be used"),
    ],
)
def test_there_is_no_way_to_log_in(
    auth: Auth, offered: tuple[str, ...], is_encrypted: bool, is_safe: bool, why: str
) -> None:
    with pytest.raises(NoMechanism, match=why):
        choose(auth, offered, is_encrypted=is_encrypted, may_send_password=is_safe)


@pytest.mark.parametrize(
    ("peer", "is_encrypted", "allow", "may"),
    [
        ("127.0.0.1", False, False, True),
        ("127.9.9.9", False, False, True),
        ("::1", False, False, True),
        ("192.0.2.1", False, False, False),
        ("fe80::1%eth0", False, False, False),
        ("192.0.2.1", True, False, True),
        ("192.0.2.1", False, True, True),
    ],
)
def test_a_password_goes_in_clear_only_to_this_machine(peer: str, is_encrypted: bool, allow: bool, may: bool) -> None:
    assert may_send_password(peer, is_encrypted=is_encrypted, allow_plaintext=allow) is may


def test_the_exchanges_say_what_the_rfcs_say() -> None:
    assert list(EXCHANGES[Auth.PLAIN]("tim", "tanstaaftanstaaf")) == [
        b"AUTH PLAIN " + base64.b64encode(b"\0tim\0tanstaaftanstaaf")
    ]
    assert list(EXCHANGES[Auth.LOGIN]("jo", "pä ss")) == [
        b"AUTH LOGIN",
        base64.b64encode(b"jo"),
        base64.b64encode("pä ss".encode()),
    ]
    # RFC 2195 section 2
    exchange = EXCHANGES[Auth.CRAM_MD5]("tim", "tanstaaftanstaaf")
    assert next(exchange) == b"AUTH CRAM-MD5"
    challenge = base64.b64encode(b"<1896.697170952@postoffice.reston.mci.net>").decode()
    assert exchange.send(challenge) == base64.b64encode(b"tim b913a602c7eda7a495b4e6e7334d3890")


def test_plain_takes_no_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        next(EXCHANGES[Auth.PLAIN]("a\0b", "c"))


@pytest.mark.parametrize(
    "said",
    [
        "500 what is s3cret?",
        f"500 AUTH PLAIN {base64.b64encode(bytes('mailer', 'ascii')).decode()}",
        f"what is {base64.b64encode(b's3cret').decode()}",
        f"AUTH PLAIN {base64.b64encode(bytes(1) + b'mailer' + bytes(1) + b's3cret').decode()} is unknown",
    ],
)
def test_what_a_server_repeats_of_a_password_is_taken_out(said: str) -> None:
    shown = masked(said, "mailer", "s3cret")
    assert "s3cret" not in shown
    assert base64.b64encode(b"s3cret").decode() not in shown
    assert base64.b64encode(b"\0mailer\0s3cret").decode() not in shown


def test_nothing_is_taken_out_where_there_is_no_password() -> None:
    assert masked("535 no", "mailer", "") == "535 no"
