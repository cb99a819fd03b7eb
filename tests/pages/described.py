"""The API's description as a program reads it: each request, its bodies, their examples, and what its schemas allow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jsonschema_rs import Draft202012, Draft202012Validator, Registry

from tests.peers.api import ApiClient

_HERE = "urn:relay:api"


class Content(NamedTuple):
    """A body in one media type: whose it is ("request", or a status), and what is said of it."""

    whose: str
    media_type: str
    said: Mapping[str, Any]

    @property
    def is_json(self) -> bool:
        """Whether it is JSON, problems included."""
        return self.media_type.endswith("json")


@dataclass(frozen=True, slots=True)
class Operation:
    """One request."""

    method: str
    path: str
    said: Mapping[str, Any]
    parts: Mapping[str, Any]

    @property
    def line(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    @property
    def role(self) -> str:
        """The lowest role that may do it."""
        (roles,) = self.said["security"][0].values()
        return str(roles[0])

    @property
    def example(self) -> Any:
        """The example of what is sent; None where nothing is."""
        return next((one.said["example"] for one in self.contents() if one.whose == "request"), None)

    @property
    def query(self) -> str:
        """What must be asked for: examples of the parameters that may not be left out."""
        needed = [one for one in self.said.get("parameters", ()) if one["in"] == "query" and one["required"]]
        return "?" + "&".join(f"{one['name']}={one['schema']['examples'][0]}" for one in needed) if needed else ""

    def contents(self) -> Iterator[Content]:
        """Yield every body of the request and of its answers."""
        for media_type, said in self.said.get("requestBody", {}).get("content", {}).items():
            yield Content("request", media_type, said)
        for status, answer in self.said["responses"].items():
            name = answer.get("$ref", "").rpartition("/")[2]
            for media_type, said in (self.parts["responses"][name] if name else answer).get("content", {}).items():
                yield Content(status, media_type, said)


class Described:
    """A whole description."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.parts: Mapping[str, Any] = document["components"]
        self._registry = Registry([(_HERE, {"components": _closed(self.parts)})], draft=Draft202012)

    @property
    def operations(self) -> list[Operation]:
        """Every request."""
        return [
            Operation(method.upper(), path, said, self.parts)
            for path, methods in self.document["paths"].items()
            for method, said in methods.items()
        ]

    def faults(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        """Return what of a value a schema does not allow; a key that it does not name is a fault, too."""
        validator = Draft202012Validator(_closed(schema), registry=self._registry)
        return [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(value)]


def read_description(client: ApiClient) -> Described:
    """Ask an API for its description."""
    return Described(client.get("/openapi.json"))


def _closed(said: Any) -> Any:
    """Return schemas that allow no other keys than those that they name. What they refer to is found in `_HERE`."""
    if isinstance(said, list):
        return [_closed(one) for one in said]
    if not isinstance(said, Mapping):
        return said
    found = {key: _HERE + inner if key == "$ref" else _closed(inner) for key, inner in said.items()}
    if "properties" in said and found.get("additionalProperties", True) is True:
        found["additionalProperties"] = False
    return found
