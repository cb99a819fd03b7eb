"""What all pages share: the operations, who may come in, and the templates."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request

from relay import __version__
from relay.control.actor import Actor
from relay.control.operations import Operations
from relay.control.people.admission import Admission
from relay.web.kit.change_watcher import ChangeWatcher
from relay.web.kit.words import told

_HERE = Path(__file__).parents[1]
STATIC = _HERE / "static"
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Site:
    """One set of pages. `url` returns how people reach it, by the settings in effect."""

    operations: Operations
    admission: Admission
    url: Callable[[], str]
    templates: Environment
    change_watcher: ChangeWatcher

    @property
    def public_url(self) -> str:
        """How people reach it, without a slash at the end."""
        return self.url().rstrip("/")

    @property
    def is_secure(self) -> bool:
        """Whether people reach the pages by HTTPS."""
        return self.public_url.startswith("https:")

    @property
    def cookie_name(self) -> str:
        """The name of the session's cookie; a browser takes __Host- only by HTTPS, for this host alone."""
        return "__Host-relay" if self.is_secure else "relay"


def make_templates(hostname: str) -> Environment:
    """Return the environment of the templates: everything escaped, nothing undefined.

    All are read now: compiled when a page is first asked for, one would hold the loop up for 40 ms.
    """
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    templates.globals |= {
        "hostname": hostname,
        "version": __version__,
        "static": {path.name: static_url(path) for path in sorted(STATIC.iterdir())},
    }
    templates.filters |= {"size": size, "ago": ago, "age": age, "utc": utc, "segment": segment, "told": told}
    for name in templates.list_templates():
        templates.get_template(name)
    return templates


def static_url(path: Path) -> str:
    """Return the address of a static file, which changes with its content: a browser may keep it for ever."""
    return f"/static/{path.name}?{sha256(path.read_bytes()).hexdigest()[:12]}"


def segment(text: str) -> str:
    """Return a name as one segment of a path."""
    return quote(text, safe="")


def size(octets: int) -> str:
    """Return a number of octets as people read it: "812 B", "12.4 KiB"."""
    number, unit = float(octets), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if number < _KIB:
            break
        number, unit = number / _KIB, larger
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def utc(moment: str) -> str:
    """Return a time of RFC 3339 in UTC as people compare it with a log: "2026-11-24 10:05:00 UTC"."""
    return moment.replace("T", " ").replace("Z", " UTC")


def age(moment: str) -> str:
    """Return how long a time of RFC 3339 is away, in one unit: "12 s"."""
    return _span(abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))


def ago(moment: str | None, now: datetime | None = None) -> str:
    """Return how long ago a time of RFC 3339 was, in one unit: "12 s ago", "in 3 min"; "" for none."""
    if not moment:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    words = _span(abs(seconds))
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def _span(seconds: float) -> str:
    steps: list[tuple[float, str]] = [(60, "s"), (60, "min"), (24, "h")]
    value: Any = seconds
    for length, unit in steps:
        if round(value) < length:
            return f"{value:.0f} {unit}"
        value /= length
    return f"{value:.0f} d"


async def bearer_of(request: Request, site: Site) -> Actor | None:
    """Return whose token a request bears; None for nobody's. Raises Refused."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    peer = request.client.host if request.client else ""
    return await site.admission.bearer(token.strip(), peer) if scheme.lower() == "bearer" else None
