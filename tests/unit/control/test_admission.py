"""Who may come in: names and passwords, sessions, tokens and invitations."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from relay.control.actor import Actor, Role, Way
from relay.control.context import ControlContext
from relay.control.people.admission import Admission, Invitation
from relay.control.people.sign_in import TooMany
from relay.control.refused import Refused
from relay.control.tests.results import LoginState
from relay.secrets import authentication as logins_module
from relay.secrets.authentication import Logins
from relay.store.db.errors import StoreError
from tests.unit.control.control_kit import AdminOperations, parts_in

HERE, ELSEWHERE, FAR = "127.0.0.1", "192.0.2.7", "198.51.100.9"
PASSWORD = "geheim-geheim"
ADA = Actor(name="ada", role=Role.ADMINISTRATOR, way=Way.PAGE, peer=ELSEWHERE)
JANE = Actor(name="jane", role=Role.AGENT, way=Way.PAGE, peer=ELSEWHERE)


class House:
    """A relay's operations and its door, with a clock of its own."""

    def __init__(self, parts: ControlContext, logins: Logins) -> None:
        self.parts = parts
        self.operations = AdminOperations(parts)
        self.later = timedelta()
        self.door = Admission(parts, logins, pause=0.0, clock=lambda: datetime.now(UTC) + self.later)

    async def do(self, operation: str, /, **params: Any) -> Any:
        return await self.operations.run(operation, params)

    async def link(self, operation: str, /, **params: Any) -> str:
        """Make an invitation, and return what is secret in it."""
        return str((await self.do(operation, **params))["url"].rpartition("/")[2])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with parts_in(tmp_path) as parts:
        logins = Logins(parts.vault, parts.directory.routing)
        yield House(parts, logins)
        logins.close()


@pytest.fixture
async def peopled(house: House) -> House:
    await house.do("admin.add", name="ada", password=PASSWORD)
    await house.do("admin.add", name="vera", role="viewer", password=PASSWORD)
    await house.do("agent.login", name="jane", password=PASSWORD)
    await house.do("channel.login", name="support", password=PASSWORD)
    return house


@pytest.mark.parametrize(
    ("name", "who", "role"),
    [
        ("ada", "ada", Role.ADMINISTRATOR),
        ("ADA", "ada", Role.ADMINISTRATOR),
        ("vera", "vera", Role.VIEWER),
        ("jane", "jane", Role.AGENT),
        ("Jane@AcmeJets.example", "jane", Role.AGENT),
    ],
)
async def test_people_sign_in_by_name_and_agents_by_address_too(
    peopled: House, name: str, who: str, role: Role
) -> None:
    actor = await peopled.door.sign_in(name, PASSWORD, ELSEWHERE)
    assert actor == Actor(name=who, role=role, way=Way.PAGE, peer=ELSEWHERE)


@pytest.mark.parametrize("name", ["ada", "jane", "support", "support@acmejets.example", "nobody", "", "x" * 5000])
async def test_others_do_not_and_everybody_costs_one_hash(peopled: House, name: str) -> None:
    password = PASSWORD if name.startswith("support") else "wrong-password"
    with patch.object(logins_module, "_is_right", wraps=logins_module._is_right) as hashed:
        assert await peopled.door.sign_in(name, password, ELSEWHERE) is None
    assert hashed.call_count == 1


async def test_too_many_wrong_passwords_from_one_network_bar_it_for_every_name(peopled: House) -> None:
    for _ in range(5):
        assert await peopled.door.sign_in("ada", "wrong-password", ELSEWHERE) is None
    for name in ("ada", "jane"):
        with pytest.raises(TooMany, match="try again in 5 minutes") as caught:
            await peopled.door.sign_in(name, PASSWORD, ELSEWHERE)
        assert caught.value.seconds == 300
    assert await peopled.door.sign_in("ada", PASSWORD, FAR) is not None


async def test_behind_a_proxy_only_the_name_is_barred(peopled: House) -> None:
    for _ in range(5):
        await peopled.door.sign_in("ada", "wrong-password", HERE)
    with pytest.raises(TooMany):
        await peopled.door.sign_in("Ada", PASSWORD, HERE)
    assert await peopled.door.sign_in("jane", PASSWORD, HERE) is not None


async def test_a_crowd_has_no_more_answers_than_the_limit(peopled: House) -> None:
    tries = (peopled.door.sign_in("ada", f"wrong-password-{number}", FAR) for number in range(20))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(answer is None for answer in answers) == 5
    assert all(answer is None or isinstance(answer, TooMany) for answer in answers)


async def test_what_is_broken_is_for_the_log_and_not_for_strangers(
    peopled: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(_: object) -> None:
        raise StoreError("the store relay.db is damaged")

    monkeypatch.setattr(peopled.parts.people.administrators, "all", broken.__get__(object()))
    with pytest.raises(Refused, match=r"^nobody can sign in just now; relay's log says why$"):
        await peopled.door.sign_in("ada", PASSWORD, FAR)
    assert "the store relay.db is damaged" in capsys.readouterr().err


async def test_the_answer_to_a_third_wrong_password_waits(peopled: House) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    door = Admission(peopled.parts, peopled.door._sign_in._logins, pause=1.0)
    with patch("relay.control.people.sign_in.asyncio.sleep", sleep):
        for _ in range(5):
            await door.sign_in("ada", "wrong-password", FAR)
    assert waits == [0, 0, 1, 2, 4]


async def test_a_session_lasts_12_hours_and_2_without_use(peopled: House) -> None:
    cookie = await peopled.door.open_session(ADA)
    session = await peopled.door.session(cookie, ELSEWHERE)
    assert session is not None
    assert (session.actor, len(session.form_key)) == (ADA, 43)
    for hours in (1.9, 3.8, 5.7, 7.6, 9.5, 11.4):
        peopled.later = timedelta(hours=hours)
        again = await peopled.door.session(cookie)
        assert again is not None
        assert again.form_key == session.form_key
    peopled.later = timedelta(hours=12.1)
    assert await peopled.door.session(cookie) is None
    peopled.later = timedelta()
    unused = await peopled.door.open_session(ADA)
    # A page that stays open and reads itself is no use.
    peopled.later = timedelta(hours=1.9)
    assert await peopled.door.session(unused, is_use=False) is not None
    peopled.later = timedelta(hours=2.1)
    assert await peopled.door.session(unused) is None
    peopled.later = timedelta()
    assert await peopled.door.session(unused) is None


async def test_what_a_clock_made_that_was_ahead_holds_no_longer_than_it_would_have(peopled: House) -> None:
    cookie = await peopled.door.open_session(ADA)
    token = await peopled.link("agent.invite", name="jane")
    peopled.later = timedelta(minutes=-4)
    assert await peopled.door.session(cookie) is not None
    assert await peopled.door.invitation(token) is not None
    peopled.later = timedelta(hours=-2)  # it is set back
    assert await peopled.door.session(cookie) is None
    assert await peopled.door.invitation(token) is None
    with pytest.raises(Refused):
        await peopled.door.accept_agent(token, PASSWORD, None)


async def test_cookies_differ_and_none_is_stored(peopled: House) -> None:
    cookies = [await peopled.door.open_session(ADA) for _ in range(3)]
    assert len(set(cookies)) == 3
    path = peopled.parts.settings.state_dir / "relay.db"
    kept = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    assert not any(cookie.encode() in kept for cookie in cookies)
    await peopled.door.close_session(cookies[0])
    assert [await peopled.door.session(cookie) is None for cookie in cookies] == [True, False, False]
    for nonsense in ("", "x", "\udcff", "ü" * 100):
        assert await peopled.door.session(nonsense) is None
        await peopled.door.close_session(nonsense)


@pytest.mark.parametrize(
    ("operation", "params", "actor"),
    [
        ("admin.password", {"name": "ada", "password": PASSWORD}, ADA),
        ("admin.remove", {"name": "vera"}, Actor(name="vera", role=Role.VIEWER, way=Way.PAGE)),
        ("admin.set", {"name": "vera", "role": "administrator"}, Actor(name="vera", role=Role.VIEWER, way=Way.PAGE)),
        ("agent.login", {"name": "jane", "password": PASSWORD}, JANE),
        ("agent.remove", {"name": "jane"}, JANE),
    ],
)
async def test_a_session_ends_with_the_person_the_role_and_the_password(
    peopled: House, operation: str, params: dict[str, Any], actor: Actor
) -> None:
    cookie = await peopled.door.open_session(actor)
    other = await peopled.door.open_session(ADA if actor is not ADA else JANE)
    assert await peopled.door.session(cookie) is not None
    await peopled.do(operation, **params)
    assert await peopled.door.session(cookie) is None
    assert await peopled.door.session(other) is not None


async def test_an_agent_that_an_editor_took_out_is_signed_out(peopled: House, tmp_path: Path) -> None:
    cookie = await peopled.door.open_session(JANE)
    file = tmp_path / "state/directory.toml"
    text = file.read_text()
    file.write_text(text[: text.index("[agents.jane]")])
    await peopled.do("status")
    assert await peopled.door.session(cookie) is None
    file.write_text(text)
    await peopled.do("status")
    assert await peopled.door.session(cookie) is None


async def test_a_token_lets_a_program_in_until_it_is_removed(peopled: House) -> None:
    token = (await peopled.do("token.add", name="ci", role="viewer"))["token"]
    assert await peopled.door.bearer(token, FAR) == Actor(name="ci", role=Role.VIEWER, way=Way.API, peer=FAR)
    (listed,) = await peopled.do("token.list")
    assert listed.keys() == {"name", "role", "created", "used"}
    assert listed["used"] is not None
    assert await peopled.door.bearer(token + "x", FAR) is None
    await peopled.do("token.remove", name="ci")
    assert await peopled.door.bearer(token, FAR) is None


async def test_an_agent_accepts_an_invitation_once(house: House) -> None:
    token = await house.link("agent.invite", name="jane")
    invitation = await house.door.invitation(token)
    assert invitation is not None
    assert invitation == Invitation("agent", "jane", Role.AGENT, invitation.expires)
    actor, login = await house.door.accept_agent(token, PASSWORD, "mail-password", ELSEWHERE)
    assert actor == JANE
    assert login is not None
    assert login.state is LoginState.UNKNOWN, "nobody answers for smtp.acmejets.example here"
    assert await house.door.invitation(token) is None
    with pytest.raises(Refused, match="used already, or it is older than 24 hours"):
        await house.door.accept_agent(token, PASSWORD, None)
    assert await house.door.sign_in("jane", PASSWORD, ELSEWHERE) == JANE
    assert (await house.do("agent.show", name="jane"))["password_set"]
    entry = (await house.do("audit.list"))["items"][0]
    assert (entry["who"], entry["role"], entry["operation"], entry["peer"]) == (
        "jane",
        "agent",
        "agent.welcome",
        ELSEWHERE,
    )
    assert [change["key"] for change in entry["changes"]] == ["login", "password"]


async def test_of_two_who_come_with_one_link_one_is_let_in(house: House) -> None:
    token = await house.link("agent.invite", name="jane")
    accepting = (house.door.accept_agent(token, f"{PASSWORD}-{number}", None) for number in range(4))
    done = await asyncio.gather(*accepting, return_exceptions=True)
    assert sum(isinstance(one, tuple) for one in done) == 1
    assert sum(isinstance(one, Refused) for one in done) == 3
    winner = next(number for number, one in enumerate(done) if isinstance(one, tuple))
    assert await house.door.sign_in("jane", f"{PASSWORD}-{winner}", FAR) is not None


async def test_a_password_that_cannot_be_one_uses_nothing_up(house: House) -> None:
    token = await house.link("agent.invite", name="jane")
    with pytest.raises(Refused, match="at least 8 characters"):
        await house.door.accept_agent(token, "short", None)
    with pytest.raises(Refused, match="one line of text"):
        await house.door.accept_agent(token, PASSWORD, "two\nlines")
    assert await house.door.invitation(token) is not None
    first = await house.link("admin.add", name="ada")
    with pytest.raises(Refused, match="at least 8 characters"):
        await house.door.accept_admin(first, "ada", "short")
    assert (await house.door.accept_admin(first, "ada", PASSWORD)).role is Role.ADMINISTRATOR


async def test_an_invitation_ends_after_24_hours_by_a_new_one_and_with_its_agent(house: House) -> None:
    old = await house.link("agent.invite", name="jane")
    token = await house.link("agent.invite", name="jane")
    assert await house.door.invitation(old) is None
    house.later = timedelta(hours=24)
    assert await house.door.invitation(token) is None
    with pytest.raises(Refused, match="older than 24 hours"):
        await house.door.accept_agent(token, PASSWORD, None)
    house.later = timedelta()
    await house.do("agent.remove", name="jane")
    assert await house.door.invitation(token) is None
    with pytest.raises(Refused, match="used already"):
        await house.door.accept_agent(token, PASSWORD, None)


async def test_an_invitation_ends_with_another_login_password(house: House) -> None:
    token = await house.link("agent.invite", name="jane")
    await house.do("agent.login", name="jane", password=PASSWORD)
    assert await house.door.invitation(token) is None
    with pytest.raises(Refused, match="used already"):
        await house.door.accept_agent(token, PASSWORD + "2", None)
    assert await house.door.sign_in("jane", PASSWORD, ELSEWHERE) == JANE


async def test_a_link_of_one_kind_is_none_of_the_other(house: House) -> None:
    token = await house.link("agent.invite", name="jane")
    with pytest.raises(Refused, match="used already"):
        await house.door.accept_admin(token, "jane-admin", PASSWORD)
    assert await house.do("admin.list") == []


async def test_a_link_for_an_administrator_is_for_that_name(house: House) -> None:
    token = await house.link("admin.add", name="vera", role="viewer")
    with pytest.raises(Refused, match="this link is for 'vera'"):
        await house.door.accept_admin(token, "ada", PASSWORD)
    assert (await house.door.accept_admin(token, "vera", PASSWORD)).role is Role.VIEWER
    assert [one["password_set"] for one in await house.do("admin.list")] == [True]
    again = await house.link("admin.invite", name="vera")
    await house.door.accept_admin(again, "vera", PASSWORD + "2")
    assert await house.door.sign_in("vera", PASSWORD + "2", FAR) is not None


async def test_people_have_names_of_their_own(peopled: House) -> None:
    for name, sentence in (
        ("Ada", "there is 'Ada' already"),
        ("jane", "agent 'jane' signs in by 'jane'"),
        ("jane@acmejets.example", "agent 'jane' signs in by"),
        ("no name", "a name cannot contain spaces"),
    ):
        with pytest.raises(Refused, match=sentence) as caught:
            await peopled.do("admin.add", name=name, password=PASSWORD)
        assert caught.value.key == "name"


async def test_the_last_administrator_stays(peopled: House) -> None:
    for operation, params in (("admin.remove", {}), ("admin.set", {"role": "viewer"})):
        with pytest.raises(Refused, match="'ada' is the last administrator"):
            await peopled.do(operation, name="ada", **params)
    await peopled.do("admin.set", name="vera", role="administrator")
    await peopled.do("admin.remove", name="ada")
    assert [one["name"] for one in await peopled.do("admin.list")] == ["vera"]
    assert "admin/ada" not in peopled.parts.vault.owners()


async def test_passwords_of_people_are_listed_as_used(peopled: House) -> None:
    used = {record["owner"]: record["used"] for record in await peopled.do("secrets.list")}
    assert used["admin/ada"]
    assert used["admin/vera"]
