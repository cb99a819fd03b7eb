"""A browser without a window: it keeps cookies, fills forms in and sends them, and is quick."""

import urllib.request
from collections.abc import Mapping
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin

_PATIENCE = 60.0
_CHOSEN = {"checkbox", "radio"}
_BUTTONS = {"submit", "button", "file"}


class FormFiller:
    """Somebody at the pages of `url` ("http://HOST:PORT")."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        """Return a page. Raises OSError where it is refused."""
        with self._opener.open(urljoin(self._url, path), timeout=_PATIENCE) as answer:
            return str(answer.read().decode())

    def post(self, path: str, values: Mapping[str, str]) -> str:
        """Send a form, and return the page where that leads. Raises OSError where it is refused."""
        request = urllib.request.Request(urljoin(self._url, path), urlencode(values).encode(), {"Origin": self._url})
        with self._opener.open(request, timeout=_PATIENCE) as answer:
            return str(answer.read().decode())

    def sign_in(self, name: str, password: str) -> None:
        """Sign in as a person does."""
        self.post("/sign-in", {"name": name, "password": password})

    def save(self, path: str, **changed: str) -> str:
        """Send an entry's form as it stands on its page, but for what is changed, and return the page that follows."""
        return self.post(path, {**form_values(self.get(path), path), **changed})


def form_values(page: str, action: str) -> dict[str, str]:
    """Return what the form that is sent to `action` says, as it is shown."""
    reader = _FormReader(action)
    reader.feed(page)
    return reader.values


class _FormReader(HTMLParser):
    """Reads the fields of the form with one action."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self._action = action
        self._is_inside = False
        self._select = ""
        self._area = ""
        self.values: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a field."""
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._is_inside = given.get("action", "") == self._action
        if not self._is_inside or "disabled" in given:
            return
        name = given.get("name", "")
        if tag == "input" and name and given.get("type") not in _BUTTONS:
            if given.get("type") not in _CHOSEN or "checked" in given:
                self.values[name] = given.get("value", "on" if given.get("type") in _CHOSEN else "")
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in given or self._select not in self.values):
            self.values[self._select] = given.get("value", "")
        elif tag == "textarea" and name:
            self._area = name
            self.values[name] = ""

    def handle_data(self, data: str) -> None:
        """Take what stands in a larger field."""
        if self._area:
            self.values[self._area] += data

    def handle_endtag(self, tag: str) -> None:
        """End a field, or the form."""
        if tag == "form":
            self._is_inside = False
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._area = ""
