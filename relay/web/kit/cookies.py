"""The cookies of a request.

SECURITY: Python's own `http.cookies` is not used to read them: before 3.11.10 and 3.12.6 it takes time with the square
of a quoted value's length, for which nobody has to sign in. Ours have no character that is written in another way.
"""

from starlette.requests import Request


def cookie_of(request: Request, name: str) -> str | None:
    """Return the value of a cookie, without the quotation marks around it; None where there is none.

    Of several with one name the last counts.
    """
    found = None
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            key, equals, value = pair.partition("=")
            if equals and key.strip() == name:
                found = value.strip()
    if found is not None and len(found) > 1 and found[0] == found[-1] == '"':
        return found[1:-1]
    return found
