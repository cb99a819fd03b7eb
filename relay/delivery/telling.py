"""A journey as a line of the log."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from relay import log
from relay.delivery.journey import Ending, Journey

_EVENTS: Mapping[Ending, Callable[..., None]] = MappingProxyType(
    {
        Ending.DELIVERED: log.delivered,
        Ending.QUEUED: log.queued,
        Ending.DEFERRED: log.deferred,
        Ending.FAILED: log.failed,
        Ending.REFUSED: log.refused,
    }
)


def tell_log(journey: Journey) -> None:
    """Write one line about what became of a message."""
    route = journey.route
    _EVENTS[journey.ending](
        id=journey.arrival.id,
        message_id=journey.message_id or None,
        client=journey.client.name,
        sender=str(journey.envelope.sender or "<>"),
        recipients=[str(recipient.address) for recipient in journey.envelope.recipients],
        size=journey.size,
        profile=route.profile.name if route and route.profile else None,
        account=str(route.account) if route else None,
        identity=str(journey.sender or "<>") if route else None,
        reply=str(journey.reply),
        upstream=str(journey.upstream) if journey.upstream else None,
        phase=journey.phase or None,
        tls=journey.tls or None,
        detail=journey.detail or None,
        seconds=round(journey.seconds, 3),
    )
