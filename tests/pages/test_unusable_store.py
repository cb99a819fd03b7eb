"""A store that cannot be used: where it is and what is wrong with it hear the log and administrators alone."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from relay.config.endpoint import TcpAddress
from relay.control.actor import Actor, Role, Way
from relay.control.operations import Operations
from relay.control.people.admission import Admission, Invitation, WebSession
from relay.control.refused import Unavailable
from relay.web.app import make_app
from relay.web.kit.pulse import Pulse
from relay.web.kit.site import Site, make_templates

AWAY = "/srv/secret-place/relay.db cannot be read: it is damaged"
URL = "http://127.0.0.1:8025"
EXPIRES = datetime.now(UTC) + timedelta(hours=1)
TEMPLATES = make_templates("relay.test")


class _Broken:
    """Operations and admission above a store that cannot be used; sessions and invitations alone are known."""

    def __init__(self, role: Role | None) -> None:
        self._role = role

    async def session(self, cookie: str, peer: str = "", *, is_use: bool = True) -> WebSession | None:
        if self._role is None:
            return None
        return WebSession(actor=Actor(name="jane", role=self._role, way=Way.PAGE), form_key="k", expires=EXPIRES)

    async def invitation(self, token: str) -> Invitation | None:
        return Invitation("admin", "jane", Role.VIEWER, EXPIRES)

    async def accept_admin(self, *_: str) -> Actor:
        raise Unavailable(AWAY)

    async def run(self, name: str, params: Mapping[str, Any], actor: Actor) -> Any:
        raise Unavailable(AWAY)

    async def stream(self, name: str, params: Mapping[str, Any], actor: Actor) -> AsyncIterator[dict[str, Any]]:
        yield await self.run(name, params, actor)


def _ask(role: Role | None, method: str, path: str, **form: str) -> tuple[int, str]:
    broken = _Broken(role)
    site = Site(cast("Operations", broken), cast("Admission", broken), lambda: URL, TEMPLATES, Pulse(int))
    client = TestClient(make_app(site, TcpAddress("127.0.0.1", 8025)), base_url=URL, cookies={"relay": "x"})
    answer = client.request(method, path, data={"form_key": "k", **form} if method == "POST" else None)
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    ("role", "method", "path", "form"),
    [
        (Role.AGENT, "GET", "/profile", {}),
        (Role.AGENT, "POST", "/profile/password", {"mail_password": "x"}),
        (Role.AGENT, "POST", "/profile/test", {"to": "a@b.example"}),
        (Role.AGENT, "POST", "/profile/connect", {}),
        (Role.AGENT, "GET", "/profile/messages/1", {}),
        (Role.VIEWER, "GET", "/servers", {}),
        (Role.VIEWER, "GET", "/messages/1", {}),
        (None, "POST", "/welcome/x", {"password": "something long"}),
    ],
)
def test_only_administrators_hear_where_it_is(role: Role | None, method: str, path: str, form: dict[str, str]) -> None:
    status, text = _ask(role, method, path, **form)
    assert "relay&#39;s log says why" in text, text
    assert "secret-place" not in text
    assert status == (200 if path == "/profile/test" else 503)


def test_an_administrator_hears_what_is_wrong() -> None:
    status, text = _ask(Role.ADMINISTRATOR, "GET", "/servers")
    assert (status, AWAY in text, "Not just now" in text) == (503, True, True)
