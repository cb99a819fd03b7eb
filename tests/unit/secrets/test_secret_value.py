import pickle
import subprocess
import sys

import pytest

from relay.directory.model import Auth, Channel, Server
from relay.secrets.master_key import MasterKey, MasterKeyError
from relay.secrets.secret import Secret, SecretRef, ref_of, secret_ref

SERVER = Server(name="acme", host="mail.example", password_from="env:ACME")
CHANNEL = Channel(name="support", address="support@acme.example", password="in-the-file")


def test_a_secret_never_shows_itself() -> None:
    secret = Secret("hunter2", "1f")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        "{}".format(secret),  # noqa: UP032
        repr({"a": [secret]}),
    ]
    assert not [text for text in shown if "hunter2" in text]


def test_a_reference_does_not_show_a_password_from_the_file() -> None:
    assert "in-the-file" not in repr(ref_of(CHANNEL, SERVER))


def test_where_the_secret_of_a_server_and_of_a_profile_is() -> None:
    assert ref_of(SERVER, SERVER) == SecretRef("server/acme", "mail.example", "env:ACME")
    assert ref_of(CHANNEL, SERVER) == SecretRef("profile/support", "acme mail.example", "", "in-the-file")


def test_whose_secret_logs_in_on_a_route() -> None:
    assert secret_ref(SERVER, CHANNEL, override=True) == ref_of(CHANNEL, SERVER)
    assert secret_ref(SERVER, CHANNEL, override=False) == ref_of(SERVER, SERVER)
    assert secret_ref(SERVER, None, override=False) == ref_of(SERVER, SERVER)
    assert secret_ref(Server(name="open", host="h", auth=Auth.NONE), CHANNEL, override=True) is None


def test_a_master_key_shows_only_its_id_and_is_not_serialised() -> None:
    key = MasterKey(bytes(range(32)))
    material = key.as_text().decode().strip()
    assert material not in repr(key)
    assert key.id in repr(key)
    assert key.id not in bytes(range(32)).hex()
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_a_digest_is_the_same_for_the_same_value_under_the_same_key_only() -> None:
    key = MasterKey(b"k" * 32)
    assert key.digest("a") == MasterKey(b"k" * 32).digest("a")
    assert key.digest("a") != key.digest("b")
    assert key.digest("a") != MasterKey(b"l" * 32).digest("a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"c2hvcnQ=\n", "has 5 bytes instead of 32"),
        (b"A" * 44, "has 33 bytes instead of 32"),
        (b"not base64 at all, but a passphrase", "holds no master key"),
        (b"\xff\xfe\x00garbled", "holds no master key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "holds no master key"),
        (MasterKey(b"k" * 32).as_text()[:-8], "holds no master key"),
        (MasterKey(b"k" * 32).as_text()[:-5], "has 30 bytes"),
    ],
)
def test_what_is_no_master_key_is_said_in_a_sentence_without_it(text: bytes, words: str) -> None:
    with pytest.raises(MasterKeyError, match=words) as caught:
        MasterKey.parse(text, "the file master.key")
    assert "the file master.key" in str(caught.value)
    assert "backup" in str(caught.value)
    assert "\n" not in str(caught.value)
    for part in (b"passphrase", b"garbled", b"c2hvcnQ"):
        assert part.decode() not in str(caught.value)


def test_a_key_may_stand_in_its_file_with_spaces_around() -> None:
    key = MasterKey.new()
    assert MasterKey.parse(b"  " + key.as_text() + b"\r\n", "x").id == key.id


def test_the_secrets_folder_needs_no_database() -> None:
    code = (
        "import sys, relay.secrets.resolver, relay.secrets.master_key, relay.system.files;"
        "sys.exit(any(name in sys.modules for name in ('sqlalchemy', 'alembic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
