"""Whatever stands in a file: it is read or refused in one sentence, soon, and no password is told."""

from hypothesis import given
from hypothesis import strategies as st

from relay.directory.kinds import CHANNEL
from relay.directory.values import EditRefused
from relay.moving.found import CannotRead, Found, profile_entries, server_entries
from relay.moving.merge import Wanted, merge
from tests.unit.moving.moving_kit import msmtp, postfix

SECRET = "geheim7Q"
# Pieces of real files, so that chance puts together what means something.
PIECES = st.sampled_from(
    [
        "relayhost",
        "sender_dependent_relayhost_maps",
        "smtp_generic_maps",
        "sender_canonical_maps",
        "smtp_sasl_password_maps",
        "smtp_tls_policy_maps",
        "smtp_tls_security_level",
        "mynetworks",
        "smtp_sasl_auth_enable",
        "smtp_sender_dependent_authentication",
        "=",
        "=",
        "=",
        "yes",
        "may",
        "secure",
        "hash:/a",
        "hash:/b",
        "static:u:p",
        "inline:{",
        "}",
        "{",
        ",",
        "$",
        "${",
        "$relayhost",
        "${relayhost?",
        ":",
        ")",
        "(",
        "[h.example]:587",
        "[::1]",
        "h.example",
        "a@b.example",
        "@b.example",
        "joe",
        "<>",
        "DUNNO",
        '"',
        "\\",
        "#",
        "*",
        ";",
        "İ",
        "�",
        "\x00",
        "\x85",
        "account",
        "account",
        "defaults",
        "host",
        "from",
        "port",
        "tls",
        "auth",
        "user",
        "password",
        "passwordeval",
        ":",
        ",",
        "eval",
        "99999",
        "465",
        "off",
        "on",
        "default",
    ]
)
TEXT = st.lists(
    st.one_of(PIECES, st.sampled_from([" ", "\n", "\t", "\n ", "\r\n"]), st.text(max_size=5)), max_size=60
).map("".join)
LINES = st.lists(st.lists(PIECES, max_size=6).map(" ".join), max_size=20).map("\n".join)
ANY = st.one_of(TEXT, LINES)


def check(found: Found) -> None:
    notes = list(found.notes)
    entries = server_entries(found)
    profiles = profile_entries(found, notes)
    assert all(note.place.file and note.place.line >= 0 and note.message for note in notes)
    assert {sender.server for sender in found.senders} <= set(found.servers)
    assert SECRET not in repr((found, notes, entries)) + repr([one.place for one in profiles])
    wanted = [Wanted(one.key, one.values, str(one.place), password=one.password) for one in entries]
    senders = [Wanted("", one.values, str(one.place), one.server, one.password) for one in profiles]
    document: dict[str, object] = {}
    try:
        done = merge(document, wanted, senders, found.default or "", CHANNEL)
        done.apply(document)
    except EditRefused:
        return
    assert not done.faults or document is not None
    again = merge(document, wanted, senders, found.default or "", CHANNEL)
    assert not [one for one in again.entries if one.is_new and not done.faults], "a second run adds nothing"


@given(ANY, ANY, ANY)
def test_postfix(main_cf: str, first: str, second: str) -> None:
    check(postfix(main_cf, a=first, b=second))


@given(ANY)
def test_msmtp(text: str) -> None:
    try:
        found = msmtp(f"{text}\npassword {SECRET}\n")
    except CannotRead as error:
        found, refusal = None, str(error)
    if found is None:
        assert SECRET not in refusal
    else:
        check(found)
