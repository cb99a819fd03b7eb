"""Signature Version 4, by which a request to AWS proves that its sender knows a secret key without showing it.

docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. Of the libraries that do this,
botocore weighs 14 MB and the small ones are not kept any more; the function is pure, and the tests have AWS's own
examples.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from hmac import digest
from urllib.parse import parse_qsl, quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_END = "aws4_request"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Who signs, for which service in which region. `id` is the access key id."""

    id: str
    secret: str = field(repr=False)
    region: str
    service: str


def signed(
    method: str, url: str, headers: Mapping[str, str], payload: str, key: SigningKey, now: datetime
) -> dict[str, str]:
    """Return the headers with those that sign them, the address and the payload, whose SHA-256 in hex is given.

    `url` is the address as it is sent. A signature is good for some minutes around `now`, which is in UTC.
    """
    parts, moment = urlsplit(url), f"{now:%Y%m%dT%H%M%SZ}"
    covered = {name.lower(): value.strip() for name, value in headers.items()}
    covered |= {"host": parts.netloc, "x-amz-date": moment}
    names = sorted(covered)
    query = "&".join(sorted(f"{_escaped(name)}={_escaped(value)}" for name, value in parse_qsl(parts.query, True)))
    lines = [method, quote(parts.path or "/", safe="/-_.~"), query, *(f"{name}:{covered[name]}" for name in names)]
    request = "\n".join([*lines, "", ";".join(names), payload])
    scope = "/".join([moment[:8], key.region, key.service, _END])
    text = "\n".join([_ALGORITHM, moment, scope, sha256(request.encode()).hexdigest()])
    proof = _chained(f"AWS4{key.secret}".encode(), [*scope.split("/"), text]).hex()
    credential = f"{_ALGORITHM} Credential={key.id}/{scope}"
    authorization = f"{credential}, SignedHeaders={';'.join(names)}, Signature={proof}"
    return {**headers, "X-Amz-Date": moment, "Authorization": authorization}


def _chained(secret: bytes, texts: Iterable[str]) -> bytes:
    """Return the last of the digests of which each is the key of the next."""
    for text in texts:
        secret = digest(secret, text.encode(), sha256)
    return secret


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")
