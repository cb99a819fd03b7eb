"""An agent's own pages: how the own mail leaves, what is missing for it, what became of it, and its own account.

An account is connected by OAuth: a link to the provider, from which the browser comes back to our page. Where the
provider knows no address of ours to come back to, the person brings the address instead, as with the command; where the
server's client uses codes for devices, the page shows one and waits.

SECURITY: while somebody is away at a provider, the browser keeps the state and verifier of the authorization, in a
cookie that no script reads, and not in an address. It is signed with a key of the session, so that it counts in that
session alone: nobody can lay one of their own into another's browser and so have the other's mail leave with an account
of theirs (login CSRF, RFC 6749 section 10.12).
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from relay.control.entries.authorizations import RETURN_PATH
from relay.control.messages.results import HistoryItem, JourneyRecord, Page, changed_headers
from relay.control.refused import LoginRefused, Refused, Unavailable
from relay.control.tests.results import LoginState, PasswordKept
from relay.web.kit.page_request import AGENTS, PageRequest, cookie_of, page
from relay.web.kit.site import Site
from relay.web.kit.test_page import Back, stream_test, streamed
from relay.web.kit.words import KEEP, MEANINGS, STATES, login_words, sentences
from relay.web.sign_in import begin_session

_BACK = Back("/profile", "My profile")
_RECENT = 5
_PART = 50
_BROUGHT = "brought"
_COOKIE = "relay-oauth"
_COOKIE_PATH = "/"
_COOKIE_SECONDS = 15 * 60


def routes(site: Site) -> list[Route]:
    """Return the routes of an agent's own pages."""
    return [
        page("/profile", site, get=_profile, roles=AGENTS),
        page("/profile/password", site, post=_set_mail_password, posters=AGENTS),
        page("/profile/login", site, post=_set_login_password, posters=AGENTS),
        page("/profile/test", site, post=_test, posters=AGENTS),
        page("/profile/messages", site, get=_list_messages, roles=AGENTS),
        page("/profile/messages/{id}", site, get=_show_message, roles=AGENTS),
        page("/profile/connect", site, post=_begin, posters=AGENTS),
        page("/profile/connect/address", site, post=_bring, posters=AGENTS),
        page(RETURN_PATH, site, get=_return, roles=AGENTS),
    ]


async def _profile(
    visit: PageRequest, *, faults: dict[str, str] | None = None, status: int = 200, may_keep: bool = False
) -> Response:
    """Show the page, with what is wrong with what was posted. `may_keep`: a refused password may be kept as it is."""
    name = visit.actor.name
    sending: dict[str, Any] = await visit.run("agent.sending", name=name)
    recent: Page[HistoryItem] = await visit.run("agent.messages", name=name, limit=_RECENT)
    return visit.render(
        "profile/profile.html",
        status=status,
        sending=sending,
        recent=recent.items,
        meanings=MEANINGS,
        faults=faults or {},
        may_keep=may_keep,
    )


async def _set_mail_password(visit: PageRequest) -> Response:
    password = visit.secret("mail_password")
    if password is None:
        return await _profile(visit, faults={"mail_password": "enter the password"}, status=422)
    try:
        kept: PasswordKept = await visit.run(
            "agent.password", name=visit.actor.name, password=password, unchecked=visit.text("unchecked") == "true"
        )
    except LoginRefused as error:
        return await _profile(visit, faults={"mail_password": f"{error.words}. {KEEP}"}, status=422, may_keep=True)
    except Refused as error:
        return await _profile(visit, faults={"mail_password": str(error)}, status=422)
    is_known = kept.login.state is not LoginState.UNKNOWN
    return visit.redirect("/profile", f"Your email password is saved{login_words(kept.login)}.", is_done=is_known)


async def _set_login_password(visit: PageRequest) -> Response:
    admission, fresh = visit.site.admission, visit.secret("new_password")
    try:
        is_right = await admission.knows_password(visit.actor, visit.secret("present_password") or "", visit.peer)
    except Refused as error:
        status = 503 if isinstance(error, Unavailable) else 429
        return await _profile(visit, faults={"present_password": str(error)}, status=status)
    if not is_right:
        return await _profile(visit, faults={"present_password": "this is not your present password"}, status=422)
    if fresh is None:
        return await _profile(visit, faults={"new_password": "enter the new password"}, status=422)
    try:
        await visit.run("agent.login", name=visit.actor.name, password=fresh)
    except Refused as error:
        return await _profile(visit, faults={"new_password": str(error)}, status=422)
    # The change ended all sessions, this one too; whoever made it goes on in a new one.
    response = visit.redirect("/profile", "Your login password is changed. You are signed out everywhere else.")
    return await begin_session(visit, response, await admission.open_session(visit.actor))


async def _test(visit: PageRequest) -> Response:
    params: dict[str, Any] = {"name": visit.actor.name, "to": visit.text("to") or None}
    return stream_test(visit, "Test of your mail account", "agent.test", params, _BACK)


async def _list_messages(visit: PageRequest) -> Response:
    after = visit.query.get("after") or None
    found: Page[HistoryItem] = await visit.run("agent.messages", name=visit.actor.name, limit=_PART, after=after)
    return visit.render("profile/messages.html", items=found.items, after=after, following=found.next)


async def _show_message(visit: PageRequest) -> Response:
    message: JourneyRecord = await visit.run("agent.message", name=visit.actor.name, id=visit.path["id"])
    changed = changed_headers(message.attempts)
    return visit.render("profile/message.html", message=message, changed=changed, states=STATES, meanings=MEANINGS)


async def _begin(visit: PageRequest) -> Response:
    name = visit.actor.name
    sending = await visit.run("agent.sending", name=name)
    if sending["flow"] == "device":
        return streamed(visit, "profile/connect_device.html", _device_parts(visit, name))
    is_brought = visit.text("way") == _BROUGHT
    back_to = "person" if is_brought else "page"
    async with aclosing(visit.stream("agent.authorize", name=name, back_to=back_to)) as items:
        item = await anext(items)
    if item["step"] != "visit":
        return visit.redirect("/profile", "Your account is connected.")
    response = visit.render(
        "profile/connect.html", url=item["url"], is_brought=is_brought, ours=visit.site.public_url + RETURN_PATH
    )
    _remember_authorization(
        visit, response, _PendingAuthorization(name=name, state=item["state"], verifier=item["verifier"])
    )
    return response


async def _return(visit: PageRequest) -> Response:
    """SECURITY: this changes something by GET, as the protocol wants it; the state in the cookie says it is ours."""
    return await _end(visit, str(visit.request.url), "page")


async def _bring(visit: PageRequest) -> Response:
    return await _end(visit, visit.text("address"), "person")


async def _end(visit: PageRequest, address: str, back_to: str) -> Response:
    pending = _pending_authorization(visit)
    try:
        if pending is None or pending.name != visit.actor.name:
            raise Refused("this connection was not begun here, or too long ago; begin again")
        done = await visit.run(
            "agent.authorized",
            name=pending.name,
            redirect=address,
            state=pending.state,
            verifier=pending.verifier,
            back_to=back_to,
        )
    except Refused as error:
        response = visit.render("profile/connect_failed.html", status=422, sentences=sentences(error))
    else:
        words = f"Your account is connected, but {done['warning']}" if done["warning"] else "Your account is connected."
        response = visit.redirect("/profile", words, is_done=not done["warning"])
    _forget_authorization(response)
    return response


async def _device_parts(visit: PageRequest, name: str) -> AsyncGenerator[str, None]:
    """Yield the code and where it belongs, and at last what came of it."""
    outcome: dict[str, Any] = {"is_good": False, "sentence": ""}
    try:
        async with aclosing(visit.stream("agent.authorize", name=name)) as items:
            async for item in items:
                if item["step"] == "visit":
                    yield visit.html("profile/_device_code.html", item=item)
                elif item["step"] == "authorized":
                    outcome = {"is_good": True, "sentence": item["warning"] or "Your account is connected."}
                else:  # so that a browser that is gone is noticed
                    yield "\n"
    except Refused as error:
        outcome = {"is_good": False, "sentence": str(error)}
    yield visit.html("profile/_device_end.html", **outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingAuthorization:
    """An authorization that has begun: of which account, and what its end must bring."""

    name: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)


def _remember_authorization(visit: PageRequest, response: Response, pending: _PendingAuthorization) -> None:
    """Let the browser keep an authorization that has begun, in place of an earlier one."""
    said = urlsafe_b64encode(json.dumps(asdict(pending)).encode()).decode()
    response.set_cookie(
        _COOKIE,
        f"{said}.{_signature(visit, said)}",
        max_age=_COOKIE_SECONDS,
        path=_COOKIE_PATH,
        httponly=True,
        samesite="lax",
        secure=visit.site.is_secure,
    )


def _pending_authorization(visit: PageRequest) -> _PendingAuthorization | None:
    """Return the authorization that this session began; None where there is none, or where it is too long ago."""
    said, _, signature = (cookie_of(visit.request, _COOKIE) or "").partition(".")
    if not said or not hmac.compare_digest(signature.encode(), _signature(visit, said).encode()):
        return None
    try:
        return _PendingAuthorization(**json.loads(urlsafe_b64decode(said)))
    except (Error, ValueError, TypeError):  # signed by another version of ours
        return None


def _forget_authorization(response: Response) -> None:
    """Let the browser forget it."""
    response.delete_cookie(_COOKIE, path=_COOKIE_PATH)


def _signature(visit: PageRequest, said: str) -> str:
    assert visit.session is not None
    return hmac.digest(visit.session.form_key.encode(), f"oauth:{said}".encode(), "sha256").hex()
