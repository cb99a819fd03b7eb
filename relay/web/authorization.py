"""The pages on which a person allows Relay to send by OAuth: in the browser, at another device, or without anybody.

In the browser the provider sends the person to an address of its own choice in the end; the person copies that here.
What belongs together (`state`, `verifier`) is in the form, so that nothing is kept in between.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.control.refused import Refused
from relay.web.kit.page_request import ADMINISTRATORS, PageRequest, page
from relay.web.kit.site import Site, ago, segment
from relay.web.kit.test_page import Back, streamed
from relay.web.kit.words import sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What is to be authorized: the `noun` ("server", "channel", "agent") and name, and the account that logs in.

    `back` is the page where a person comes from; "authorize" and "authorized" below it are the pages of this.
    """

    noun: str
    name: str
    account: str
    back: str

    async def ask(self, visit: PageRequest) -> Response:
        """Return the page that says what is going to happen, with a button."""
        return self._show(visit, None)

    async def begin(self, visit: PageRequest) -> Response:
        """Return the page with the way to the provider. Raises Refused."""
        items = visit.stream(f"{self.noun}.authorize", name=self.name)
        first = await anext(items)
        if first.get("flow") == "code":
            await items.aclose()
            return self._show(visit, first)
        return streamed(
            visit,
            "authorizations/device.html",
            self._told(visit, first, items),
            title=self._title,
            back=Back(self.back, self.name),
        )

    async def end(self, visit: PageRequest) -> Response:
        """Take the address where the browser ended, and go back; where it is none, ask for it again."""
        kept = {key: visit.text(key) for key in ("url", "state", "verifier")}
        try:
            given = {key: kept[key] for key in ("state", "verifier")}
            done = await visit.run(f"{self.noun}.authorized", name=self.name, redirect=visit.text("redirect"), **given)
        except Refused as error:
            return self._show(visit, kept, sentences(error), status=422)
        return visit.redirect(self.back, _done(done), is_done=not done["warning"])

    @property
    def _title(self) -> str:
        return f"Authorize {self.name}"

    def _show(
        self,
        visit: PageRequest,
        first: Mapping[str, Any] | None,
        sentences: list[str] | None = None,
        *,
        status: int = 200,
    ) -> Response:
        shown = {"consent": self, "title": self._title, "first": first, "sentences": sentences or []}
        return visit.render("authorizations/code.html", status=status, **shown)

    async def _told(
        self, visit: PageRequest, first: Mapping[str, Any], items: AsyncGenerator[dict[str, Any], None]
    ) -> AsyncGenerator[str, None]:
        """Yield what the person has to do, and what came of it."""
        async with aclosing(items):
            try:
                item: Mapping[str, Any] | None = first
                while item is not None:
                    if item["step"] == "visit":
                        yield visit.html("authorizations/_device_code.html", item=item)
                    elif item["step"] == "authorized":
                        yield visit.html("shared/_notice.html", kind="good", sentence=_done(item))
                    else:
                        yield "<!-- waiting -->\n"  # so that who has gone is noticed
                    item = await anext(items, None)
            except Refused as error:
                yield visit.html("shared/_notice.html", kind="bad", sentence=str(error))


def authorizing_routes(site: Site, noun: str, path: str) -> list[Route]:
    """Return the routes on which an administrator authorizes the account of a server, channel or agent."""

    async def consent(visit: PageRequest) -> Consent:
        record = await visit.run(f"{noun}.show", name=visit.path["name"])
        name = record["name"]
        return Consent(noun=noun, name=name, account=record["username"], back=f"{path}/{segment(name)}")

    async def ask(visit: PageRequest) -> Response:
        return await (await consent(visit)).ask(visit)

    async def begin(visit: PageRequest) -> Response:
        return await (await consent(visit)).begin(visit)

    async def end(visit: PageRequest) -> Response:
        return await (await consent(visit)).end(visit)

    there = f"{path}/{{name}}"
    return [
        page(f"{there}/authorize", site, get=ask, post=begin, roles=ADMINISTRATORS),
        page(f"{there}/authorized", site, post=end),
    ]


def _done(item: Mapping[str, Any]) -> str:
    sentence = f"Account {item['account']} is authorized; its token is renewed by itself, next {ago(item['expires'])}."
    return f"{sentence} But {item['warning']}." if item["warning"] else sentence
