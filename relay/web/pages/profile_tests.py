"""Testing what stands in the form of a channel or agent. Nothing is saved."""

from typing import Any

from starlette.responses import Response

from relay.web.kit.entry_editing import NAME, Noun, groups_of, unfilled
from relay.web.kit.forms import changed_values, fields_of, read_values
from relay.web.kit.page_request import PageRequest
from relay.web.kit.test_page import Back, refused, refused_fields, stream_test, told_test

# The keys that say how it sends; the others are saved, and change nothing of that.
_KEYS = ("address", "server", "override", "username")


async def test(noun: Noun, visit: PageRequest) -> Response:
    """Test what was posted; where that is what is saved, it counts as the test of the entry."""
    name = visit.path.get("name")
    record = await visit.run(f"{noun.word}.show", name=name) if name else None
    title = f"Test of {name or visit.text('name') or f'the new {noun.word}'}"
    back = Back(noun.where(name), name) if name else Back(f"{noun.path}/-/add", "the form")
    form = [one for one in fields_of(await groups_of(noun, visit, record)) if one is not NAME]
    values, faults = read_values(form, visit.form, noun.model)
    faults |= noun.check(visit, form)
    if faults:
        return told_test(visit, title, refused_fields(form, faults), back)
    password, is_round = visit.secret("password"), visit.text("round_trip") == "true"
    asked: dict[str, Any] = {"name": name, "to": visit.text("to") or None, "send": visit.text("send") == "true"}
    if record is not None and password is None and not changed_values(values, form, unfilled(record), noun.model):
        asked |= {"round_trip": True} if is_round else {}
        return stream_test(visit, title, f"{noun.word}.test", asked, back)
    if is_round:
        return told_test(visit, title, refused(f"a round trip is made by a saved {noun.word}: save it first"), back)
    meant = {key: values[key] for key in _KEYS if values.get(key) is not None}
    return stream_test(visit, title, f"{noun.word}.try", {**asked, "values": meant, "password": password}, back)
