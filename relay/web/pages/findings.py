"""The page of the doctor's findings about one channel or agent; each appears when it is found."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response

from relay.control.refused import Refused
from relay.web.kit.page_request import PageRequest
from relay.web.kit.test_page import Back, streamed


def told_findings(visit: PageRequest, name: str, back: Back) -> Response:
    """Return the page."""
    return streamed(visit, "findings.html", _rows(visit, name), title=f"Deliverability of {name}", back=back)


async def _rows(visit: PageRequest, name: str) -> AsyncGenerator[str, None]:
    trouble = ""
    levels: Counter[str] = Counter()
    items = visit.stream("doctor", name=name)
    try:
        async with aclosing(items):
            async for item in items:
                levels[item.level] += 1
                yield visit.html("_finding.html", item=item)
    except Refused as error:
        trouble = str(error)
    yield "</tbody></table></div>\n"
    count = levels["bad"] + levels["warn"]
    words = {0: "Nothing is wrong.", 1: "One thing to look at."}.get(count, f"{count} things to look at.")
    kind = "bad" if trouble or levels["bad"] else "warn" if count else "good"
    yield visit.html("_notice.html", kind=kind, sentence=trouble or words)
