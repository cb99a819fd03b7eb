"""Adding, changing and removing an entry of the directory: what the pages of all nouns do in the same way.

A form bears the version of the entry that it shows. Where somebody else changed that meanwhile, nothing is saved, and
the page says so.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.responses import Response
from starlette.routing import Route

from relay.control.refused import Conflict, LoginRefused, Refused
from relay.control.tests.results import PasswordKept
from relay.directory.kinds import Entry, EntryKind
from relay.web.kit.forms import (
    Field,
    FieldFaults,
    Group,
    changed_values,
    faults_of,
    fields_of,
    given_values,
    posted_texts,
    read_values,
    shown_texts,
)
from relay.web.kit.key_fields import groups_for
from relay.web.kit.page_request import ADMINISTRATORS, PageRequest, page
from relay.web.kit.site import Site, segment
from relay.web.kit.words import KEEP, in_short, login_words, sentences

Record: TypeAlias = Mapping[str, Any]
Special: TypeAlias = Callable[[PageRequest, Record | None], Awaitable[Mapping[str, Field | None]]]
Finish: TypeAlias = Callable[[PageRequest, str], Awaitable[str]]
Check: TypeAlias = Callable[[PageRequest, Sequence[Field]], FieldFaults]
About: TypeAlias = Callable[[PageRequest, Record | None], Awaitable[Mapping[str, Any]]]

NAME = Field(
    key="name",
    label="Name",
    is_required=True,
    hint="Letters, digits and . _ @ + -. It cannot be changed later.",
    attributes={"autocapitalize": "none", "spellcheck": "false"},
)


async def _nothing_more(visit: PageRequest, name: str) -> str:  # noqa: ARG001
    return ""


def _nothing_wrong(visit: PageRequest, fields: Sequence[Field]) -> FieldFaults:  # noqa: ARG001
    return {}


async def _nothing_special(visit: PageRequest, record: Record | None) -> Mapping[str, Field | None]:  # noqa: ARG001
    return {}


async def _nothing_about(visit: PageRequest, record: Record | None) -> Mapping[str, Any]:  # noqa: ARG001
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """The pages of one noun. `special` makes the fields of its form that are no keys, or are asked for in another way
    (None: not now). `check` says what is wrong between its fields. `finish` does what is left after a save (a password,
    a default) and returns a sentence about it. `about` returns what its own templates know beside the record, as
    `about`.
    """

    kind: EntryKind[Entry]
    special: Special = _nothing_special
    check: Check = _nothing_wrong
    finish: Finish = _nothing_more
    about: About = _nothing_about

    @property
    def word(self) -> str:
        """The word that begins its operations."""
        return self.kind.word

    @property
    def path(self) -> str:
        """Where its list is."""
        return f"/{self.kind.table}"

    @property
    def model(self) -> type[Entry]:
        """What one of its entries is."""
        return self.kind.model

    @property
    def templates(self) -> str:
        """The folder of its own templates."""
        return self.kind.table

    def where(self, name: str) -> str:
        """Return the address of one entry."""
        return f"{self.path}/{segment(name)}"

    def place(self, name: str) -> str:
        """Return how the keys of one entry begin in the directory."""
        return f"{self.kind.table}.{name}."


def editing_routes(noun: Noun, site: Site) -> list[Route]:
    """Return the routes that add, change and remove one entry."""
    return [
        page(f"{noun.path}/-/add", site, get=noun_page(_new, noun), post=noun_page(_add, noun), roles=ADMINISTRATORS),
        page(f"{noun.path}/{{name}}", site, get=noun_page(_edit, noun), post=noun_page(_save, noun)),
        page(
            f"{noun.path}/{{name}}/remove",
            site,
            get=noun_page(_ask, noun),
            post=noun_page(_remove, noun),
            roles=ADMINISTRATORS,
        ),
    ]


def noun_page(
    do: Callable[[Noun, PageRequest], Awaitable[Response]], noun: Noun
) -> Callable[[PageRequest], Awaitable[Response]]:
    """Return a page about one kind of entry."""

    async def answer(visit: PageRequest) -> Response:
        return await do(noun, visit)

    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a form shows: texts by key, and what is wrong. `may_keep`: a refused password may be kept as it is."""

    texts: Mapping[str, str]
    faults: FieldFaults
    sentences: Sequence[str]
    may_keep: bool = False


async def _new(noun: Noun, visit: PageRequest) -> Response:
    groups = await groups_of(noun, visit, None)
    texts = {one.key: visit.query.get(one.key, one.start) for one in fields_of(groups) if not one.is_secret}
    return await _show(noun, visit, groups, None, Filled(texts=texts, faults={}, sentences=()))


async def _add(noun: Noun, visit: PageRequest) -> Response:
    groups = await groups_of(noun, visit, None)
    fields = fields_of(groups)
    values, faults = _read(noun, visit, [one for one in fields if one is not NAME])
    name = visit.text("name")
    if not name:
        faults["name"] = "this is needed"
    others: list[str] = []
    if not faults:
        try:
            given = given_values(values, fields, noun.model)
            await visit.run(f"{noun.word}.add", name=name, values=given)
            return await _done(noun, visit, name, f"{noun.word} {name} is added")
        except Refused as error:
            faults, others = faults_of(error, fields, noun.place(name))
    filled = Filled(texts=posted_texts(fields, visit.form), faults=faults, sentences=others)
    return await _show(noun, visit, groups, None, filled, status=422)


async def _edit(noun: Noun, visit: PageRequest) -> Response:
    record = await visit.run(f"{noun.word}.show", name=visit.path["name"])
    groups = await groups_of(noun, visit, record)
    texts = shown_texts(fields_of(groups), unfilled(record))
    return await _show(noun, visit, groups, record, Filled(texts=texts, faults={}, sentences=()))


async def _save(noun: Noun, visit: PageRequest) -> Response:
    name = visit.path["name"]
    record = await visit.run(f"{noun.word}.show", name=name)
    groups = await groups_of(noun, visit, record)
    fields = fields_of(groups)
    values, faults = _read(noun, visit, fields)
    others: list[str] = []
    if not faults:
        try:
            changed = changed_values(values, fields, unfilled(record), noun.model)
            if changed:
                await visit.run(f"{noun.word}.set", name=name, values=changed, expected=visit.text("version"))
            return await _done(noun, visit, name, f"{noun.word} {name} is saved")
        except Conflict as error:
            record = await visit.run(f"{noun.word}.show", name=name)
            others = [f"{error}. Below is what you entered; send it again to save it all the same."]
        except Refused as error:
            faults, others = faults_of(error, fields, noun.place(name))
    filled = Filled(texts=posted_texts(fields, visit.form), faults=faults, sentences=others)
    return await _show(noun, visit, groups, record, filled, status=422)


def _read(noun: Noun, visit: PageRequest, fields: Sequence[Field]) -> tuple[dict[str, Any], FieldFaults]:
    """Return the values that were posted, and what is wrong with one or between several."""
    values, faults = read_values(fields, visit.form, noun.model)
    return values, {**noun.check(visit, fields), **faults}


async def _ask(noun: Noun, visit: PageRequest) -> Response:
    record = await visit.run(f"{noun.word}.show", name=visit.path["name"])
    about = await noun.about(visit, record)
    return visit.render(f"{noun.templates}/remove.html", noun=noun, record=record, about=about, sentences=())


async def _remove(noun: Noun, visit: PageRequest) -> Response:
    name = visit.path["name"]
    record = await visit.run(f"{noun.word}.show", name=name)
    more = {"move_to": visit.text("move_to")} if visit.text("move_to") else {}
    try:
        await visit.run(f"{noun.word}.remove", name=name, **more)
    except Refused as error:
        said = ["choose first where its senders go"] if error.key == "move_to" and not more else sentences(error)
        told = {"record": record, "about": await noun.about(visit, record), "sentences": said}
        return visit.render(f"{noun.templates}/remove.html", status=409, noun=noun, **told)
    return visit.redirect(noun.path, f"{noun.word} {name} is removed")


async def _done(noun: Noun, visit: PageRequest, name: str, sentence: str) -> Response:
    """What is left after a save; where that is refused, the entry stays saved, and its page says both."""
    try:
        more = await noun.finish(visit, name)
    except LoginRefused as error:
        record = await visit.run(f"{noun.word}.show", name=name)
        groups = await groups_of(noun, visit, record)
        filled = Filled(
            texts=shown_texts(fields_of(groups), unfilled(record)),
            faults={"password": f"{error.words}. {KEEP}"},
            sentences=(f"{sentence}; its password is not.",),
            may_keep=True,
        )
        return await _show(noun, visit, groups, record, filled, status=422)
    except Refused as error:
        return visit.redirect(noun.where(name), f"{sentence}, but: {in_short(error)}", is_done=False)
    return visit.redirect(noun.where(name), "; ".join(filter(None, (sentence, more))))


async def save_password(visit: PageRequest, operation: str, name: str) -> str:
    """Save the mail password of a form, where there is one, by an operation, and return the sentence about it.

    Raises LoginRefused where its server refuses it and nobody chose to save it anyway.
    """
    given = visit.secret("password")
    if given is None:
        return ""
    kept: PasswordKept = await visit.run(
        operation, name=name, password=given, unchecked=visit.text("unchecked") == "true"
    )
    return f"its email password is saved{login_words(kept.login)}"


async def groups_of(noun: Noun, visit: PageRequest, record: Record | None) -> Sequence[Group]:
    """Return the groups of a form; that of a new entry asks for its name first."""
    groups = groups_for(noun.kind, await noun.special(visit, record))
    if record is not None:
        return groups
    first, *others = groups
    return (Group(first.title, (NAME, *first.fields), first.intro, first.is_folded), *others)


def unfilled(record: Record) -> Record:
    """Return a record without the values that only follow from others (a port from the security)."""
    return {key: value for key, value in record.items() if key not in record.get("follows", ())}


async def show_filled(noun: Noun, visit: PageRequest, record: Record | None, changed: Mapping[str, str]) -> Response:
    """Return the form with what was posted, some of it changed. Nothing is saved."""
    groups = await groups_of(noun, visit, record)
    texts = {**posted_texts(fields_of(groups), visit.form), **changed}
    return await _show(noun, visit, groups, record, Filled(texts=texts, faults={}, sentences=()))


async def _show(
    noun: Noun,
    visit: PageRequest,
    groups: Sequence[Group],
    record: Record | None,
    filled: Filled,
    *,
    status: int = 200,
) -> Response:
    shown = {"noun": noun, "groups": groups, "record": record, "filled": filled}
    about = await noun.about(visit, record)
    return visit.render(f"{noun.templates}/edit.html", status=status, about=about, **shown)
