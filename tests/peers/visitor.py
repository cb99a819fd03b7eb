"""Somebody who asks the pages for things without a browser: plain HTTP, with a cookie and whatever a test adds."""

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from types import MappingProxyType
from urllib.parse import urlencode, urlsplit

from tests.peers.console import Console

_NOTHING: Mapping[str, str] = MappingProxyType({})
_SECONDS = 30
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Page:
    """What was answered."""

    status: int
    headers: "Message[str, str]"
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    @property
    def where(self) -> str:
        """Where a redirect leads; "" for none."""
        return self.headers.get("Location", "")

    def cookie(self, name: str = "relay") -> str:
        """The value of a cookie that is set; "" for none."""
        return self.set_cookie(name).partition(";")[0].partition("=")[2]

    def set_cookie(self, name: str = "relay") -> str:
        """The whole line that sets a cookie; "" for none."""
        lines = self.headers.get_all("Set-Cookie") or []
        return next((line for line in lines if line.startswith(f"{name}=")), "")


class Visitor:
    """Asks the pages at `url`. `cookie` is the session's, "" for none."""

    def __init__(self, url: str, cookie: str = "", *, cookie_name: str = "relay") -> None:
        self.url = url
        self.cookie = cookie
        self._cookie_name = cookie_name
        self._form_key = ""

    def send(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = _NOTHING) -> Page:
        """Send one request as it is given, with the cookie. No redirect is followed."""
        own = {"Cookie": f"{self._cookie_name}={self.cookie}"} if self.cookie else {}
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_SECONDS)
        try:
            connection.request(method, path, body, {**own, **headers})
            answer = connection.getresponse()
            # A stream of events has no end.
            is_stream = answer.headers.get_content_type() == "text/event-stream"
            return Page(answer.status, answer.headers, b"" if is_stream else answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Page:
        """Ask for a page. Names of headers are written with "_" for "-"."""
        return self.send("GET", path, None, _headers(headers))

    def post(self, path: str, fields: Mapping[str, str] = _NOTHING, **headers: str) -> Page:
        """Send a form, with its fields alone: no key unless it is among them."""
        return self.send("POST", path, urlencode(fields).encode(), {"Content-Type": FORM, **_headers(headers)})

    def submit(self, path: str, **fields: str) -> Page:
        """Send a form as a page of this session does: with its key."""
        return self.post(path, {"form_key": self.form_key, **fields}, Origin=self.url)

    @property
    def form_key(self) -> str:
        """The key that every form of this session bears."""
        if not self._form_key:
            # "/" is not for agents, but leads them to a page of theirs.
            page = self.get("/")
            page = self.get(page.where) if page.where else page
            found = re.search(r'name="form_key" value="([^"]+)"', page.text)
            assert found, f"no form on the first page: {page.status} {page.text[:300]}"
            self._form_key = found.group(1)
        return self._form_key

    def sign_in(self, name: str, password: str, **fields: str) -> Page:
        """Send the form of the sign-in page, and keep the cookie that it gives."""
        page = self.post("/sign-in", {"name": name, "password": password, **fields}, Origin=self.url)
        self.cookie = page.cookie(self._cookie_name) or self.cookie
        self._form_key = ""
        return page


def signed_in(console: Console, name: str, password: str) -> Visitor:
    """Return somebody who is signed in."""
    visitor = Visitor(console.url)
    page = visitor.sign_in(name, password)
    assert page.status == 303, page.text
    assert visitor.cookie
    return visitor


def _headers(words: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in words.items()}
