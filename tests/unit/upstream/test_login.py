"""Which mechanism logs in, and what of it may ever be shown."""

import base64

import pytest

from relay.directory.model import Auth, Meaning
from relay.mail.reply import Reply
from relay.upstream.auth import MECHANISMS, Exchange, Login, Mechanism, NoMechanism, choose, masked, may_show_secret
from relay.upstream.outcome import Phase, refusal

ALL = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")
SCRAM = (*ALL, "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")


def mechanism(name: str) -> Mechanism:
    return next(each for each in MECHANISMS if each.name == name)


def exchange(name: str, username: str, secret: str) -> Exchange:
    return mechanism(name).exchange(username, secret)


@pytest.mark.parametrize(
    ("auth", "offered", "is_encrypted", "is_safe", "chosen"),
    [
        (Auth.AUTO, SCRAM, True, True, "SCRAM-SHA-256"),
        (Auth.AUTO, SCRAM, False, True, "SCRAM-SHA-256"),
        (Auth.AUTO, SCRAM, False, False, "SCRAM-SHA-256"),
        (Auth.AUTO, ("scram-sha-1", "plain"), True, True, "PLAIN"),
        (Auth.AUTO, ALL, True, True, "PLAIN"),
        (Auth.AUTO, ALL, False, True, "CRAM-MD5"),
        (Auth.AUTO, ALL, False, False, "CRAM-MD5"),
        (Auth.AUTO, ("LOGIN", "PLAIN"), False, True, "PLAIN"),
        # Exchange Online's EHLO (MailKit#1770): no PLAIN
        (Auth.AUTO, ("LOGIN", "XOAUTH2"), True, True, "LOGIN"),
        (Auth.AUTO, ("login",), True, True, "LOGIN"),
        (Auth.PLAIN, SCRAM, True, True, "PLAIN"),
        (Auth.LOGIN, SCRAM, True, True, "LOGIN"),
        (Auth.CRAM_MD5, SCRAM, True, True, "CRAM-MD5"),
        (Auth.CRAM_MD5, SCRAM, False, False, "CRAM-MD5"),
        (Auth.SCRAM_SHA_256, SCRAM, True, True, "SCRAM-SHA-256"),
        (Auth.SCRAM_SHA_256, SCRAM, False, False, "SCRAM-SHA-256"),
        (Auth.OAUTH2, SCRAM, True, True, "XOAUTH2"),
        (Auth.OAUTH2, ("oauthbearer", "PLAIN"), True, True, "OAUTHBEARER"),
        (Auth.OAUTH2, ("OAUTHBEARER", "XOAUTH2"), True, True, "XOAUTH2"),
    ],
)
def test_one_mechanism_is_chosen_by_what_is_offered(
    auth: Auth, offered: tuple[str, ...], is_encrypted: bool, is_safe: bool, chosen: str
) -> None:
    assert choose(auth, offered, is_encrypted=is_encrypted, may_show_secret=is_safe).name == chosen


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
        (Auth.AUTO, ("XOAUTH2", "OAUTHBEARER"), True, True, "and auto was to be used"),
        (Auth.OAUTH2, ("PLAIN",), True, True, "the server offers PLAIN, and oauth2 was to be used"),
        (
            Auth.OAUTH2,
            ("XOAUTH2",),
            False,
            False,
            'the token would go in clear over the network; set security = "start',
        ),
        (Auth.SCRAM_SHA_256, ALL, True, True, "scram-sha-256 was to be used"),
    ],
)
def test_there_is_no_way_to_log_in(
    auth: Auth, offered: tuple[str, ...], is_encrypted: bool, is_safe: bool, why: str
) -> None:
    with pytest.raises(NoMechanism, match=why):
        choose(auth, offered, is_encrypted=is_encrypted, may_show_secret=is_safe)


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
    assert may_show_secret(peer, is_encrypted=is_encrypted, allow_plaintext=allow) is may


def test_the_exchanges_say_what_the_rfcs_say() -> None:
    assert list(exchange("PLAIN", "tim", "tanstaaftanstaaf")) == [
        b"AUTH PLAIN " + base64.b64encode(b"\0tim\0tanstaaftanstaaf")
    ]
    assert list(exchange("LOGIN", "jo", "pä ss")) == [
        b"AUTH LOGIN",
        base64.b64encode(b"jo"),
        base64.b64encode("pä ss".encode()),
    ]
    # RFC 2195 section 2
    cram = exchange("CRAM-MD5", "tim", "tanstaaftanstaaf")
    assert next(cram) == b"AUTH CRAM-MD5"
    challenge = base64.b64encode(b"<1896.697170952@postoffice.reston.mci.net>").decode()
    assert cram.send(challenge) == base64.b64encode(b"tim b913a602c7eda7a495b4e6e7334d3890")


def test_plain_takes_no_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        next(exchange("PLAIN", "a\0b", "c"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PLAIN", "500 what is s3cret word?"),
        ("LOGIN", f"what is {base64.b64encode(b's3cret word').decode()}"),
        (
            "PLAIN",
            f"AUTH PLAIN {base64.b64encode(bytes(1) + b'mailer' + bytes(1) + b's3cret word').decode()} is unknown",
        ),
        (
            "PLAIN",
            f"AUTH PLAIN {base64.b64encode(bytes(1) + b'mailer' + bytes(1) + b's3cret word').decode()[:-5]}... what",
        ),
        ("XOAUTH2", "what is s3cret-token-of-many-letters?"),
        ("XOAUTH2", "what is s3cret-token-of-many..."),
        (
            "XOAUTH2",
            f"AUTH XOAUTH2 {base64.b64encode(b'user=mailer' + bytes([1]) + b'auth=Bearer s3cret-tok').decode()[:-4]}",
        ),
    ],
)
async def test_what_a_server_repeats_of_a_secret_is_taken_out(name: str, said: str) -> None:
    secret = "s3cret-token-of-many-letters" if name == "XOAUTH2" else "s3cret word"
    login = Login(mechanism(name), "mailer", secret)
    await login.begin()
    while await login.answer("") is not None:
        pass
    shown = login.told(refusal(Phase.LOGIN, Reply(535, "5.7.8", said)))
    assert "***" in shown.reply.text
    assert "s3cret" not in shown.reply.text
    for word in shown.reply.text.split():
        assert len(word) < 9, shown.reply.text
    assert (shown.meaning, shown.reply.code) == (Meaning.LOGIN_REFUSED, 535)


def test_nothing_is_taken_out_where_nothing_was_said() -> None:
    assert masked("535 no", "", ()) == "535 no"
    assert masked("535 5.7.8 Authentication failed", "fail", ["", "YQ=="]) == "535 5.7.8 Authentication ***ed"
