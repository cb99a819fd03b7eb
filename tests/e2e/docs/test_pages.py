"""The shell blocks of a page, run from top to bottom in a world of its own with real parts."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.docs.blocks import (
    _BLOCK,
    AFRESH,
    NOT_RUN,
    OTHERS,
    PRELUDE,
    ROOT,
    _reason,
    lines_of,
    runnable,
    world,
)
from tests.peers.system import run

pytestmark = pytest.mark.slow

DOCS = ROOT / "docs"

# tests/e2e/packaging does what install.md and systemd.md say, tests/bench what performance.md does.
ELSEWHERE = {"architecture.md", "performance.md", "systemd.md", "install.md"}
FAST = {"README.md"}
# Programs of the system that the commands of a page call.
CALLS = {"pages.md": ("curl",), "quickstart.md": ("mutt", "openssl")}


def pages() -> Iterator[Path]:
    """Yield the pages with shell blocks that are run here."""
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        if page.name not in ELSEWHERE and "reference" not in page.parts and _BLOCK.search(page.read_text()):
            yield page


# What is looked at behind a line, by the page and how the line begins; {…} are words of the page.
LOOKS = {
    "quickstart.md: relay messages list": r"""
printf '{mutt}\n' > muttrc
echo hello | mutt -F muttrc -s 'From mutt' you@example.net
until relay messages list | grep delivered | sed 1d | grep -q support; do sleep 0.2; done
grep -v ssl_force_tls muttrc > tls_muttrc
if echo hello | mutt -F tls_muttrc -s 'From mutt' you@example.net; then exit 1; fi
""",
    "quickstart.md: relay agent invite": r"""
relay agent invite jane | grep -q '^https://relay.acmejets.example/welcome/'
""",
    "quickstart.md: relay doctor": r"""
relay status --json | grep -q 127.0.0.1:2525
python3 - << 'END'
import smtplib, ssl
with smtplib.SMTP("127.0.0.1", 2587) as software:
    context = ssl.create_default_context(cafile="/etc/relay/tls/fullchain.pem")
    software._host = "relay.acmejets.example"
    software.starttls(context=context)
    software.login("contact-center", open("login").read().strip())
    software.sendmail("support@acmejets.example", ["you@example.net"], "Subject: x\n\nx\n")
END
""",
}


def script_of(page: Path) -> str:
    """Return the script of a page, before it what its first block takes for granted."""
    lines = [*BEFORE.get(page.name, ()), *lines_of(page)]
    if page.name in AFRESH:  # and so makes what it reads
        lines.insert(0, "rm password secret login")
    return PRELUDE + "\n".join(runnable(page, line) + _look(page, line) for line in lines) + "\n"


def _look(page: Path, line: str) -> str:
    look = next((look for place, look in LOOKS.items() if f"{page.name}: {line}".startswith(place)), "")
    mutt = re.findall(r"`(set [^`]*)`", "".join(re.findall(r"^\| mutt \| .*$", page.read_text(), re.MULTILINE)))
    return look.replace("{mutt}", r"\n".join(mutt))


BEFORE = {
    "moving.md": OTHERS,
    "troubleshooting.md": (
        "relay server add acmejets --provider google --username mailer@acmejets.example --password-stdin < password",
        "relay channel add support --address support@acmejets.example",
        "relay serve",
    ),
    "pages.md": (
        "relay server add acmejets --host smtp.gmail.com --username m@acmejets.example --password-stdin < password",
        "relay agent add jane --address jane@acmejets.example",
        "relay serve",
    ),
    "security.md": ("relay server add acmejets --host smtp.gmail.com --password-stdin < password",),
}


@pytest.mark.timeout(300)
@pytest.mark.needs("root", "unshare", "nsd")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=page.name,
            marks=[pytest.mark.needs(*CALLS.get(page.name, ())), *([] if page.name in FAST else [pytest.mark.slow])],
        )
        for page in pages()
    ],
)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(script_of(page))
    how = () if page.name in FAST else ("preloaded",)
    done = run(world(script, *how), seconds=280, cwd=ROOT)
    assert done.status == 0, f"{done.out[-3000:]}\n{done.err[-3000:]}"
    assert "Traceback" not in done.text


def test_every_line_that_is_not_run_is_one_of_a_page() -> None:
    left_out = {_reason(page, line) for page in pages() for line in lines_of(page)}
    assert set(NOT_RUN) - left_out == set()
