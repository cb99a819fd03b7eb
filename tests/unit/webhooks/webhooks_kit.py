"""Webhooks for tests."""

from typing import Any

from relay.config.notification import Webhook

CRM, BI = "https://crm.example/h", "https://bi.example/h"
EVERYTHING = ("queued", "delivered", "deferred", "unknown", "held", "released", "failed", "removed", "returned")


def hook(url: str = CRM, events: tuple[Any, ...] = EVERYTHING, **filters: Any) -> Webhook:
    return Webhook(url=url, secret_from="env:HOOK", events=events, **filters)
