"""Who can log in: right and wrong passwords, names that are nobody's, and what each of them costs."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.directory.directory import Directory
from relay.directory.model import Agent, Application, Channel, Server
from relay.directory.routing import Routing
from relay.secrets import authentication as module
from relay.secrets.authentication import Logins, RememberedLogins, TooManyLogins
from relay.secrets.login_password import PasswordHash, is_hash_of, login_owner, make_record
from relay.secrets.master_key import key_source
from relay.secrets.sources import SecretUnavailable
from relay.secrets.vault import Vault
from relay.store.people.secrets import SecretTable

PASSWORD = "geheim-12345"
DIRECTORY = Directory(
    default_server="main",
    servers={"main": Server(name="main", host="h", username="m@acme.example")},
    channels={"support": Channel(name="support", address="support@acme.example")},
    agents={"jane": Agent(name="jane", address="jane@acme.example", may_send_as=("support",))},
    applications={"crm": Application(name="crm", may_send_as=("*",))},
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class House:
    """The logins of a small directory, and how many hashes they made."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self.vault = vault
        self.clock = clock
        self.directory = DIRECTORY
        self.hashes: list[str] = []
        self.logins = Logins(vault, lambda: Routing(self.directory), clock)

    async def set_password(self, name: str, password: str = PASSWORD) -> None:
        await self.vault.put(login_owner(name), make_record(password).as_text)

    async def check(self, name: str, password: str = PASSWORD) -> str | None:
        login = await self.logins.check(name, password)
        return login.name if login else None


@pytest.fixture
def house(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    house = House(vault, Clock())

    def counted(hash_: PasswordHash, password: str) -> bool:
        house.hashes.append(hash_.kind)
        return is_hash_of(hash_, password)

    monkeypatch.setattr(module, "is_hash_of", counted)
    yield house
    house.logins.close()


async def test_the_right_password_logs_in_by_name_and_address(house: House) -> None:
    await house.set_password("jane")
    login = await house.logins.check("Jane@ACME.example", PASSWORD)
    assert login is not None
    assert (login.name, login.may_send_as) == ("jane", ("jane", "support"))
    assert await house.check("JANE") == "jane"
    await house.set_password("crm", "another-password")
    assert await house.check("crm", "another-password") == "crm"
    assert await house.check("crm") is None


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("jane", "wrong-password"),
        ("jane", ""),
        ("jane", "x" * 5000),
        ("jane", "\ud800" * 10),
        ("support", PASSWORD),  # has no login password
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("x" * 5000, PASSWORD),
    ],
)
async def test_whatever_is_wrong_costs_one_hash_of_the_same_kind(house: House, name: str, password: str) -> None:
    await house.set_password("jane")
    assert await house.check(name, password) is None
    assert house.hashes == ["argon2id"]


async def test_a_login_that_was_right_costs_no_second_hash(house: House) -> None:
    await house.set_password("jane")
    for name in ("jane", "JANE", "jane@acme.example"):
        assert await house.check(name) == "jane"
    assert len(house.hashes) == 1
    house.clock.now += 601
    assert await house.check("jane") == "jane"
    assert len(house.hashes) == 2
    assert await house.check("jane", PASSWORD + "x") is None
    assert len(house.hashes) == 3, "a wrong one is never known"


async def test_a_changed_or_removed_password_counts_at_once(house: House) -> None:
    await house.set_password("jane")
    assert await house.check("jane") == "jane"
    await house.set_password("jane", "new-password")
    assert await house.check("jane") is None
    assert await house.check("jane", "new-password") == "jane"
    await house.set_password("jane")
    assert await house.check("jane") == "jane", "the same again is another record"
    await house.vault.delete(login_owner("jane"))
    assert await house.check("jane") is None


async def test_a_password_that_another_process_sets_or_removes_counts_at_once(
    house: House, table: SecretTable, tmp_path: Path
) -> None:
    other = await Vault.open(table, key_source("file:master.key", tmp_path, {}))
    assert await house.check("jane") is None
    await other.put(login_owner("jane"), make_record(PASSWORD).as_text)
    assert await house.check("jane") == "jane"
    await other.put(login_owner("jane"), make_record("new-password").as_text)
    assert await house.check("jane") is None
    await other.rotate()
    assert await house.check("jane", "new-password") == "jane"
    await other.delete(login_owner("jane"))
    assert await house.check("jane", "new-password") is None


async def test_who_leaves_the_directory_cannot_log_in(house: House) -> None:
    await house.set_password("jane")
    assert await house.check("jane") == "jane"
    house.directory = Directory()
    assert await house.check("jane") is None


async def test_a_name_has_its_own_verifier_or_always_the_same_that_fits_nothing(house: House) -> None:
    await house.set_password("jane")
    login, verifier = await house.logins.verifier("Jane@acme.example")
    assert login is not None
    assert login.name == "jane"
    assert verifier == (await house.logins.verifier("jane"))[1]
    for name in ("support", "nobody"):
        nobody, fake = await house.logins.verifier(name)
        assert nobody is None
        assert (fake.iterations, len(fake.salt)) == (verifier.iterations, len(verifier.salt))
        assert fake == (await house.logins.verifier(name.upper()))[1]
        assert fake == (await Logins(house.vault, lambda: Routing(DIRECTORY)).verifier(name))[1], "after a restart"
    assert not house.hashes


async def test_a_damaged_record_is_told_and_lets_nobody_in(house: House) -> None:
    await house.vault.put(login_owner("jane"), "no record")
    with pytest.raises(SecretUnavailable, match="login password of jane is kept in a form"):
        await house.check("jane")
    with pytest.raises(SecretUnavailable):
        await house.logins.verifier("jane")


async def test_a_lost_master_key_is_told(house: House, table: SecretTable, tmp_path: Path) -> None:
    await house.set_password("jane")
    await (await Vault.open(table, key_source("file:master.key", tmp_path, {}))).rotate()
    (tmp_path / "master.key").unlink()
    with pytest.raises(SecretUnavailable, match="master key"):
        await house.check("jane")


async def test_only_so_many_wait_for_a_hash_and_the_rest_are_told_to_come_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.set_password("jane")
    assert await house.check("jane") == "jane"
    go = threading.Event()
    monkeypatch.setattr(module, "is_hash_of", lambda *_: not go.wait(60))
    waiting = [asyncio.create_task(house.check(f"nobody{number}")) for number in range(70)]
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION, timeout=60)
    while len(pending) > 64:
        done, pending = await asyncio.wait(waiting, timeout=0.05)
    assert {type(task.exception()) for task in done} == {TooManyLogins}
    assert await house.check("jane") == "jane", "who is remembered waits for nobody"
    go.set()
    assert await asyncio.gather(*pending) == [None] * 64
    assert await house.check("nobody") is None, "there is room again"


async def test_a_client_that_leaves_makes_room(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(module, "is_hash_of", lambda *_: not go.wait(60))
    waiting = [asyncio.create_task(house.check("nobody")) for _ in range(64)]
    await asyncio.wait(waiting, timeout=0.2)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    go.set()
    assert await house.check("nobody") is None


def test_only_so_many_logins_are_remembered() -> None:
    remembered = RememberedLogins(Clock())
    for number in range(1100):
        remembered.keep(f"name{number}", "password", "v1")
    assert len(remembered) == 1000
    assert not remembered.knows("name99", "password", "v1")
    assert remembered.knows("name100", "password", "v1")
    assert remembered.knows("name1099", "password", "v1")


@pytest.mark.parametrize(
    ("name", "password", "version"),
    [("jan", "epassword", "v1"), ("janep", "assword", "v1"), ("jane", "Password", "v1"), ("jane", "password", "v2")],
)
def test_a_remembered_login_is_name_password_and_version(name: str, password: str, version: str) -> None:
    remembered = RememberedLogins(Clock())
    remembered.keep("jane", "password", "v1")
    assert remembered.knows("jane", "password", "v1")
    assert not remembered.knows(name, password, version)
