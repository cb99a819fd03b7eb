"""Sessions that others would like to have: laid before the sign-in, kept after its end, or guessed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, VIEWER, Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.visitor import Page, Visitor, signed_in

pytestmark = pytest.mark.slow

FIXED = "laid-there-by-somebody-else"
SECURE = "__Host-relay"


def is_in(visitor: Visitor) -> bool:
    """Whether somebody is signed in."""
    return visitor.get("/administrators").status == 200


def flags(page: Page, name: str) -> set[str]:
    """Return what a cookie's line says beside its value."""
    return {part.strip().lower().partition("=")[0] for part in page.set_cookie(name).split(";")[1:]}


@pytest.fixture(scope="module")
def secure(upstream: Recorder) -> Iterator[tuple[Console, Visitor]]:
    """A relay that people reach by HTTPS, through a reverse proxy, and a browser there."""
    directory = one_channel(open_server(upstream.port))
    with console_process(directory, public_url="https://relay.acmejets.example") as console:
        yield console, Visitor(console.url, cookie_name=SECURE)


def test_the_cookie_from_before_the_sign_in_is_worth_nothing(console: Console) -> None:
    visitor = Visitor(console.url, FIXED)
    assert visitor.get("/sign-in").set_cookie() == ""
    assert visitor.sign_in(ADMINISTRATOR, canary(ADMINISTRATOR)).status == 303
    assert FIXED not in visitor.cookie
    assert len(visitor.cookie) >= 43  # 256 bits
    assert is_in(visitor)
    assert not is_in(Visitor(console.url, FIXED))


def test_a_sign_in_over_a_session_ends_that(console: Console) -> None:
    first = signed_in(console, VIEWER, canary(VIEWER))
    again = Visitor(console.url, first.cookie)
    again.sign_in(ADMINISTRATOR, canary(ADMINISTRATOR))
    assert again.cookie != first.cookie
    assert not is_in(first)
    assert is_in(again)


def test_a_failed_sign_in_gives_no_cookie_and_takes_none_away(console: Console) -> None:
    visitor = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
    page = Visitor(console.url, visitor.cookie).sign_in(ADMINISTRATOR, "wrong")
    assert (page.status, page.set_cookie()) == (403, "")
    assert is_in(visitor)


def test_signing_out_ends_the_session_at_the_server(console: Console) -> None:
    visitor = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
    page = visitor.submit("/sign-out")
    assert page.status == 303
    assert page.cookie() in {"", '""'}
    assert not is_in(visitor)


@pytest.mark.parametrize("change", ["password", "role", "removal"])
def test_what_an_administrator_does_to_a_person_ends_the_sessions(change: str, console: Console) -> None:
    name = f"temp-{change}"
    password = console.add_person(name)
    visitors = [signed_in(console, name, password) for _ in range(2)]
    boss = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
    assert all(is_in(one) for one in visitors)
    where = f"/administrators/{name}"
    done = {
        "password": lambda: boss.submit(f"{where}/password", way="password", password=canary("another")),
        "role": lambda: boss.submit(where, role="viewer"),
        "removal": lambda: boss.submit(f"{where}/remove"),
    }[change]()
    assert done.status == 303, done.text
    assert not any(is_in(one) for one in visitors)
    assert is_in(boss)


def test_a_name_that_comes_back_gets_no_old_session(console: Console) -> None:
    visitor = signed_in(console, "comes-back", console.add_person("comes-back"))
    assert console.relay.command("admin", "remove", "comes-back").status == 0
    console.add_person("comes-back")
    assert not is_in(visitor)


def test_no_cookie_is_read_by_script_or_sent_to_other_sites(console: Console) -> None:
    page = Visitor(console.url).sign_in(ADMINISTRATOR, canary(ADMINISTRATOR))
    assert {"httponly", "samesite", "path", "max-age"} <= flags(page, "relay")
    assert "samesite=lax" in page.set_cookie().lower()
    assert "domain" not in flags(page, "relay")


def test_by_https_a_cookie_is_for_this_host_alone(secure: tuple[Console, Visitor]) -> None:
    console, visitor = secure
    page = visitor.sign_in(ADMINISTRATOR, canary(ADMINISTRATOR))
    assert page.status == 303
    assert {"secure", "httponly", "samesite", "path"} <= flags(page, SECURE)
    assert "Path=/" in page.set_cookie(SECURE)
    assert "domain" not in flags(page, SECURE)
    assert page.set_cookie() == ""
    assert is_in(visitor)
    # A cookie without the prefix could have come by HTTP, or from a neighbour of this host.
    assert not is_in(Visitor(console.url, visitor.cookie))
    gone = visitor.submit("/sign-out")
    assert {"secure", "path"} <= flags(gone, SECURE)
    assert {"secure", "httponly", "samesite"} <= flags(gone, "relay-notice")
    assert not is_in(visitor)


def accept(console: Console, link: str, whose: str) -> Page:
    """Send the form of an invitation, and return the answer."""
    return Visitor(console.url).post(link.removeprefix(console.url), {"password": canary(whose)}, Origin=console.url)


def test_of_many_who_come_with_one_link_at_once_one_is_let_in(console: Console) -> None:
    done = console.relay.command("admin", "add", "guest", "--link")
    link = next(word for word in done.out.split() if "/welcome/" in word)
    with ThreadPoolExecutor(6) as pool:
        pages = list(pool.map(lambda number: accept(console, link, f"guest {number}"), range(6)))
    assert sorted(page.status for page in pages) == [303, *[410] * 5]
    assert sorted(bool(page.cookie()) for page in pages) == [*[False] * 5, True]
    winner = next(number for number, page in enumerate(pages) if page.status == 303)
    # Nobody else's password counts, and the link is worth nothing more.
    assert accept(console, link, "guest again").status == 410
    assert Visitor(console.url).sign_in("guest", canary("guest again")).status == 403
    assert Visitor(console.url).sign_in("guest", canary(f"guest {winner}")).status == 303


def test_a_link_is_not_guessed_from_another(console: Console) -> None:
    found = [console.relay.command("admin", "add", f"invited{number}", "--link").out.split() for number in range(2)]
    tokens = [word.rpartition("/")[2] for words in found for word in words if "/welcome/" in word]
    assert len(set(tokens)) == 2
    assert all(len(one) >= 43 for one in tokens)
    for wrong in (tokens[0][:-1], tokens[0] + "x", tokens[0].swapcase(), tokens[0][::-1], "%00", "*"):
        assert Visitor(console.url).get(f"/welcome/{wrong}").status == 410


@pytest.mark.parametrize("cookie", ["", "x", "../../etc/passwd", "' OR 1=1 --", "a" * 4000, "%00", '"quoted"'])
def test_a_cookie_that_is_none_leads_to_the_sign_in(cookie: str, console: Console) -> None:
    page = Visitor(console.url, cookie).get("/agents")
    assert (page.status, page.where) == (303, "/sign-in?next=%2Fagents")
