"""A program that uses the API: plain HTTP with a token."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said."""

    status: int
    headers: "Message[str, str]"
    content: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; None where there is none."""
        return json.loads(self.content) if self.content else None


class ApiClient:
    """Asks the API at `url` ("http://HOST:PORT") with a token; "" bears none."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/api/v1"
        self.token = token

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request. Header names are written with "_" for "-"."""
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            own["Content-Type"] = "application/json"
        request = urllib.request.Request(self._url + path, data=data, headers=own, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def address(self, path: str) -> str:
        """Where a request goes."""
        return self._url + path

    def get(self, path: str) -> Any:
        """Return what a GET gives. AssertionError where it is refused."""
        answer = self.ask("GET", path)
        assert answer.status == 200, (answer.status, answer.content)
        return answer.json
