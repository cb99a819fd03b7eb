"""Certificates, made once a session."""

import ssl
import warnings
from pathlib import Path

import pytest
import trustme

from tests.dialogs.upstream.upstream_kit import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = trustme.CA()
    file: Path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    good = authority.issue_cert("127.0.0.1", "localhost")
    old = _context(good)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    return Certificates(
        ca_file=str(file),
        good=_context(good),
        wrong_name=_context(authority.issue_cert("other.example")),
        unknown=_context(trustme.CA().issue_cert("127.0.0.1")),
        old=old,
    )


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
