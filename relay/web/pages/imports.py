"""Many channels or agents at once: a table to download, and one to take in, shown before anything is changed.

A table that a page shows the plan of is kept here until somebody confirms it, and not in the page, because it may have
passwords in it, which no page shows. It is kept in memory, for a while and within bounds: after a restart somebody
chooses the file once more.
"""

import time
from asyncio import to_thread
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from starlette.datastructures import UploadFile
from starlette.responses import Response
from starlette.routing import Route

from relay.control.refused import Refused
from relay.control.tests.results import PasswordTrialRecord
from relay.web.kit.page_request import ADMINISTRATORS, PageRequest, page
from relay.web.kit.site import Site

_SECONDS = 30 * 60
_MOST_CHARACTERS = 32 * 1024 * 1024
_NOUNS = ("channel", "agent")
_MOST_SHOWN = 100_000  # characters
_UNREADABLE = "this file is no text in UTF-8; save it as “CSV UTF-8” and upload it again"


@dataclass(frozen=True, slots=True)
class _Kept:
    owner: str = field(repr=False)
    text: str = field(repr=False)
    until: float


class KeptTexts:
    """Texts by random names, each for the one who brought it alone; the oldest go first where there are too many."""

    def __init__(self, most: int = _MOST_CHARACTERS, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = clock
        self._texts: dict[str, _Kept] = {}

    def keep(self, owner: str, text: str) -> str:
        """Keep a text of somebody, and return its name."""
        now = self._now()
        self._texts = {name: one for name, one in self._texts.items() if one.until > now}
        name = token_urlsafe(16)
        self._texts[name] = _Kept(owner, text, now + _SECONDS)
        while sum(len(one.text) for one in self._texts.values()) > self._most and len(self._texts) > 1:
            del self._texts[next(iter(self._texts))]
        return name

    def get(self, owner: str, name: str) -> str | None:
        """Return a text that the same one brought; None where it is no longer kept."""
        found = self._texts.get(name)
        return found.text if found is not None and found.owner == owner and found.until > self._now() else None

    def forget(self, name: str) -> None:
        """Forget a text, if it is there."""
        self._texts.pop(name, None)


def routes(site: Site) -> list[Route]:
    """Return the routes of imports and exports."""
    texts = KeptTexts()
    return [route for noun in _NOUNS for route in _Table(noun, texts).routes(site)]


class _Table:
    """The pages of one noun."""

    def __init__(self, noun: str, texts: KeptTexts) -> None:
        self._noun = noun
        self._texts = texts

    @property
    def path(self) -> str:
        """The address of the list that the table belongs to."""
        return f"/{self._noun}s"

    def routes(self, site: Site) -> list[Route]:
        """Return the routes."""
        return [
            page(f"{self.path}/-/export", site, get=self.export),
            page(f"{self.path}/-/import", site, get=self.ask, post=self.take, roles=ADMINISTRATORS, takes_file=True),
            page(f"{self.path}/-/passwords", site, get=self.tried, post=self.try_all, roles=ADMINISTRATORS),
        ]

    async def export(self, visit: PageRequest) -> Response:
        """Give all of them as a file."""
        found = await visit.run(f"{self._noun}.export")
        # With a byte order mark, by which spreadsheets know that it is UTF-8.
        response = Response("\ufeff" + found["text"], media_type="text/csv; charset=utf-8")
        response.headers["Content-Disposition"] = (
            f'attachment; filename="{self._noun}s-{datetime.now(UTC):%Y-%m-%d}.csv"'
        )
        return response

    async def tried(self, visit: PageRequest) -> Response:
        """Show how far the passwords are tried, and what was refused."""
        trial: PasswordTrialRecord = await visit.run(f"{self._noun}.passwords-tried")
        return visit.render("shared/passwords.html", noun=self._noun, list_path=self.path, trial=trial)

    async def try_all(self, visit: PageRequest) -> Response:
        """Try all passwords that are set."""
        await visit.run(f"{self._noun}.passwords-try")
        return visit.redirect(f"{self.path}/-/passwords")

    async def ask(self, visit: PageRequest) -> Response:
        """Ask for a table."""
        return await self._show(visit)

    async def take(self, visit: PageRequest) -> Response:
        """Show what a table would do, or do it."""
        if visit.text("kept"):
            return await self._confirm(visit)
        try:
            text = await _posted(visit)
        except ValueError as error:
            return await self._show(visit, fault=str(error), status=422)
        return await self._preview(visit, text, pasted=_shown_again(visit))

    async def _preview(
        self, visit: PageRequest, text: str, *, pasted: str = "", sentences: tuple[str, ...] = ()
    ) -> Response:
        assert visit.session is not None
        found = await visit.run(f"{self._noun}.import", text=text)
        is_good = not found["faults"] and (found["adds"] or found["changes"])
        kept = self._texts.keep(visit.session.form_key, text) if is_good else ""
        status = 422 if found["faults"] or sentences else 200
        return await self._show(visit, found=found, kept=kept, pasted=pasted, sentences=sentences, status=status)

    async def _confirm(self, visit: PageRequest) -> Response:
        assert visit.session is not None
        kept = visit.text("kept")
        text = self._texts.get(visit.session.form_key, kept)
        if text is None:
            return await self._show(visit, fault="the table is no longer kept here; choose it once more", status=422)
        self._texts.forget(kept)
        try:
            done = await visit.run(f"{self._noun}.import", text=text, confirm=True, expected=visit.text("version"))
        except Refused as error:
            return await self._preview(visit, text, sentences=(str(error),))
        if not done["done"]:
            return await self._preview(visit, text)
        added, changed = len(done["adds"]), len(done["changes"])
        words = f"The table is imported: {added:,} added, {changed:,} changed."
        if done["passwords"]:
            trial: PasswordTrialRecord = await visit.run(f"{self._noun}.passwords-try", names=done["passwords"])
            if trial.total:
                return visit.redirect(f"{self.path}/-/passwords", words)
        return visit.redirect(self.path, words)

    async def _show(
        self,
        visit: PageRequest,
        *,
        found: Mapping[str, Any] | None = None,
        kept: str = "",
        pasted: str = "",
        fault: str = "",
        sentences: tuple[str, ...] = (),
        status: int = 200,
    ) -> Response:
        def draw() -> Response:
            return visit.render(
                "shared/import.html",
                status=status,
                noun=self._noun,
                list_path=self.path,
                found=found,
                kept=kept,
                pasted=pasted,
                fault=fault,
                sentences=sentences,
            )

        # In a thread: ten thousand rows take a moment, which holds up no message.
        return await to_thread(draw)


async def _posted(visit: PageRequest) -> str:
    """Return the table in a posted file, or what was pasted. Raises ValueError with a sentence."""
    file = visit.form.get("file")
    if isinstance(file, UploadFile) and file.filename:
        content = await file.read()
        try:
            return await to_thread(content.decode, "utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(_UNREADABLE) from None
    pasted = visit.form.get("text")
    if not isinstance(pasted, str) or not pasted.strip():
        raise ValueError("choose a file, or paste a table")
    return pasted


def _shown_again(visit: PageRequest) -> str:
    """Return what was pasted, to be mended; nothing of a table with passwords, which no page shows."""
    pasted = visit.form.get("text")
    if not isinstance(pasted, str) or len(pasted) > _MOST_SHOWN:
        return ""
    return "" if "password" in pasted.lstrip().partition("\n")[0].casefold() else pasted
