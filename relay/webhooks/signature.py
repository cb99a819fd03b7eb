"""The signature of an event, by Standard Webhooks (standardwebhooks.com, specification 1.0.0). Pure.

The receiver knows by it who sent an event, and when: an old one that somebody sends again is found out by its time.
"""

import base64
import binascii
import hashlib
import hmac

_PREFIX = "whsec_"
_LEAST, _MOST = 24, 64  # octets of a key, as the specification has them
_WRONG = (
    "the secret of a webhook is whsec_ and the base64 of 24 to 64 random octets; "
    'make one with: echo "whsec_$(openssl rand -base64 32)"'
)


def key_of(secret: str) -> bytes:
    """Return the key in a secret. Raises ValueError, whose text has nothing of the secret."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(_WRONG) from None
    if not _LEAST <= len(key) <= _MOST:
        raise ValueError(_WRONG)
    return key


def signed_headers(key: bytes, id_: str, seconds: int, body: bytes) -> dict[str, str]:
    """Return the three headers of an event that is sent at a moment (seconds since 1970)."""
    signed = f"{id_}.{seconds}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": id_, "webhook-timestamp": str(seconds), "webhook-signature": f"v1,{signature}"}
