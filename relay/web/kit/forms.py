"""Forms: what a page asks for, and what was posted, read by the types of directory.toml.

A form is a list of fields. The same list draws it (`shared/_form.html`) and reads it, so that a field that is shown is
a field that is read. A key that the directory knows is read by its type there (`relay.directory.values.parse_value`).
Of a table in an entry (`incoming`, `oauth`) a form asks for keys one by one, written with a dot ("incoming.host"); the
directory takes the whole table.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

from starlette.datastructures import FormData

from relay.control.refused import Refused
from relay.directory.tables import MACHINE_KEYS
from relay.directory.values import Editable, EditRefused, parse_inner, parse_value


def folded(
    values: Mapping[str, Any], worded: Collection[str], model: Editable, record: Mapping[str, Any]
) -> dict[str, Any]:
    """Return values with those of tables ("incoming.host") put together to the tables that they belong to.

    A table of which no key in `worded` has a value is None. What a record says of a table and no form asks for stays;
    keys of the machine are not named at all, which leaves them as they are.
    """
    whole = {key: value for key, value in values.items() if "." not in key}
    for table in dict.fromkeys(key.partition(".")[0] for key in values if "." in key):
        inner = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{table}.")}
        is_there = any(inner[key] for key in inner if f"{table}.{key}" in worded)
        kept = {key: value for key, value in (record.get(table) or {}).items() if key not in MACHINE_KEYS} | inner
        whole[table] = _without_defaults(model, table, kept) if is_there else None
    return whole


def default_of(model: type, key: str) -> Any:
    """Return what a key is where nobody says it; None where that is nothing, and for one without a default."""
    for one in fields(model):
        if one.name == key:
            return list(one.default) if isinstance(one.default, tuple) else _known(one.default)
    return None


def _without_defaults(model: Editable, table: str, inner: Mapping[str, Any]) -> dict[str, Any]:
    hint = get_type_hints(model)[table]
    kind = next(part for part in get_args(hint) if part is not type(None))
    return {key: value for key, value in inner.items() if value not in (None, default_of(kind, key))}


def _known(value: Any) -> Any:
    return None if value is MISSING else value


FieldType: TypeAlias = Literal["text", "email", "number", "check", "select", "lines", "headers", "password"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the values that a field can have. `note` says what it means, in a sentence."""

    value: str
    label: str
    note: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One question. `hint` stands below it; `off` is the reason why it cannot be answered now.

    `start` is what a new form shows. `check` raises ValueError, with a sentence, for a secret that can be none.
    `is_own`: no key of the entry; the noun reads it itself. `button` is what a button beside it says, which sends the
    form to `button_to` and saves nothing.
    """

    key: str
    label: str
    kind: FieldType = "text"
    hint: str = ""
    off: str = ""
    is_required: bool = False
    choices: Sequence[Choice] = ()
    placeholder: str = ""
    autocomplete: str = "off"
    attributes: Mapping[str, str] = field(default_factory=dict)
    start: str = ""
    is_own: bool = False
    check: Callable[[str], object] | None = None
    button: str = ""
    button_to: str = ""

    @property
    def is_secret(self) -> bool:
        """Whether its value is never shown again."""
        return self.kind == "password"


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that belong together, under a heading; `is_folded` where few people need them.

    `opens_with` is a key and the value at which they are needed after all.
    """

    title: str
    fields: Sequence[Field]
    intro: str = ""
    is_folded: bool = False
    opens_with: tuple[str, str] | None = None


Texts: TypeAlias = Mapping[str, str]
FieldFaults: TypeAlias = dict[str, str]


def fields_of(groups: Iterable[Group]) -> tuple[Field, ...]:
    """Return all fields of a form."""
    return tuple(one for group in groups for one in group.fields)


def shown_texts(fields: Iterable[Field], record: Mapping[str, Any]) -> dict[str, str]:
    """Return what the fields show of a record as `show` gives it; nothing of what is secret."""
    return {one.key: _text(one, _value(record, one.key)) for one in fields if not one.is_secret}


def posted_texts(fields: Iterable[Field], form: FormData) -> dict[str, str]:
    """Return what was posted, as the fields would show it again; nothing of what is secret."""
    texts = {}
    for one in fields:
        value = form.get(one.key)
        if not one.is_secret:
            texts[one.key] = value.strip() if isinstance(value, str) else ""
    return texts


def read_values(fields: Iterable[Field], form: FormData, model: Editable) -> tuple[dict[str, Any], FieldFaults]:
    """Return the values that were posted, by key, and a sentence for each that is none.

    What is left empty is None, which restores the default. A field that is off is not read, nor one of the noun's own;
    a check that is off is unticked.
    """
    values: dict[str, Any] = {}
    faults: FieldFaults = {}
    texts = posted_texts(fields, form)
    for one in fields:
        if one.is_secret:
            faults |= _secret_fault(one, form)
        if one.is_secret or one.is_own:
            continue
        if one.off:
            values |= {one.key: False} if one.kind == "check" else {}
            continue
        text = texts[one.key]
        if one.kind == "check":
            values[one.key] = text == "true"
        elif one.kind == "headers":
            try:
                values[one.key] = read_headers(text) or None
            except ValueError as error:
                faults[one.key] = str(error)
        elif one.is_required and not text:
            faults[one.key] = "this is needed"
        else:
            try:
                values[one.key] = _parsed(model, one.key, _one_line(one, text))
            except EditRefused as error:
                faults[one.key] = str(error).removeprefix(f"{one.key}: ")
    return values, faults


def _secret_fault(one: Field, form: FormData) -> FieldFaults:
    given = form.get(one.key)
    if one.check is None or one.off or not isinstance(given, str) or not given:
        return {}
    try:
        one.check(given)
    except ValueError as error:
        return {one.key: str(error)}
    return {}


def changed_values(
    values: Mapping[str, Any], fields: Iterable[Field], record: Mapping[str, Any], model: Editable
) -> dict[str, Any]:
    """Return only what was posted differently from what the form showed of a record, each table as a whole.

    So a form writes no key that nobody touched: a default that the file leaves out stays left out.
    """
    fields = tuple(fields)
    shown = shown_texts(fields, record)
    by_key = {one.key: one for one in fields}
    changed = {key for key, value in values.items() if _text(by_key[key], value) != shown[key]}
    tables = {key.partition(".")[0] for key in changed if "." in key}
    meant = {key: value for key, value in values.items() if key in changed or key.partition(".")[0] in tables}
    whole = folded(meant, _worded(fields), model, record)
    return {key: value for key, value in whole.items() if key in changed or value != record.get(key)}


def folded_values(
    values: Mapping[str, Any], fields: Iterable[Field], model: Editable, record: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what was posted with each table as a whole; what no form asks for of a table stays as a record has it."""
    return folded(values, _worded(fields), model, record)


def given_values(values: Mapping[str, Any], fields: Iterable[Field], model: Editable) -> dict[str, Any]:
    """Return what was posted for a new entry, each table as a whole, without what is the default anyway."""
    whole = folded(values, _worded(fields), model, {})
    return {key: value for key, value in whole.items() if value not in (None, [], default_of(model, key))}


def faults_of(error: Refused, fields: Iterable[Field], place: str = "") -> tuple[FieldFaults, list[str]]:
    """Return the sentences of a refusal beside the fields that they are about, and those about none.

    `place` is where the entry stands in the directory ("servers.acmejets."); a fault of another one is about no field.
    """
    fields = tuple(fields)
    beside: FieldFaults = {}
    others: list[str] = []
    for fault in error.faults:
        found = _field_of(fault.key.removeprefix(place), fields) if fault.key.startswith(place) else None
        if found is not None and found.key not in beside:
            beside[found.key] = fault.message
        else:
            others.append(": ".join(filter(None, (fault.key, fault.message))))
    if error.faults:
        return beside, others
    found = _field_of(error.key, fields) if error.key else None
    if found is not None:
        return {found.key: str(error).removeprefix(f"{error.key}: ")}, []
    return {}, str(error).splitlines()


def _field_of(key: str, fields: Iterable[Field]) -> Field | None:
    """Return the field that a key is about: its own, that of the list it is in, or the first to write of its table."""
    by_key = {one.key: one for one in fields}
    parts = key.replace("[", ".").split(".")
    for length in range(len(parts), 0, -1):
        known = by_key.get(".".join(parts[:length]))
        if known is not None:
            return known
    inner = [one for one in by_key.values() if one.key.startswith(f"{parts[0]}.")]
    return next((one for one in inner if one.key in _worded(inner)), None)


def _worded(fields: Iterable[Field]) -> frozenset[str]:
    """Return the keys that a person fills with words; a select or a check does not say that there is a table."""
    return frozenset(one.key for one in fields if one.kind not in {"select", "check"})


def _value(record: Mapping[str, Any], key: str) -> Any:
    table, _, inner = key.rpartition(".")
    return (record.get(table) or {}).get(inner) if table else record.get(key)


def _parsed(model: Editable, key: str, text: str) -> Any:
    table, _, inner = key.rpartition(".")
    return parse_inner(model, table, inner, text) if table else parse_value(model, key, text)


def read_headers(text: str) -> dict[str, str]:
    """Return header fields that stand one to a line, "Name: value". Raises ValueError, which names the line."""
    fields: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not line.strip():
            continue
        if not (name and colon and value):
            raise ValueError(f"line {number}: write a field as “Name: value”")
        if name.lower() in (known.lower() for known in fields):
            raise ValueError(f"line {number}: {name} stands there twice; a field is set once")
        fields[name] = value
    return fields


def _text(one: Field, value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {inner}" for key, inner in value.items())
    if one.kind == "check":
        return "true" if value else ""
    if value is None or value == 0:
        return ""
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value)) if one.kind == "lines" else ", ".join(map(str, value))
    return str(value)


def _one_line(one: Field, text: str) -> str:
    """Return a list that stands on lines as the commands write it."""
    return ",".join(line.strip() for line in text.splitlines() if line.strip()) if one.kind == "lines" else text
