"""Presets: what a server of a known provider is set to, and for each value the page that says so (presets.toml).

A preset only writes keys of [servers.NAME]: afterwards the file says what is in effect, and nothing else remembers
that there was a preset. What the person gives wins over it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, ClassVar

from relay.config.schema import Schema, no_such, parse_toml
from relay.directory.http_apis import not_possible
from relay.directory.model import Auth, Kind, Server
from relay.directory.reading import SERVERS
from relay.directory.values import EditRefused, Values

_FILE = "presets.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One provider. `values` are keys of a server as directory.toml has them, `sources` the page for each of them.

    `note` says what a person must know, `host_form` how the hosts are named where each region has its own. An `oauth`
    in the values lacks the client_id, the person's own, which may come later; it counts for auth = "oauth2" alone.
    """

    __pydantic_config__: ClassVar = MappingProxyType({"extra": "forbid"})

    name: str
    title: str
    note: str
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    host_form: str = ""

    def __post_init__(self) -> None:
        if self.values.keys() != self.sources.keys():
            raise ValueError("each value needs its source, and each source its value")
        has_one = bool(Kind(self.values.get("kind", Kind.SMTP)).api_url)
        if has_one + ("host" in self.values) + bool(self.host_form) != 1:
            raise ValueError("there is either a host or the form of one, or an API")

    @property
    def host(self) -> str:
        """The host, or the form of it."""
        return str(self.values.get("host", self.host_form)) or self.server().effective_host

    def server(self) -> Server:
        """Return a server of this provider, with stand-ins for what is the person's own. Raises TableFaults."""
        values = {**({"host": "localhost"} if self.host_form else {}), **self.values}
        return SERVERS.read(values, self.name, name=self.name)

    def fill(self, given: Values) -> dict[str, Any]:
        """Return the values of a server: those that are given, and ours for the rest. A client id means OAuth.

        Raises EditRefused where something is missing that only the person can know.
        """
        own = given.get("oauth") or {}
        values = {**self.values, **({"auth": Auth.OAUTH2.value} if own else {}), **given}
        values.pop("oauth", None)
        oauth = {**self.values.get("oauth", {}), **own}
        if self.host_form and "host" not in values:
            raise EditRefused(f"{self.name} has a host for each region; give --host {self.host_form}")
        if values["auth"] != Auth.OAUTH2:
            if own:
                raise EditRefused("a client id is for auth oauth2 alone; leave it out, or the other auth")
            return values
        return {**values, "oauth": oauth} if oauth else values


def presets() -> dict[str, Preset]:
    """Return all presets by name, in the order of the names."""
    schema = Schema(Preset)
    content = (files("relay.directory") / _FILE).read_bytes()
    tables = sorted(parse_toml(content, _FILE).items())
    return {name: schema.read(table, name, name=name) for name, table in tables}


def preset(name: str) -> Preset:
    """Return the preset of one provider. Raises EditRefused with a suggestion."""
    known = presets()
    if name not in known and (why := not_possible(name.removesuffix("-api"))):
        raise EditRefused(why)
    if name not in known:
        meant = next((each.name for each in known.values() if _is_called(each, name)), None)
        sentence = no_such("provider", name, [meant] if meant else known)
        sentence += "" if not meant or "did you mean" in sentence else f"; did you mean '{meant}'?"
        raise EditRefused(sentence + "; see relay provider list")
    return known[name]


def _is_called(found: Preset, name: str) -> bool:
    """Whether a provider is known by this name too: "gmail", "office365"."""
    words = re.findall(r"\w+", f"{found.title} {found.host}".lower())
    return len(name) > 2 and name.lower() in words
