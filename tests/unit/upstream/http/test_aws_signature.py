"""Requests are signed as in the examples that AWS published (its "Signature Version 4 Test Suite")."""

from datetime import UTC, datetime
from hashlib import sha256

from relay.upstream.http.aws_signature import SigningKey, signed
from tests.peers.rows import each_row

KEY = SigningKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service")
NOW = datetime(2015, 8, 30, 12, 36, 0, tzinfo=UTC)
URL = "https://example.amazonaws.com"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
QUERY = "/?Param2=value2&Param1=value1"


@each_row(
    ("method", "path", "headers", "body", "names", "signature"),
    [
        ("GET", "/", {}, b"", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", QUERY, {}, b"", "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("POST", "", {}, b"", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "POST",
            "/",
            {"My-Header1": "value1"},
            b"",
            "my-header1;",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        ),
        (
            "POST",
            "/",
            FORM,
            b"Param1=value1",
            "content-type;",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_the_signature_is_that_of_the_example(
    method: str, path: str, headers: dict[str, str], body: bytes, names: str, signature: str
) -> None:
    made = signed(method, URL + path, headers, sha256(body).hexdigest(), KEY, NOW)
    first, last = (names, "host;") if names < "host" else ("host;", names)
    assert made == {
        **headers,
        "X-Amz-Date": "20150830T123600Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={first}{last}x-amz-date, Signature={signature}",
    }


def test_the_secret_is_in_no_text_of_the_key() -> None:
    assert KEY.secret not in repr(KEY)
