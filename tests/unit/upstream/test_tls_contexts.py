"""TLS contexts: made once, made anew when the CA file changed, never below TLS 1.2."""

import os
import ssl
from pathlib import Path

import pytest
import trustme

from relay.upstream.dial import Contexts
from relay.upstream.steps import Certificate


async def test_a_context_is_made_once_for_each_way_of_checking(tmp_path: Path) -> None:
    contexts = Contexts()
    checked = await contexts.get(verify=True, ca_file="")
    assert await contexts.get(verify=True, ca_file="") is checked
    unchecked = await contexts.get(verify=False, ca_file="")
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (unchecked.verify_mode, unchecked.check_hostname) == (ssl.CERT_NONE, False)
    assert {checked.minimum_version, unchecked.minimum_version} == {ssl.TLSVersion.TLSv1_2}


async def test_a_changed_ca_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    contexts = Contexts()
    first = await contexts.get(verify=True, ca_file=str(file))
    trustme.CA().cert_pem.write_to_path(str(file))
    os.utime(file, ns=(1, 1))
    second = await contexts.get(verify=True, ca_file=str(file))
    assert first.get_ca_certs() != second.get_ca_certs()
    assert await contexts.get(verify=True, ca_file=str(file)) is second


async def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        await Contexts().get(verify=True, ca_file=str(file))


def test_a_certificate_without_a_subject_is_named_by_its_hosts() -> None:
    pem = trustme.CA().issue_cert("mail.example", "127.0.0.1").cert_chain_pems[0].bytes()
    certificate = Certificate.parse(ssl.PEM_cert_to_DER_cert(pem.decode()))
    assert certificate.subject
    assert certificate.days_left() > 0
