"""Everything that can be wrong with the certificate of the listeners and its key."""

import datetime as dt
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from relay.config.certificate import CertificateFault, CertificateFiles, check_certificate
from relay.config.settings import Tls

STRANGE_KEY = "this key does not belong to the first certificate in {folder}/chain.pem; name the two of one pair"
NOW = dt.datetime.now(dt.UTC)


def written(folder: Path, *, days: float = 90) -> CertificateFiles:
    issued = trustme.CA().issue_cert("127.0.0.1", not_after=NOW + dt.timedelta(days=days))
    files = CertificateFiles(folder / "chain.pem", folder / "key.pem")
    files.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    files.key.chmod(0o640)
    return files


def checked(files: CertificateFiles) -> tuple[list[str], list[str]]:
    faults, warnings = check_certificate(Tls(certificate=str(files.certificate), key=str(files.key)), "relay.toml")
    return [str(fault) for fault in faults], [str(warning) for warning in warnings]


def test_a_good_pair(tmp_path: Path) -> None:
    assert checked(written(tmp_path)) == ([], [])
    assert check_certificate(Tls(), "relay.toml") == ((), ())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("chain.pem", None, "tls.certificate: there is no file {folder}/chain.pem"),
        ("key.pem", None, "tls.key: there is no file {folder}/key.pem"),
        (
            "chain.pem",
            "hello",
            "tls.certificate: {folder}/chain.pem holds no PEM certificate; it begins with -----BEGIN CERTIFICATE-----",
        ),
        (
            "key.pem",
            "hello",
            "tls.key: {folder}/key.pem holds no PEM private key; it begins with -----BEGIN PRIVATE KEY-----",
        ),
        (
            "key.pem",
            "other",
            f"tls.key: {STRANGE_KEY}",
        ),
        (
            "key.pem",
            "locked",
            "tls.key: the key in {folder}/key.pem has a password; take it off: openssl pkey -in KEY -out NEWKEY",
        ),
    ],
)
def test_a_file_at_fault_is_one_sentence(tmp_path: Path, name: str, content: str | None, sentence: str) -> None:
    files = written(tmp_path)
    path = tmp_path / name
    path.unlink()
    if content == "other":
        path.write_bytes(trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())
    elif content == "locked":
        path.write_bytes(_locked())
    elif content is not None:
        path.write_text(content)
    assert checked(files) == ([f"relay.toml: {sentence.format(folder=tmp_path)}"], [])


def test_what_is_wrong_with_each_file_comes_at_once(tmp_path: Path) -> None:
    missing = CertificateFiles(tmp_path / "chain.pem", tmp_path / "key.pem")
    each = [f"relay.toml: tls.{key}: there is no file {tmp_path}/{key}.pem" for key in ("certificate", "key")]
    each[0] = each[0].replace("certificate.pem", "chain.pem")
    assert checked(missing) == (each, [])
    # That one of them is not named is told with the settings.
    alone = [
        check_certificate(tls, "relay.toml")[0]
        for tls in (Tls(certificate=str(missing.certificate)), Tls(key=str(missing.key)))
    ]
    assert [[str(fault) for fault in faults] for faults in alone] == [[each[0]], [each[1]]]
    good = written(tmp_path)
    assert check_certificate(Tls(key=str(good.key)), "relay.toml") == ((), ())


def _locked() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def test_a_folder_is_no_certificate(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path, written(tmp_path).key)
    assert checked(files)[0] == [f"relay.toml: tls.certificate: {tmp_path} cannot be read: it is not a regular file"]


def test_a_certificate_that_ends_is_a_warning(tmp_path: Path) -> None:
    for days, words in ((13, "expires on"), (-1, "has expired on")):
        faults, (warning,) = checked(written(tmp_path, days=days))
        assert faults == []
        assert f"tls.certificate: the certificate in {tmp_path}/chain.pem {words} " in warning


def test_a_key_that_everybody_may_read_is_a_warning(tmp_path: Path) -> None:
    files = written(tmp_path)
    files.key.chmod(0o644)
    sentence = f"relay.toml: tls.key: every user of this machine may open {files.key}; run: chmod o-rwx {files.key}"
    assert checked(files) == ([], [sentence])


def test_no_key_is_in_a_fault(tmp_path: Path) -> None:
    files = written(tmp_path)
    content = files.key.read_text()
    files.certificate.write_text(content)
    with pytest.raises(CertificateFault) as caught:
        files.load()
    assert not any(line in str(caught.value) for line in content.splitlines()[1:-1])
