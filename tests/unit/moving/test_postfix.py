"""From main.cf to servers and senders: each way in which Postfix chooses a server, an account and an address."""

from collections.abc import Callable

import pytest

from relay.directory.kinds import AGENT
from relay.moving.found import profile_entries, server_entries
from relay.moving.merge import Wanted, merge
from tests.peers.work import growth
from tests.unit.moving.moving_kit import FILE, msmtp, notes, postfix, profiles, servers

LOGINS = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/etc/postfix/sasl\n"
BY_SENDER = LOGINS + "smtp_sender_dependent_authentication = yes\n"
MAILER = "[smtp.acme.example]:587 mailer@acme.example:geheim\n"


def test_a_relayhost_with_its_account_is_the_default_server() -> None:
    found = postfix(f"relayhost = [smtp.acme.example]:587\nsmtp_tls_security_level = secure\n{LOGINS}", sasl=MAILER)
    assert found.default == "smtp.acme.example:587"
    assert servers(found) == {
        found.default: {"host": "smtp.acme.example", "security": "starttls", "username": "mailer@acme.example"}
    }
    assert profiles(found) == [(found.default, {"address": "mailer@acme.example"}, "")]
    assert notes(found) == []
    assert [(one.key, one.value) for one in found.suggestions] == [("policy.unknown_sender", '"default"')]


def test_senders_with_servers_and_accounts_of_their_own() -> None:
    found = postfix(
        f"relayhost = [smtp.acme.example]:587\nsmtp_tls_security_level = secure\n{BY_SENDER}"
        "sender_dependent_relayhost_maps = lmdb:/etc/postfix/hosts\n",
        hosts="jane@acme.example [smtp.other.example]:submission\nmailer@acme.example DUNNO\n",
        sasl=f"{MAILER}jane@acme.example jane:a:b\nsupport@acme.example support@acme.example:c\n",
    )
    assert list(servers(found)) == ["smtp.acme.example:587", "smtp.other.example:587"]
    assert profiles(found) == [
        ("smtp.other.example:587", {"address": "jane@acme.example", "override": True, "username": "jane"}, "a:b"),
        ("smtp.acme.example:587", {"address": "mailer@acme.example"}, ""),
        ("smtp.acme.example:587", {"address": "support@acme.example", "override": True}, "c"),
    ]
    assert notes(found) == []


def test_without_sender_dependent_authentication_the_host_decides_who_logs_in() -> None:
    found = postfix(
        f"{LOGINS}sender_dependent_relayhost_maps = hash:/etc/postfix/hosts\n",
        hosts="jane@acme.example [smtp.acme.example]:587\n",
        sasl=f"{MAILER}jane@acme.example jane:secret\n",
    )
    assert found.default is None
    [(_, values, password)] = profiles(found)
    assert (values["username"], password) == ("mailer@acme.example", "geheim")


def test_a_server_without_a_login() -> None:
    found = postfix("relayhost = smarthost.acme.example\n")
    assert servers(found) == {
        "smarthost.acme.example:25": {"host": "smarthost.acme.example", "security": "none", "auth": "none"}
    }
    assert notes(found) == [
        (
            f"{FILE}:1: without brackets Postfix asks DNS for the mail servers of smarthost.acme.example; "
            "Relay connects to smarthost.acme.example itself"
        )
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("smtp_tls_wrappermode = yes\nsmtp_tls_security_level = verify\n", {"security": "tls"}),
        ("smtp_tls_security_level = may\n", {"security": "starttls"}),
        ("smtp_use_tls = yes\n", {"security": "starttls"}),
        ("smtp_tls_security_level = none\n", {"security": "none", "auth": "cram-md5"}),
        (
            "smtp_sasl_security_options = noanonymous\n",
            {"security": "none", "allow_plaintext_password": True},
        ),
        ("smtp_tls_policy_maps = inline:{ { [h.example]:465 = secure match=x } }\n", {"security": "starttls"}),
        (
            "smtp_tls_security_level=secure\nsmtp_sasl_mechanism_filter = login\n",
            {"security": "starttls", "auth": "login"},
        ),
        (
            "smtp_tls_security_level=secure\nsmtp_tls_CAfile = $config_directory/ca.pem\n",
            {"security": "starttls", "ca_file": "/etc/postfix/ca.pem"},
        ),
        (
            (
                "smtp_tls_security_level=secure\nsmtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt\n"
                "smtp_destination_concurrency_limit = 3\nsmtp_destination_recipient_limit=9\n"
                "smtp_destination_rate_delay=2s\n"
            ),
            {"security": "starttls", "max_connections": 3, "recipients_per_message": 9, "messages_per_minute": 30},
        ),
    ],
)
def test_how_a_server_is_spoken_to(settings: str, expected: dict[str, object]) -> None:
    found = postfix(f"relayhost = [h.example]:465\n{LOGINS}{settings}", sasl="h.example u:p\n")
    port = {} if expected["security"] == "tls" else {"port": 465}
    assert servers(found)["h.example:465"] == {"host": "h.example", "username": "u", **expected, **port}


def test_rewritten_senders() -> None:
    """Canonical maps come before the choice of a server, generic maps behind it (ADDRESS_REWRITING_README)."""
    found = postfix(
        f"myorigin = acme.example\nrelayhost = [smtp.acme.example]:587\nsmtp_tls_security_level=secure\n{BY_SENDER}"
        "sender_canonical_maps = hash:/etc/postfix/canonical\nsmtp_generic_maps = hash:/etc/postfix/generic\n",
        sasl=f"{MAILER}support@acme.example support@acme.example:c\n",
        canonical="desk support\n",
        generic="cron@host.local mailer@acme.example\n@host.local mailer@acme.example\n"
        "old@acme.example new@acme.example\n"
        "wrong@acme.example support@acme.example\n@whole.example @other.example\n",
    )
    key = "smtp.acme.example:587"
    as_mailer = {"username": "mailer@acme.example"}
    support = {"address": "support@acme.example", "override": True, "aliases": ["desk@acme.example"]}
    assert profiles(found) == [
        (key, support, "c"),
        (key, {"address": "mailer@acme.example"}, ""),
        (key, {"address": "cron@host.local"}, ""),
        (
            key,
            {"address": "new@acme.example", "aliases": ["old@acme.example"], "override": True, **as_mailer},
            "geheim",
        ),
        (key, {"address": "postmaster@host.local", "aliases": ["@host.local"]}, ""),
    ]
    assert [note.partition(": ")[0] for note in notes(found)] == ["/etc/postfix/generic:4", "/etc/postfix/generic:5"]


def test_a_whole_domain_keeps_its_addresses() -> None:
    found = postfix(
        f"{BY_SENDER}smtp_tls_security_level=secure\nsender_dependent_relayhost_maps = hash:/x/hosts\n",
        hosts="@a.example [h.example]:587\n@b.example [h.example]:587\n",
        sasl="@a.example info@a.example:1\n@b.example key:2\n",
    )
    assert [(values["address"], values["aliases"], values["alias_identity"]) for _, values, _ in profiles(found)] == [
        ("info@a.example", ["@a.example"], "keep"),
        ("postmaster@b.example", ["@b.example"], "keep"),
    ]


def test_transports_by_sender() -> None:
    found = postfix(
        "relayhost = [d.example]\nsender_dependent_default_transport_maps = hash:/x/transports\n",
        transports="a@a.example smtp:[t.example]:2525\nb@a.example smtp:\nc@a.example slow:[t.example]\n",
    )
    assert [(server, values["address"]) for server, values, _ in profiles(found)] == [
        ("t.example:2525", "a@a.example"),
        ("d.example:25", "b@a.example"),
        ("d.example:25", "c@a.example"),
    ]
    assert notes(found) == ["/x/transports:3: the transport 'slow' is not taken over; only smtp and relay are"]


@pytest.mark.parametrize(
    ("main_cf", "note"),
    [
        ("relayhost = [h.example]:nonsense\n", "'[h.example]:nonsense' is not a host"),
        ("relayhost = [h.example], [i.example]\n", "only the first of these is taken over, [h.example]"),
        ("relayhost = $a\na = $b\nb = $a\n", "relayhost: its names refer to each other without end"),
        ("smtp_generic_maps = pcre:/x/y\n", "smtp_generic_maps: tables of type pcre are not read"),
        ("smtp_generic_maps = ldap:/x/y\n", "smtp_generic_maps: tables of type ldap are not read"),
        ("smtp_generic_maps = hash:/x/y\n", "smtp_generic_maps: /x/y is not there"),
        ("always_bcc = a@b.example\n", "always_bcc: Relay sends no copies of mail"),
        ("content_filter = x:[127.0.0.1]\n", "content_filter: Relay passes mail to no filter"),
        ("sender_dependent_relayhost_maps = inline:{ {a@b.example = [h.example]} }\n", ""),
        ("smtp_generic_maps = inline:{ a@b.example=c@b.example }\n", "a@b.example: Postfix delivers its mail by DNS"),
    ],
)
def test_what_is_not_taken_over_is_told_with_its_line(main_cf: str, note: str) -> None:
    found = postfix(f"myhostname = h.acme.example\n{main_cf}")
    assert any(one.startswith(f"{FILE}:2: {note}") for one in notes(found)) == bool(note), notes(found)


def test_the_origin_may_stand_in_a_file() -> None:
    main_cf = "myorigin = /etc/mailname\nrelayhost = [h.example]\nsmtp_generic_maps = hash:/x/generic\n"
    found = postfix(main_cf, mailname="acme.example\n", generic="joe jane\n")
    [(_, values, _)] = profiles(found)
    assert (values["address"], values["aliases"]) == ("jane@acme.example", ["joe@acme.example"])
    assert f"{FILE}:1: myorigin: /etc/mailname is not there (file)" in notes(postfix(main_cf, generic="joe jane\n"))


def test_a_sender_costs_the_same_however_many_others_there_are() -> None:
    def reading(count: int) -> Callable[[], None]:
        rows = "".join(f"agent{number}@acme.example agent{number}:geheim{number}\n" for number in range(count))

        def read() -> None:
            found = postfix(f"relayhost = [h.example]\n{BY_SENDER}", sasl=rows)
            wanted = [Wanted(one.key, one.values, str(one.place)) for one in server_entries(found)]
            senders = [Wanted("", one.values, "", one.server) for one in profile_entries(found, [])]
            assert len(merge({}, wanted, senders, found.default or "", AGENT).entries) == count + 1

        return read

    assert growth(reading, 200) < 5


def test_what_belongs_into_relay_toml() -> None:
    found = postfix(
        "myhostname = mail.acme.example\nmynetworks = 127.0.0.0/8 [::1]/128\ninet_interfaces = all\n"
        "message_size_limit = 20480000\nmaximal_queue_lifetime = 2w\ndelay_warning_time = 6\n"
        "smtpd_tls_cert_file = /x.pem\n"
    )
    assert {one.key: one.value for one in found.suggestions} == {
        "hostname": '"mail.acme.example"',
        "listener.address": '"0.0.0.0:25"',
        "listener.trusted_networks": '["127.0.0.0/8", "::1/128"]',
        "limits.message_size": "20480000",
        "delivery.warn_after": '"6h"',
        "delivery.give_up_after": '"14d"',
        "tls.certificate": '"/x.pem"',
    }
    table = postfix("mynetworks = 127.0.0.0/8 hash:/etc/postfix/networks\n")
    assert table.suggestions == ()
    assert notes(table)[0].startswith(f"{FILE}:1: mynetworks: there is more in it than networks")


def test_no_password_shows_itself() -> None:
    found = postfix(f"relayhost = [smtp.acme.example]:587\n{BY_SENDER}", sasl=MAILER + "j@acme.example j:geheim\n")
    assert "geheim" not in repr(found) + repr(notes(found))
    assert "geheim" not in repr(
        msmtp("account a\nhost h.example\nauth on\nuser u\npassword geheim\nfrom a@b.example\n")
    )


def test_a_password_that_is_no_text_is_told_and_left_out() -> None:
    found = postfix(f"relayhost = [h.example]\n{BY_SENDER}", sasl="j@acme.example j:\ufffd\n")
    assert profiles(found)[0][2] == ""
    assert any("its password is not UTF-8 text" in note for note in notes(found))
