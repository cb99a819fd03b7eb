"""The lines of a msmtprc (msmtp(1)), and its accounts with what each has of defaults and of others. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from relay.moving.found import CannotRead, Note, Place


@dataclass(frozen=True, slots=True)
class Setting:
    """What one line sets. It may be a password: a sentence never shows it."""

    value: str = field(repr=False)
    place: Place


@dataclass(slots=True)
class MsmtpAccount:
    """An account: `own` is what its lines and those of the accounts that it names say, `defaults` the rest."""

    name: str
    place: Place
    defaults: Mapping[str, Setting]
    own: dict[str, Setting] = field(default_factory=dict)
    parents: tuple[str, ...] = ()

    def setting(self, name: str) -> Setting | None:
        """Return what counts for this account."""
        return self.own.get(name) or self.defaults.get(name)

    def text(self, name: str, default: str = "") -> str:
        """Return the value that counts, or the default."""
        found = self.setting(name)
        return found.value if found else default

    def is_on(self, name: str, *, default: bool) -> bool:
        """Whether a switch is on. One without a word is."""
        found = self.setting(name)
        return default if found is None else found.value.lower() != "off"


_BLANKS = re.compile(r"[ \t]+")
# Older names of the same thing.
_OTHER_NAMES: Mapping[str, tuple[str, str]] = {
    "tls_nocertcheck": ("tls_certcheck", "off"),
    "tls_nostarttls": ("tls_starttls", "off"),
}


def read_msmtprc(text: str, file: str) -> tuple[list[MsmtpAccount], list[Note]]:
    """Return the accounts in their order. Raises CannotRead where msmtp would stop, too."""
    accounts: dict[str, MsmtpAccount] = {}
    notes: list[Note] = []
    defaults: dict[str, Setting] = {}
    current: MsmtpAccount | None = None
    in_defaults = False
    for command, argument, place in _lines(text, file):
        if command == "defaults":
            current, in_defaults = None, True
        elif command == "account":
            current, in_defaults = _account(argument, place, accounts, defaults), False
        elif command == "eval":
            notes.append(Note(place, "the line that this command writes is not taken over; Relay does not run it"))
        else:
            if current is None and not in_defaults:  # msmtp takes lines in front of every account for this one
                current = _account("default", place, accounts, defaults)
            name, fixed = _OTHER_NAMES.get(command, (command, argument))
            (defaults if current is None else current.own)[name] = Setting(fixed, place)
    return list(accounts.values()), notes


def _account(
    argument: str, place: Place, accounts: dict[str, MsmtpAccount], defaults: Mapping[str, Setting]
) -> MsmtpAccount:
    """Begin an account: "name" or "name : other, other"."""
    name, _, others = argument.partition(":")
    name = name.strip()
    parents = tuple(_unquoted(other) for other in others.split(",")) if ":" in argument else ()
    if not name:
        raise CannotRead(f"{place}: an account has no name; msmtp does not read this file, either")
    if name in accounts:
        raise CannotRead(f"{place}: the account {name} is there already; msmtp does not read this file, either")
    account = MsmtpAccount(name, place, dict(defaults), parents=parents)
    for parent in parents:
        if parent not in accounts:
            raise CannotRead(f"{place}: there is no account {parent!r} above; msmtp does not read this file, either")
        account.own |= accounts[parent].own
    accounts[name] = account
    return account


def _lines(text: str, file: str) -> Iterator[tuple[str, str, Place]]:
    """Yield command, argument and place of each line that has any."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.strip(" \t\r")
        if not words or words.startswith("#"):
            continue
        command, *rest = _BLANKS.split(words, maxsplit=1)
        yield command, _unquoted(rest[0] if rest else ""), Place(file, number)


def _unquoted(text: str) -> str:
    text = text.strip(" \t")
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
