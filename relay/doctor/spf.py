"""SPF (RFC 7208): what the record of a domain says about one address, evaluated as receivers do.

The evaluation is pyspf's, which the makers of the SPF test suite wrote. It does no I/O here: what it asks of DNS and we
do not know yet is looked up, and then it begins anew, until it comes to a result. So nothing blocks, and many addresses
are judged with the same answers.
"""

import asyncio
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from relay.doctor.lookup import Dns, Record, RecordType, Unanswered

# A record within the limits asks for some 10 names, and 10 more for each of them that is an MX.
_MOST_QUESTIONS = 150
_PREFIXES = ("SPF Permanent Error: ", "SPF Temporary Error: ")
_IS_SPF = b"v=spf1"
_Key: TypeAlias = "tuple[str, RecordType]"


@dataclass(frozen=True, slots=True)
class SpfResult:
    """What SPF says: pass, fail, softfail, neutral, none, permerror or temperror, and pyspf's reason for an error."""

    result: str
    reason: str = ""


class _Missing(Exception):  # never leaves this file
    def __init__(self, name: str, kind: RecordType) -> None:
        super().__init__(name)
        self.key = (name, kind)


async def spf_records(dns: Dns, domain: str) -> tuple[str, ...]:
    """Return the SPF records of a domain: there may be one (RFC 7208 section 4.5). Raises Unanswered."""
    texts = await dns.txt(domain)
    return tuple(text.decode("ascii", "replace") for text in texts if _is_spf(text))


async def evaluate(dns: Dns, domain: str, addresses: Iterable[str]) -> Mapping[str, SpfResult]:
    """Return what the record of a domain says about each IP address."""
    known: dict[_Key, tuple[Record, ...] | Unanswered] = {}
    return {address: await _evaluate(dns, domain, address, known) for address in addresses}


async def _evaluate(
    dns: Dns, domain: str, address: str, known: dict[_Key, tuple[Record, ...] | Unanswered]
) -> SpfResult:
    for _ in range(_MOST_QUESTIONS):
        query = _query_class()(address, f"postmaster@{domain}", domain, known)
        try:
            # In a thread: a long record takes a moment, which holds up no message.
            result, _, text = await asyncio.to_thread(query.check)
        except _Missing as missing:
            try:
                known[missing.key] = await dns.records(*missing.key)
            except Unanswered as unanswered:
                known[missing.key] = unanswered
        else:
            return SpfResult(result, _reason(text))
    return SpfResult("permerror", "it asks for too many names")


def _is_spf(text: bytes) -> bool:
    return text.lower() == _IS_SPF or text[:7].lower() == _IS_SPF + b" "


def _reason(text: str) -> str:
    prefix = next((prefix for prefix in _PREFIXES if text.startswith(prefix)), None)
    return text.removeprefix(prefix) if prefix else ""


@cache
def _query_class() -> Any:
    """Return pyspf's query with our answers. Loaded at its first use only: see `lookup`."""
    with warnings.catch_warnings():
        # One of its docstrings has a backslash that Python warns about where the module is not compiled yet.
        warnings.simplefilter("ignore")
        import spf  # noqa: PLC0415

    class Query(spf.query):  # type: ignore[misc]  # pyspf has no types
        """An evaluation that asks nobody: what is not in `known` ends it."""

        def __init__(
            self, address: str, sender: str, domain: str, known: Mapping[_Key, tuple[Record, ...] | Unanswered]
        ) -> None:
            super().__init__(i=address, s=sender, h=domain)
            self._known = known

        def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:  # noqa: ARG002
            """Return the records in pyspf's forms, and count the look-ups that find nothing (section 4.6.4)."""
            key = (str(name).lower().rstrip("."), RecordType(qtype))
            if key not in self._known:
                raise _Missing(*key)
            found = self._known[key]
            if isinstance(found, Unanswered):
                raise spf.TempError(str(found))
            if not found and not ignore_void:
                self.void_lookups += 1
                if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                    raise spf.PermError(f"Void lookup limit of {spf.MAX_VOID_LOOKUPS} exceeded")
            return [(record,) if qtype == "TXT" else record for record in found]

    return Query
