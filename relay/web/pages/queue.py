"""The pages of the queue: what waits and why, and what people do about it, with one message or with many."""

from collections import Counter
from collections.abc import Mapping, Sequence

from starlette.responses import Response
from starlette.routing import Route

from relay.control.messages.results import JourneyRecord, Page, QueueItem, Retried
from relay.control.refused import NotFound, Refused
from relay.delivery.outcome import State
from relay.web.kit.lists import Search
from relay.web.kit.page_request import PageRequest, local_path, page
from relay.web.kit.site import Site

PATH = "/queue"
_KEYS = ("state", "profile", "account")
_OPEN = tuple(str(state) for state in State if not state.is_final)
_MOST = 200  # more are not shown on a page, and so not chosen
_DONE: Mapping[str, str] = {"retry": "retried", "hold": "held", "release": "released", "remove": "removed"}
_WRONG_STATE: Mapping[tuple[str, str], str] = {
    ("retry", State.HELD): "is held and has to be released instead",
    ("hold", State.HELD): "was held already",
    ("release", State.HELD): "waits for its account, which is held",
}


def routes(site: Site) -> list[Route]:
    """Return the routes of the queue."""
    return [page(PATH, site, get=_list, post=_act)]


async def _list(visit: PageRequest) -> Response:
    asking = Search.of(PATH, visit.query, _KEYS)
    asked = {key: asking[key] for key in _KEYS if asking[key]}
    found: Page[QueueItem] = Page((), None)
    fault = ""
    try:
        found = await visit.run("queue.page", contains=asking["q"], **asked, after=asking.at or None)
    except Refused as error:
        fault = str(error)
    return visit.render(
        "messages/queue.html", status=422 if fault else 200, asking=asking, states=_OPEN, found=found, fault=fault
    )


async def _act(visit: PageRequest) -> Response:
    action, back = visit.text("action"), local_path(visit.text("back") or PATH)
    if action == "retry-all":
        asked = {"profile": visit.text("profile")} if visit.text("profile") else {}
        done: Retried = await visit.run("queue.retry", **asked)
        return visit.redirect(back, f"{done.retried} retried")
    if action not in _DONE:
        raise Refused("choose what to do: retry, hold, release or remove")
    ids = list(dict.fromkeys(one for one in visit.form.getlist("id") if isinstance(one, str)))[:_MOST]
    if not ids:
        return visit.redirect(back, "Nothing was chosen: tick the messages first.", is_done=False)
    if action == "remove" and visit.text("confirm") != "yes":
        return await _ask(visit, ids, back)
    outcomes = [await _do(visit, action, id_) for id_ in ids]
    return visit.redirect(back, told(outcomes), is_done=set(outcomes) == {_DONE[action]})


async def _ask(visit: PageRequest, ids: Sequence[str], back: str) -> Response:
    records = []
    for id_ in ids:
        try:
            records.append(await visit.run("queue.show", id=id_))
        except Refused:  # it left meanwhile: then there is nothing to ask about it
            continue
    if not records:
        return visit.redirect(back, "None of these messages waits any more.", is_done=False)
    return visit.render("messages/queue_remove.html", records=records, back=back)


async def _do(visit: PageRequest, action: str, id_: str) -> str:
    """Do something with one message, and say in a few words what came of it."""
    try:
        if action == "retry":
            tried: Retried = await visit.run("queue.retry", ids=[id_])
            if tried.retried:
                return _DONE[action]
        else:
            await visit.run(f"queue.{action}", id=id_)
            return _DONE[action]
    except NotFound:
        return "is not there any more"
    except Refused:
        pass
    return await _why_not(visit, action, id_)


async def _why_not(visit: PageRequest, action: str, id_: str) -> str:
    """Say why nothing was done with a message, by the state that it is in."""
    record: JourneyRecord = await visit.run("messages.show", id=id_)
    state = State(record.state)
    if state.is_final:
        return f"was {state} already"
    if state is State.SENDING:
        return "was being sent just now"
    return _WRONG_STATE.get((action, state), f"was {state}: nothing was done")


def told(outcomes: Sequence[str]) -> str:
    """Return what came of each message, with equal outcomes together: "3 retried; 1 was being sent just now"."""
    return "; ".join(f"{number} {outcome}" for outcome, number in Counter(outcomes).most_common())
