"""What the API says when it does not do what was asked: problem details (RFC 9457), with each key at fault."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from relay import log
from relay.control.entries.machine_keys import MACHINE_SENTENCE
from relay.control.refused import Conflict, Forbidden, LoginRefused, NotFound, Refused, Unavailable, UnknownOperation
from relay.directory.tables import MACHINE_KEYS

MOST_FAULTS = 100
"""How many are told one by one."""
MEDIA_TYPE = "application/problem+json"
# What a request can meet whatever it asks for.
_EVERYWHERE = frozenset({400, 401, 403, 408, 413, 414, 421, 422, 431, 503})
_NOT_NOW = "this cannot be answered just now; relay's log says why"
_SENTENCES = {
    400: "the body is not JSON in UTF-8",
    404: "there is nothing at this address; see openapi.json",
    405: "this address takes no such request; see Allow",
}


class RefusalDescription(NamedTuple):
    """What the description says of the refusals with one status: when they come, and an example."""

    when: str
    detail: str
    errors: tuple[Mapping[str, str], ...] = ()


REFUSALS: Mapping[int, RefusalDescription] = MappingProxyType(
    {
        400: RefusalDescription("The body is not JSON in UTF-8.", _SENTENCES[400]),
        401: RefusalDescription(
            "There is no token, or one that opens nothing. Nothing else of the request was looked at, not even whether "
            "there is such an address.",
            "this needs a token: Authorization: Bearer TOKEN (relay token add NAME)",
        ),
        403: RefusalDescription(
            "The token's role may not do this; or a browser says that the request comes from a page of another site.",
            "a viewer may look at everything and change nothing; ask an administrator",
        ),
        404: RefusalDescription("There is nothing of that name or id.", "there is no agent 'nobody'"),
        408: RefusalDescription("The body did not come within two minutes.", "the request took too long to come"),
        409: RefusalDescription(
            "As things are it cannot be done; the sentence says why, and what to do first.",
            "'acmejets' is the default server; it is the only one",
        ),
        412: RefusalDescription(
            "It was changed since the version in `If-Match` (or in `expected`). Look at it again, and decide anew.",
            "agent 'jane' was changed meanwhile by somebody else; look at it and try again",
        ),
        413: RefusalDescription("The body is too large.", "a request to this address has at most 1 MiB"),
        414: RefusalDescription("The address, with its query, is too long.", "an address here has at most 8 KiB"),
        421: RefusalDescription(
            "The Host of the request is neither that of `public_url` nor the address that is listened on.",
            "this server is not known by that name; open it by the [web] public_url of relay.toml",
        ),
        422: RefusalDescription(
            "Values are missing, unknown or wrong; `errors` has each of them.",
            "server: there is no server 'nowhere'",
            ({"key": "server", "message": "there is no server 'nowhere'"},),
        ),
        431: RefusalDescription(
            "There is too much before the body. A head that is far too large is answered in plain text.",
            "a request has at most 100 header fields, of 16 KiB in all",
        ),
        503: RefusalDescription("The store cannot be used just now. The same request may work later.", _NOT_NOW),
    }
)


class KeyFault(BaseModel):
    """What is wrong with one value."""

    key: str = Field(
        description='Which value: "address", or "channels.support.server" where another entry is at fault.'
    )
    message: str = Field(description="One sentence: what is wrong, and what to do.")


class Problem(BaseModel):
    """A refusal."""

    type: str = "about:blank"
    title: str = Field(description="The words of the status code.")
    status: int
    detail: str = Field(description="What is wrong and what to do; one fault a line.")
    errors: list[KeyFault] = Field(description="The values at fault, as far as it is about values.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the refusals that a request can meet: these, and those of every request. `REFUSALS` says what they are."""
    return {status: {"description": REFUSALS[status].when} for status in sorted({*_EVERYWHERE, *statuses})}


def described_problems() -> dict[str, Any]:
    """Return the refusals as the description has them, by `name_of_problem`."""
    schema = {"$ref": "#/components/schemas/Problem"}
    described: dict[str, Any] = {
        name_of_problem(status): {
            "description": kind.when,
            "content": {MEDIA_TYPE: {"schema": schema, "example": _body(status, kind.detail, kind.errors)}},
        }
        for status, kind in REFUSALS.items()
    }
    # Who reads the head knows no address yet, and so not if a page or a program asks.
    described[name_of_problem(431)]["content"]["text/plain"] = {
        "schema": {"type": "string"},
        "example": REFUSALS[431].detail + "\n",
    }
    return described


def name_of_problem(status: int) -> str:
    """Return what the refusals with a status are called in the description."""
    return f"Problem{status}"


def add_handlers(api: FastAPI) -> None:
    """Let an API tell every refusal as a problem."""

    @api.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:  # noqa: ARG001
        return refusal(error)

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:  # noqa: ARG001
        found = error.errors()
        if found[0]["type"] == "json_invalid":
            place, what = found[0]["loc"][1], found[0]["ctx"]["error"]
            return problem(400, f"the body is not JSON: {what} (at character {place})")
        shown = found[:MOST_FAULTS]
        errors = [{"key": ".".join(str(part) for part in one["loc"][1:]), "message": _said(one)} for one in shown]
        errors += _and_more(len(found) - len(shown))
        detail = "\n".join(f"{one['key']}: {one['message']}" if one["key"] else one["message"] for one in errors)
        return problem(422, detail, errors)

    @api.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _allowed(request)
        return problem(error.status_code, _SENTENCES.get(error.status_code, str(error.detail)), (), headers)

    @api.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log.broken("the API failed; please report it", path=request.url.path, error=type(error).__name__)
        return problem(500, "something is wrong on our side; relay's log says what")


def _said(fault: Mapping[str, Any]) -> str:
    """Return a fault that the framework found in our words, where its own are for those who wrote the program."""
    is_body = fault["loc"] == ("body",)
    match fault["type"]:
        case "missing":
            return "the body has to be a JSON object" if is_body else "this is needed"
        case "model_attributes_type" | "model_type" | "dict_type" if is_body:
            return "the body has to be a JSON object, sent with Content-Type: application/json"
        case "extra_forbidden":
            return MACHINE_SENTENCE if fault["loc"][-1] in MACHINE_KEYS else "there is no such key"
        case _:
            return str(fault["msg"])


@contextmanager
def keys_of(place: str) -> Iterator[None]:
    """Let refusals meanwhile name the keys of the entry at a place ("channels.support.") as the request does.

    Where another entry is at fault, its keys stay whole.
    """
    try:
        yield
    except Refused as error:
        error.faults = tuple(replace(fault, key=fault.key.removeprefix(place)) for fault in error.faults)
        error.key = error.key.removeprefix(place)
        error.args = (str(error).removeprefix(place),)
        raise


def refusal(error: Refused) -> Response:
    """Return what an operation said no with."""
    if isinstance(error, Unavailable):
        log.broken(f"the API could not answer: {error}")
        return problem(503, _NOT_NOW)
    if isinstance(error, LoginRefused):
        message = f'{error.words}; it was not saved. Send "unchecked": true to keep it all the same'
        return problem(422, message, [{"key": "password", "message": message}])
    faults = error.faults[:MOST_FAULTS]
    more = _and_more(len(error.faults) - len(faults))
    errors = [*({"key": fault.key, "message": fault.message} for fault in faults), *more]
    if not errors and error.key:
        errors = [{"key": error.key, "message": str(error).removeprefix(f"{error.key}: ")}]
    # Not the words for a terminal, which begin with the path of the file.
    detail = "\n".join(": ".join(filter(None, (one["key"], one["message"]))) for one in errors) if faults else ""
    return problem(_status_of(error), detail or str(error), errors)


def _and_more(count: int) -> list[dict[str, str]]:
    return [{"key": "", "message": f"and {count:,} more"}] if count > 0 else []


def problem(
    status: int,
    detail: str,
    errors: Iterable[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem."""
    return JSONResponse(_body(status, detail, errors), status, headers, media_type=MEDIA_TYPE)


def _body(status: int, detail: str, errors: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": list(errors),
    }


def _allowed(request: Request) -> str:
    """Return all methods of an address: several routes share one, and the router names those of the first alone."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    fitting = [
        route for route in request.app.routes if isinstance(route, APIRoute) and route.path_regex.fullmatch(path)
    ]
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))


def _status_of(error: Refused) -> int:
    """Return the status that says best what to do about a refusal."""
    kinds: tuple[tuple[type[Refused], int], ...] = (
        (NotFound, 404),
        (Forbidden, 403),
        (Conflict, 412),
        (UnknownOperation, 422),
    )
    for kind, status in kinds:
        if isinstance(error, kind):
            return status
    return 422 if error.faults or error.key else 409
