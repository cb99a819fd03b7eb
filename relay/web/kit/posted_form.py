"""The form in the body of a request, read within bounds: so many fields, one file where a page asks for one, no more.

SECURITY: what is long is taken apart in a thread, for a body of percent signs takes many times as long as it came.
"""

from asyncio import to_thread
from urllib.parse import parse_qsl

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from relay.web.kit.guard import LARGEST_FORM, RequestTooLarge, largest_request

_QUICK = 4096  # octets that are taken apart at once


async def posted_form(request: Request, *, most_fields: int, takes_file: bool = False) -> FormData:
    """Return what was posted; nothing for a body that is no form. Raises HTTPException for more than there may be."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data" and takes_file:
        most = largest_request(request.url.path)
        return await request.form(max_fields=most_fields, max_files=1, max_part_size=most)
    if kind != "application/x-www-form-urlencoded":
        return FormData()
    body = await request.body()
    if len(body) > LARGEST_FORM:  # a table comes as multipart/form-data
        raise RequestTooLarge(LARGEST_FORM)
    if body.count(b"&") >= most_fields:
        raise HTTPException(400, f"a form has at most {most_fields} fields")
    return _fields(body) if len(body) <= _QUICK else await to_thread(_fields, body)


def _fields(body: bytes) -> FormData:
    found: list[tuple[str, str | UploadFile]] = [*parse_qsl(body.decode("latin-1"), keep_blank_values=True)]
    return FormData(found)
