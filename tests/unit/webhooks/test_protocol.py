"""Events are signed as Standard Webhooks says: the library of its authors takes them, and nothing else."""

import base64
import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from relay.webhooks.protocol import key_of, signed_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"type": "message.delivered", "data": {"subject": "grüße"}}'.encode()


def test_the_example_of_the_specification() -> None:
    body = b'{"test": 2432232314}'
    headers = signed_headers(key_of(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_library_of_the_authors_takes_it() -> None:
    headers = signed_headers(key_of(SECRET), "m1", int(time.time()), BODY)
    assert Webhook(SECRET).verify(BODY, headers)["type"] == "message.delivered"


@pytest.mark.parametrize("changed", ["body", "id", "time", "key"])
def test_it_refuses_what_is_another(changed: str) -> None:
    now = int(time.time())
    key = key_of(SECRET) if changed != "key" else bytes(24)
    headers = signed_headers(key, "m1", now, BODY)
    if changed == "id":
        headers["webhook-id"] = "m2"
    if changed == "time":
        headers["webhook-timestamp"] = str(now - 1)
    body = BODY + b" " if changed == "body" else BODY
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers)


@pytest.mark.parametrize("octets", [24, 64])
def test_a_key_with_and_without_its_prefix(octets: int) -> None:
    text = base64.b64encode(bytes(octets)).decode()
    assert key_of(text) == key_of(f"whsec_{text}\n") == bytes(octets)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_hunter2!", "whsec_" + "A" * 12, "A" * 100, "ключ"])
def test_a_bad_secret_is_a_sentence_without_it(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 random octets") as caught:
        key_of(secret)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
