"""What a stranger, and who is known, may send to the pages to keep their relay busy."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

from tests.hostile.house import directory
from tests.peers.console import ADMINISTRATOR, Console
from tests.peers.relay import Relay, relay_process
from tests.peers.system import LOOPBACK, free_port, wait_until
from tests.peers.visitor import FORM, Visitor

KIB = 1024
MIB = KIB * KIB
_START_SECONDS = 60.0
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """A relay; who is known there has a token, or a session with the key of its forms."""

    port: int
    token: str
    viewer: str
    session: str
    form_key: str

    def ask(self, request: bytes, patience: float = 2.0) -> int:
        """Send all of a request, and return the status of the first answer; 0 where there is none."""
        said = b""
        with socket.create_connection((LOOPBACK, self.port), timeout=patience) as client, suppress(OSError):
            client.sendall(request)
            while piece := client.recv(65536):
                said = (said + piece)[:64]
        return int(said[9:12] or 0)


@contextmanager
def target_relay() -> Iterator[tuple[Relay, int]]:
    """A relay that does not run yet, and the port of its pages."""
    port = free_port()
    web = {"address": f"{LOOPBACK}:{port}", "proxy_networks": ["192.0.2.0/24", "127.0.0.0/8"]}
    with relay_process(directory(free_port()), {"web": web}, starts=False) as relay:
        yield relay, port


def target_of(relay: Relay, port: int) -> Target:
    """Return a relay that runs, with who is known there."""
    wait_until(relay.greets, "the relay's greeting", _START_SECONDS)
    console = Console(relay, port)
    wait_until(console.answers, "the pages", _START_SECONDS)
    visitor = Visitor(console.url)
    visitor.sign_in(ADMINISTRATOR, console.add_person(ADMINISTRATOR))
    tokens = console.add_token("program"), console.add_token("viewer", "viewer")
    found = Target(port, *tokens, visitor.cookie, visitor.form_key)
    for path in ("/sign-in", "/agents/-/import", "/api/v1/openapi.json"):  # what is made once
        found.ask(head(found, "GET", path, cookie=f"relay={visitor.cookie}"))
    return found


def head(target: Target, method: str, path: str, **fields: str) -> bytes:
    """The head of a request; names of fields are written with "_" for "-"."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {LOOPBACK}:{target.port}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def begun(target: Target) -> bytes:
    """A head whose end is missing."""
    return head(target, "GET", "/sign-in").removesuffix(b"\r\n")


def sent(target: Target, path: str, body: bytes, kind: str = FORM, **fields: str) -> bytes:
    """A request with a body."""
    length = str(len(body))
    return head(target, "POST", path, Content_Type=kind, Content_Length=length, **fields) + body


def chunked(target: Target, path: str, chunks: bytes) -> bytes:
    """A request whose body comes in chunks."""
    return head(target, "POST", path, Content_Type=FORM, Transfer_Encoding="chunked") + chunks


def known(target: Target, path: str, body: bytes, kind: str = FORM) -> bytes:
    """A form of the administrator's."""
    return sent(target, path, body, kind, Cookie=f"relay={target.session}")


def told(target: Target, path: str, value: object, token: str = "") -> bytes:
    """A request to the API."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return sent(target, path, body, "application/json", Authorization=f"Bearer {token or target.token}")


Hostile: TypeAlias = Callable[[Target], bytes]
_BLANKS = b" " * 15_000

HEADS: Mapping[str, Hostile] = {
    "a cookie of 60 KiB, quoted": lambda it: head(it, "GET", "/sign-in", Cookie='x="' + "\\a" * (30 * KIB) + '"'),
    "a cookie of 4 KiB, quoted": lambda it: head(it, "GET", "/sign-in", Cookie='x="' + "\\" * (4 * KIB - 9) + '"'),
    "a cookie of many": lambda it: head(it, "GET", "/sign-in", Cookie="a=b;" * KIB),
    "many cookie fields": lambda it: (
        begun(it) + b'Cookie: x="' + b"\\" * 200 + b'"\r\n' + b'Cookie: x="\\\\"\r\n' * 90 + b"\r\n"
    ),
    "blanks behind a name": lambda it: begun(it) + b"a:" + _BLANKS + b"\x00\r\n\r\n",
    "60 KiB of blanks": lambda it: begun(it) + b"a:" + b" " * (60 * KIB) + b"\x00\r\n\r\n",
    "tabs behind a name": lambda it: begun(it) + b"a:" + b"\t" * 15_000 + b"\x00\r\n\r\n",
    "60,000 fields": lambda it: begun(it) + b"a:\r\n" * 60_000 + b"\r\n",
    "folds": lambda it: begun(it) + b"a:\r\n" + b" \r\n" * 60_000 + b"\r\n",
    "a name that does not end": lambda it: begun(it) + b"a" * (60 * KIB),
    "a line that does not end": lambda it: b"GET /" + b"a" * (120 * KIB),
    "an address of percents": lambda it: head(it, "GET", "/sign-in?" + "%41" * (20 * KIB)),
    "a path of percents": lambda it: head(it, "GET", "/" + "%ff" * 2_500),
    "a path of slashes": lambda it: head(it, "GET", "/" * 8_000),
    "a query of many": lambda it: head(it, "GET", "/sign-in?" + "a&" * 4_000),
    "a static path of dots": lambda it: head(it, "GET", "/static/" + "../" * 2_500),
    "Accept-Language": lambda it: head(it, "GET", "/sign-in", Accept_Language="a;q=0.1," * 1_900),
    "Accept": lambda it: head(it, "GET", "/api/v1/openapi.json", Accept="a/b," * 3_000, Accept_Encoding="gzip," * 700),
    "If-None-Match": lambda it: head(it, "GET", "/static/relay.css", If_None_Match='W/"a",' * 2_500),
    "If-Modified-Since": lambda it: head(it, "GET", "/static/relay.css", If_Modified_Since="(" * 15_000),
    "Range": lambda it: head(it, "GET", "/static/relay.css", Range="bytes=" + ",".join(["0-0,2-2"] * 1_900)),
    "X-Forwarded-For": lambda it: head(it, "GET", "/sign-in", X_Forwarded_For="127.0.0.1," * 1_500),
    "Host": lambda it: f"GET / HTTP/1.1\r\nConnection: close\r\nHost: {'a.' * 7_500}\r\n\r\n".encode(),
    "Host of brackets": lambda it: (
        f"GET /metrics HTTP/1.1\r\nConnection: close\r\nHost: {'[' * 15_000}\r\n\r\n".encode()
    ),
    "a bearer": lambda it: head(it, "GET", "/api/v1/agents", Authorization="Bearer " + "a " * 7_500),
    "a bearer of blanks": lambda it: head(it, "GET", "/api/v1/agents", Authorization="Bearer" + " " * 15_000 + "a"),
    "an If-Match": lambda it: head(it, "PATCH", "/api/v1/agents/x", If_Match='"' * 15_000),
    "a thousand requests at once": lambda it: b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 999 + begun(it) + b"\r\n",
    "an invitation": lambda it: head(it, "GET", "/welcome/" + "a" * 8_000),
    "Connection": lambda it: head(it, "GET", "/sign-in", Upgrade="a," * 3_000, TE="a," * 3_000),
}
BODIES: Mapping[str, Hostile] = {
    "chunks of one octet": lambda it: chunked(it, "/sign-in", b"1\r\na\r\n" * 60_000 + b"0\r\n\r\n"),
    "blanks behind the chunks": lambda it: chunked(it, "/sign-in", b"1\r\na\r\n0\r\na:" + _BLANKS + b"\x00\r\n\r\n"),
    "fields behind the chunks": lambda it: chunked(it, "/sign-in", b"0\r\n" + b"a:\r\n" * 60_000 + b"\r\n"),
    "a chunk's extension": lambda it: chunked(it, "/sign-in", b"1;" + b"a" * (120 * KIB) + b"\r\na\r\n0\r\n\r\n"),
    "a head behind a body": lambda it: (
        sent(it, "/sign-in", b"a=b") + b"GET / HTTP/1.1\r\na:" + _BLANKS + b"\x00\r\n\r\n"
    ),
    "a form of 500,000 fields": lambda it: sent(it, "/sign-in", b"a&" * (MIB // 2)),
    "a form of 8,000 fields": lambda it: sent(it, "/sign-in", b"a&" * (8 * KIB - 1)),
    "a form of percents": lambda it: sent(it, "/sign-in", b"name=" + b"%41" * (MIB // 3 - 9)),
    "a small form of percents": lambda it: sent(it, "/sign-in", b"name=" + b"%41" * 5_000),
    "a form of parts": lambda it: sent(
        it,
        "/sign-in",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 15_000 + b"--x--\r\n",
        "multipart/form-data; boundary=x",
    ),
    "a part's head": lambda it: sent(it, "/sign-in", b"--x\r\na:" + b" " * MIB, "multipart/form-data; boundary=x"),
    "a boundary": lambda it: sent(it, "/sign-in", b"--\r\n" * 1_000, "multipart/form-data; boundary=" + "-\\" * 7_000),
    "a content type": lambda it: sent(it, "/sign-in", b"a=b", "a/b;" + 'c="\\' * 4_000),
    "an invitation's form": lambda it: sent(it, "/welcome/x", b"a&" * (MIB // 2)),
    "JSON of a stranger": lambda it: sent(it, "/api/v1/agents", b"[" * MIB, "application/json"),
}

_CSV = "/api/v1/agents.csv"
_WIDE = "name," * 1_500_000
_ROWS = "name,address,group\r\n" + "".join(f"a{n},a{n}@acmejets.example,g{n % 9}\r\n" for n in range(10_000))
_KEYS = {f"k{number}": number for number in range(90_000)}
_SURROGATES = b'{"text": "' + b"\xed\xa0\x80" * (5 * MIB) + b'"}'
_LONG = b'{"text": "name' + b"\\n" * 199_000 + "é".encode() * (7 * MIB) + b'"}'
# What its sender may change, and each with the status that says how far it came.
KNOWN: Mapping[str, tuple[int, Hostile]] = {
    "a table of 1.5 million columns": (200, lambda it: told(it, _CSV, {"text": _WIDE})),
    "such a table as a file": (422, lambda it: table(it, _WIDE)),
    "such a table, pasted": (422, lambda it: table(it, _WIDE, is_file=False)),
    "such a table as a form": (413, lambda it: known(it, "/agents/-/import", f"text={_WIDE}".encode())),
    "a table of 16 MiB": (200, lambda it: told(it, _CSV, _LONG)),
    "a table of 10,000 rows": (200, lambda it: told(it, _CSV, {"text": _ROWS})),
    "a table of lines": (413, lambda it: told(it, _CSV, {"text": "\n" * (7 * MIB)})),
    "halves of surrogates": (400, lambda it: told(it, _CSV, _SURROGATES)),
    "a form of percents": (413, lambda it: known(it, "/agents/-/import", b"text=" + b"%41" * (5 * MIB))),
    "60,000 unknown keys": (413, lambda it: told(it, "/api/v1/agents", dict(list(_KEYS.items())[:60_000]))),
    "90,000 unknown keys beside a table": (413, lambda it: told(it, _CSV, {"text": "name\n", **_KEYS})),
    "a list beside a table": (413, lambda it: told(it, _CSV, {"text": "name\n", "x": [1] * (4 * MIB)})),
    "strings": (413, lambda it: told(it, _CSV, b'{"text":' + b'"\\\\"' * (3 * MIB))),
    "200 unknown keys": (422, lambda it: told(it, "/api/v1/agents", {f"k{number}": 1 for number in range(200)})),
    "a table of a viewer": (403, lambda it: told(it, _CSV, {"text": _WIDE}, it.viewer)),
    "keys of a viewer": (403, lambda it: told(it, _CSV, _KEYS, it.viewer)),
    "a table of a stranger": (401, lambda it: told(it, _CSV, {"text": _WIDE}, "nobody")),
    "keys of a stranger": (401, lambda it: told(it, _CSV, _KEYS, "nobody")),
}


def table(target: Target, text: str, *, is_file: bool = True) -> bytes:
    """The administrator's form of an import."""
    part = 'name="file"; filename="x.csv"' if is_file else 'name="text"'
    parts = {'name="form_key"': target.form_key, part: text}
    body = "".join(f"--x\r\nContent-Disposition: form-data; {name}\r\n\r\n{it}\r\n" for name, it in parts.items())
    return known(target, "/agents/-/import", f"{body}--x--\r\n".encode(), "multipart/form-data; boundary=x")
