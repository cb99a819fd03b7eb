"""The types of single settings that need more than a plain type, each with the sentence for what it refuses."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from annotated_types import Ge

from relay.config.endpoint import TcpAddress, is_host_name, parse_endpoint
from relay.config.schema import After, Before, Duration, Strict, show

T = TypeVar("T")
_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class _Restart:
    """Marks a setting that is read at the start alone. All others change when the relay reads its file again."""


NEEDS_RESTART = _Restart()


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


def _name_server(text: str) -> str:
    try:
        endpoint = parse_endpoint(text)
        if isinstance(endpoint, TcpAddress) and endpoint.port and endpoint.host:
            return text
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a name server; write its address and port, such as 127.0.0.1:53")


def _web_address(text: str) -> str:
    if text and not isinstance(parse_endpoint(text), TcpAddress):
        raise ValueError(f"{text!r} is not an address for the pages; write host:port, such as 127.0.0.1:8025")
    return text


def _public_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{text!r} is not an address for pages; write https://HOST and nothing after it")
    return text.rstrip("/")


def _network(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f'{show(value)} is not a network; write it in quotes, such as "10.0.0.0/8"')
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not a network; write an address and its prefix, such as 10.0.0.0/8") from None
    raise ValueError(f"{value!r} is an address inside a network; write {network} for all of it")


def _host_name(text: str) -> str:
    if text and not is_host_name(text):
        raise ValueError(f"{text!r} is not a host name; write letters, digits, dots and hyphens")
    return text


def _node_name(text: str) -> str:
    if text and not _NODE_NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a node name; write letters, digits, dots, hyphens and underscores, 64 at most"
        )
    return text


def _absolute(path: Path) -> Path:
    if not path.expanduser().is_absolute():
        raise ValueError(f"{str(path)!r} is not an absolute path; begin it with /")
    return path.expanduser()


def _absolute_or_empty(text: str) -> str:
    return str(_absolute(Path(text))) if text else ""


def _workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f'{show(value)} is no number of processes; write 1 or more, or "auto"')


def _store(text: str) -> str:
    if not text.startswith(("sqlite:", "postgresql://")) or text in {"sqlite:", "postgresql://"}:
        raise ValueError("this names no store; write sqlite:PATH or postgresql://user@host/db")
    return text


def _key_source(text: str) -> str:
    kind, _, rest = text.partition(":")
    if kind not in {"file", "credential", "env"} or not rest:
        raise ValueError("this names no source for the key; write file:PATH, credential:NAME or env:NAME")
    return text


def _source_or_empty(text: str) -> str:
    kind, _, rest = text.partition(":")
    if text and (kind not in {"file", "credential", "env"} or not rest):
        raise ValueError("this names no source for the password; write credential:NAME, file:PATH or env:NAME")
    return text


def _some(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("the list is empty; write at least one duration")
    return values


Flag: TypeAlias = Annotated[bool, Strict()]
Number: TypeAlias = Annotated[int, Strict(), Ge(1)]
Network: TypeAlias = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, Before(_network)]
Durations: TypeAlias = Annotated[tuple[Duration, ...], After(_some)]
Workers: TypeAlias = Annotated[int | Literal["auto"], Before(_workers)]
EndpointText: TypeAlias = Annotated[str, After(_endpoint)]
NameServer: TypeAlias = Annotated[str, After(_name_server)]
WebAddress: TypeAlias = Annotated[str, After(_web_address)]
PublicUrl: TypeAlias = Annotated[str, After(_public_url)]
HostName: TypeAlias = Annotated[str, After(_host_name)]
NodeName: TypeAlias = Annotated[str, After(_node_name)]
Folder: TypeAlias = Annotated[Path, After(_absolute)]
FolderOrEmpty: TypeAlias = Annotated[str, After(_absolute_or_empty)]
FileOrEmpty: TypeAlias = FolderOrEmpty
StoreUrl: TypeAlias = Annotated[str, After(_store)]
SourceOrEmpty: TypeAlias = Annotated[str, After(_source_or_empty)]
KeySourceText: TypeAlias = Annotated[str, After(_key_source)]
