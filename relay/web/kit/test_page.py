"""Pages that are sent in pieces while something goes on: the steps of a test, the findings of the doctor.

Each piece appears when it is done, with the server's own words, and works without script. Who closes the page ends what
goes on.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from starlette.responses import Response, StreamingResponse

from relay.control.refused import Refused
from relay.control.tests.results import StepRecord
from relay.web.kit.forms import Field
from relay.web.kit.page_request import PageRequest

Items: TypeAlias = AsyncGenerator[StepRecord, None]

# Where the steps go in the template. Whatever a person wrote is escaped, so this stands there once.
_HERE = "<!-- here -->"
_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "refused": "Not tested",
        "resolve": "Look up",
        "connect": "Connect",
        "tls": "Encrypt",
        "ehlo": "Greet",
        "login": "Log in",
        "mail": "Sender",
        "rcpt": "Recipient",
        "message": "Message",
        "send-as": "Send as",
        "secret": "Secret",
        "post": "Post",
    }
)
_SENT = "It works: the server took the message."
_NOT_SENT = "It works up to the message, which was not sent."


@dataclass(frozen=True, slots=True)
class Back:
    """Where a person goes on after a test."""

    where: str
    label: str


def stream_test(
    visit: PageRequest, title: str, operation: str, params: Mapping[str, Any], back: Back
) -> StreamingResponse:
    """Return the page of a test that an operation does. A refusal in the middle is a step too."""
    is_sent = params.get("send", True)
    return told_test(visit, title, steps_of(visit, operation, params), back, good=_SENT if is_sent else _NOT_SENT)


def told_test(visit: PageRequest, title: str, steps: Items, back: Back, *, good: str = _SENT) -> StreamingResponse:
    """Return the page of any steps. `good` is said in the end where all of them were."""

    async def rows() -> AsyncGenerator[str, None]:
        is_empty, failed = True, ""
        async with aclosing(steps):
            async for step in steps:
                is_empty = False
                failed = failed or ("" if step.ok else step.step)
                yield visit.html("tests/_step.html", step=step, title=_title(step.step))
        is_good = not is_empty and not failed
        yield visit.html(
            "tests/_outcome.html", kind="good" if is_good else "bad", sentence=good if is_good else _trouble(failed)
        )

    return streamed(visit, "tests/test.html", rows(), title=title, back=back)


def streamed(visit: PageRequest, template: str, parts: AsyncGenerator[str, None], **values: Any) -> StreamingResponse:
    """Return a page whose template has `here` in it, where the parts appear as they come."""
    before, here, after = visit.html(template, here=_HERE, **values).partition(_HERE)
    assert here, f"{template} has no place for what comes"

    async def body() -> AsyncGenerator[str, None]:
        yield before
        async with aclosing(parts):
            async for part in parts:
                yield part
        yield after

    # A proxy in between must not wait for the end either.
    return StreamingResponse(body(), media_type="text/html", headers={"X-Accel-Buffering": "no"})


async def steps_of(visit: PageRequest, operation: str, params: Mapping[str, Any]) -> Items:
    """Yield the steps of an operation; what it refuses is the last one."""
    stream = visit.stream(operation, **params)
    try:
        async with aclosing(stream):
            async for item in stream:
                yield item
    except Refused as error:
        yield refused_step(str(error))


def refused_step(sentence: str) -> StepRecord:
    """Return the step of a test that was refused."""
    return StepRecord("refused", False, sentence)


async def refused(*said: str) -> Items:
    """Yield the only steps of a test that cannot begin: what is wrong."""
    for sentence in said:
        yield refused_step(sentence)


def refused_fields(fields: Iterable[Field], faults: Mapping[str, str]) -> Items:
    """Return the steps of a test of a form that has faults, each with the label of its field."""
    labels = {one.key: one.label for one in fields}
    return refused(*(f"{labels.get(key, key)}: {faults[key]}" for key in faults))


def _trouble(failed: str) -> str:
    if not failed:
        return "Nothing was tested."
    if failed == "refused":
        return "The test did not get to its end; the line above says why."
    return f"It does not work yet: look at “{_title(failed)}”."


def _title(step: str) -> str:
    return _TITLES.get(step, step.replace("-", " ").replace("_", " ").capitalize())


def told_findings(visit: PageRequest, name: str, back: Back) -> Response:
    """Return the page."""
    return streamed(
        visit, "tests/findings.html", _finding_rows(visit, name), title=f"Deliverability of {name}", back=back
    )


async def _finding_rows(visit: PageRequest, name: str) -> AsyncGenerator[str, None]:
    trouble = ""
    levels: Counter[str] = Counter()
    items = visit.stream("doctor", name=name)
    try:
        async with aclosing(items):
            async for item in items:
                levels[item.level] += 1
                yield visit.html("tests/_finding.html", item=item)
    except Refused as error:
        trouble = str(error)
    yield "</tbody></table></div>\n"
    count = levels["bad"] + levels["warn"]
    words = {0: "Nothing is wrong.", 1: "One thing to look at."}.get(count, f"{count} things to look at.")
    kind = "bad" if trouble or levels["bad"] else "warn" if count else "good"
    yield visit.html("shared/_notice.html", kind=kind, sentence=trouble or words)
