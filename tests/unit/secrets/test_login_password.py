"""Login passwords: which texts can be one, and what is kept of it."""

import json
import unicodedata

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import example, given
from hypothesis import strategies as st
from scramp import ScramClient, ScramMechanism
from scramp.utils import ScramException, ServerError

from relay.secrets import login_password
from relay.secrets.login_password import (
    Argon2idHash,
    ScryptHash,
    Verifier,
    fake_verifier,
    hash_password,
    is_hash_of,
    make_record,
    make_verifier,
    nobodys_hash,
    parse_record,
    prepare,
)
from relay.secrets.sources import SecretUnavailable
from relay.secrets.vault import SecretRefused

PASSWORD = "geheim-12345"


@pytest.fixture
def old_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose OpenSSL has no Argon2id."""

    def missing(**_: object) -> None:
        raise UnsupportedAlgorithm("no argon2id")

    monkeypatch.setattr(login_password, "Argon2id", missing)


def scram_ends_well(verifier: Verifier, password: str) -> bool:
    """Run a SCRAM exchange of a client with this password."""
    kept = (verifier.salt, verifier.stored_key, verifier.server_key, verifier.iterations)
    server = ScramMechanism("SCRAM-SHA-256").make_server(lambda _: kept)
    client = ScramClient(["SCRAM-SHA-256"], "jane", password)
    server.set_client_first(client.get_client_first())
    client.set_server_first(server.get_server_first())
    try:
        server.set_client_final(client.get_client_final())
    except ScramException as error:
        if error.server_error is not ServerError.INVALID_PROOF:
            raise
        return False
    client.set_server_final(server.get_server_final())
    return True


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ("", "a login password has at least 8 characters"),
        ("geheim7", "a login password has at least 8 characters"),
        ("\u00ad" * 20, "a login password has at least 8 characters"),
        ("g" * 1025, "a login password has at most 1,024 characters"),
        ("geheim\r\nzwei", "a login password is one line of text without control characters"),
        ("geheim\x0012345", "a login password is one line of text without control characters"),
        ("geheim\x7f12345", "a login password is one line of text without control characters"),
        ("geheim\x8512345", "a login password is one line of text without control characters"),
        ("geheim-\N{GRINNING FACE}-1", "the login password has a character that mail programs cannot be relied on"),
        ("geheim-\ud800-12345", "the login password has a character that mail programs cannot be relied on"),
    ],
)
def test_what_cannot_be_a_login_password_is_refused_without_being_shown(password: str, sentence: str) -> None:
    with pytest.raises(SecretRefused) as caught:
        prepare(password)
    assert str(caught.value).startswith(sentence)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("password", ["12345678", "g" * 1024, "two words", "Größe-des-Hauses", " spaces kept "])
def test_everything_else_is_a_login_password(password: str) -> None:
    assert len(prepare(password)) == len(password)


@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_two_ways_to_type_an_umlaut_are_one_password(typed: str) -> None:
    record = make_record("Größe-des-Hauses")
    assert is_hash_of(record.hash, prepare(unicodedata.normalize(typed, "Größe-des-Hauses")))  # type: ignore[arg-type]


@given(st.text(max_size=40))
@example("\u0627\u0644\u0633\u0644\u0627\u0645 a")
def test_any_text_is_prepared_or_refused(text: str) -> None:
    try:
        prepared = prepare(text)
    except SecretRefused:
        return
    assert prepare(prepared) == prepared
    assert len(prepared) >= 8


def test_a_hash_is_that_of_its_password_alone() -> None:
    kept = hash_password(PASSWORD)
    assert isinstance(kept, Argon2idHash)
    assert (kept.memory, kept.passes, kept.lanes) == (19 * 1024, 2, 1)
    assert is_hash_of(kept, PASSWORD)
    assert not is_hash_of(kept, PASSWORD + "x")
    assert hash_password(PASSWORD) != kept, "the salt is new each time"
    assert not is_hash_of(nobodys_hash(), PASSWORD)


@pytest.mark.usefixtures("old_openssl")
def test_without_argon2id_it_is_scrypt() -> None:
    kept = hash_password(PASSWORD)
    assert isinstance(kept, ScryptHash)
    assert is_hash_of(kept, PASSWORD)
    assert not is_hash_of(kept, PASSWORD + "x")
    assert isinstance(nobodys_hash(), ScryptHash)


def test_a_hash_from_elsewhere_that_cannot_be_made_here_is_one_sentence(request: pytest.FixtureRequest) -> None:
    kept = hash_password(PASSWORD)
    request.getfixturevalue("old_openssl")
    with pytest.raises(SecretUnavailable, match="OpenSSL lacks; set it again"):
        is_hash_of(kept, PASSWORD)


def test_a_verifier_lets_its_password_in_and_no_other() -> None:
    verifier = make_verifier(prepare(PASSWORD))
    assert verifier.iterations >= 4096, "RFC 7677 section 4"
    assert scram_ends_well(verifier, PASSWORD)
    assert not scram_ends_well(verifier, PASSWORD + "x")


def test_a_fake_verifier_looks_like_a_real_one_and_lets_nobody_in() -> None:
    fake, real = fake_verifier(b"key", "nobody"), make_verifier(PASSWORD)
    assert not scram_ends_well(fake, PASSWORD)
    assert fake.iterations == real.iterations
    for part in ("salt", "stored_key", "server_key"):
        assert len(getattr(fake, part)) == len(getattr(real, part))
    assert fake == fake_verifier(b"key", "nobody")
    assert fake.salt != fake_verifier(b"key", "someone").salt != fake_verifier(b"other", "someone").salt


@pytest.mark.parametrize("argon2id", [True, False])
def test_a_record_is_read_as_it_was_written(argon2id: bool, request: pytest.FixtureRequest) -> None:
    if not argon2id:
        request.getfixturevalue("old_openssl")
    record = make_record(PASSWORD)
    text = record.as_text
    assert "\n" not in text
    assert PASSWORD not in text
    assert parse_record(text, "jane") == record
    for secret in (record.verifier.salt, record.verifier.stored_key, record.hash.digest):
        assert repr(secret)[2:-1] not in repr(record)


@pytest.mark.parametrize(
    "changes",
    [{"version": 2}, {"hash": {"kind": "md5"}}, {"hash": None}, {"verifier": {}}, {"more": 1}],
)
def test_a_record_of_another_form_is_one_sentence(changes: dict[str, object]) -> None:
    record = json.loads(make_record(PASSWORD).as_text)
    with pytest.raises(SecretUnavailable) as caught:
        parse_record(json.dumps(record | changes), "jane")
    sentence = "the login password of jane is kept in a form that this version does not know; set it again"
    assert str(caught.value) == sentence
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "no json", "[]", '"x"'])
def test_what_is_no_record_is_the_same_sentence(text: str) -> None:
    with pytest.raises(SecretUnavailable, match=r"^the login password of jane is kept in a form"):
        parse_record(text, "jane")
