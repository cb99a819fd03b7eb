"""What can be wrong with a store in PostgreSQL, as sentences for people (`relay.store.db.errors` has the kinds).

Codes: https://www.postgresql.org/docs/15/errcodes-appendix.html. The database's own words stand in brackets at the
end, on one line; statements and their values are in no message.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError

from relay.store.db.errors import StoreAway, StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly

_Kind = tuple[type[StoreError], str]
_AWAY = (StoreAway, "cannot be reached; check that PostgreSQL runs there and lets this machine in")
_LATE = (StoreBusy, "did not answer in time; look at what else it does, and try again")
_LOCKED = (StoreBusy, "is busy with what others write; try again")
_FORBIDDEN = (StoreError, "refuses what relay does; let its user own the tables, or grant it all on them")
_MEANINGS: dict[str, _Kind] = {
    "25006": (
        StoreReadOnly,
        "can only be read just now: it is a replica; name all hosts, or wait until one of them is promoted",
    ),
    "28000": (StoreError, "does not let relay's user in; check pg_hba.conf and the user"),
    "28P01": (StoreError, "refuses the password of relay's user; check the URL, PGPASSWORD or store_password_from"),
    "3D000": (StoreError, "does not exist; make it: createdb --owner USER --encoding UTF8 --template template0 NAME"),
    "40001": _LOCKED,
    "40P01": _LOCKED,
    "42501": _FORBIDDEN,
    "53100": (StoreFull, "cannot grow: the disk of PostgreSQL is full; make room on it"),
    "53200": (StoreError, "has no memory left; look at what else runs there"),
    "53300": (StoreBusy, "has no connection left; raise max_connections of PostgreSQL (a relay takes seven)"),
    "55P03": _LOCKED,
    "57014": _LATE,
    "57P01": _AWAY,
    "57P02": _AWAY,
    "57P03": _AWAY,
    "58030": (StoreError, "cannot read or write its files; check the disk of PostgreSQL"),
    "XX001": (StoreCorrupt, "is damaged; stop relay and put back a backup of it"),
    "XX002": (StoreCorrupt, "is damaged; stop relay and run REINDEX, or put back a backup of it"),
}
# Another machine was in between, or wrote the same row first: the next run sees what it wrote.
_PASSING = frozenset({"40001", "40P01", "23505"})


@contextmanager
def named_faults(name: str) -> Iterator[None]:
    """Turn what the driver raises into a StoreError about the store `name`; what we did wrong ourselves stays."""
    try:
        yield
    except DBAPIError as error:
        meaning = _meaning(error)
        if meaning is None:
            raise
        kind, words = meaning
        raise kind(f"the store {name} {words} ({one_line(error.orig)})") from error


def is_passing(error: DBAPIError) -> bool:
    """Whether what was undone may work at once: on a new connection, or after what another machine did."""
    return error.connection_invalidated or _code(error) in _PASSING


def one_line(error: BaseException | None) -> str:
    """Return the words of an error on one line, without the driver's guesses, which stand behind a tab."""
    said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    return " ".join(" ".join(line for line in said.splitlines() if not line.startswith("\t")).split())


def _code(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _meaning(error: DBAPIError) -> _Kind | None:
    code = _code(error)
    if code in _MEANINGS:
        return _MEANINGS[code]
    # Without a code no server said it: the connection could not be made, or was lost.
    is_away = error.connection_invalidated or code.startswith("08") or (not code and _is_operational(error))
    return _said_while_connecting(error) if is_away else None


def _said_while_connecting(error: DBAPIError) -> _Kind:
    """Return what a refused connection means. The driver gives its code to nobody, only the server's words."""
    words = str(error.orig)
    hints = {
        "password authentication failed": "28P01",
        "no password supplied": "28P01",
        "no pg_hba.conf entry": "28000",
        'role "': "28000",
        "does not exist": "3D000",
        "too many": "53300",
        "remaining connection slots": "53300",
        "session is read-only": "25006",
    }
    return next((_MEANINGS[code] for hint, code in hints.items() if hint in words), _AWAY)


def _is_operational(error: DBAPIError) -> bool:
    return isinstance(error, OperationalError)  # also of a kind of its own, such as a connection that took too long
