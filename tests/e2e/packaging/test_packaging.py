"""Installing Relay: by make, as a Debian package, in a container; and what the files for that say of each other."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.packaging.container import COMPOSE, FILE, composed, instructions, last_stage, value
from tests.e2e.packaging.journey import STEPS
from tests.e2e.packaging.overlay import apart
from tests.e2e.packaging.readme import NEEDS as READING
from tests.e2e.packaging.readme import PROGRAMS, SENDMAIL, follow_readme
from tests.e2e.packaging.readme import copied as copied_from
from tests.peers.release import without_history
from tests.peers.system import Finished, private_folder, run

ROOT = Path(__file__).parents[3]
PACKAGING = ROOT / "etc/packaging"
DEBIAN = PACKAGING / "debian"
SCRIPTS = ("postinst", "prerm", "postrm")
MIGRATIONS = ":(glob)relay/store/**/migrations/versions/*.py"  # wherever they stood: a move adds none
# What docs/sendmail.md names beside programs of ours.
OTHERS = (
    "/etc/mailname",
    "/usr/sbin/sendmail",
    "/usr/sbin/mailq",
    "/var/lib/relay/submit.sock",
    "/run/relay/submit.sock",
)
NEEDS = ("root", "python3", "unshare", "setpriv", "systemd-analyze", "systemd-sysusers", "systemd-tmpfiles")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PIP_PYTHON": sys.executable, **more}


def make(*arguments: str, folder: Path = ROOT) -> Finished:
    """Run make as a user does, but with the environment of this run for its pip."""
    return run(["make", "-C", str(folder), f"VENV={sys.prefix}", *arguments], env=environment(), seconds=200)


def good(done: Finished) -> Finished:
    assert done.status == 0, done.text
    return done


def tree(folder: Path) -> dict[str, int]:
    """Every file and link below a folder, with its mode."""
    return {str(path.relative_to(folder)): path.lstat().st_mode for path in folder.rglob("*")}


# What the files say.


@pytest.mark.parametrize(
    "script", [*PACKAGING.glob("*.sh"), *(DEBIAN / name for name in SCRIPTS)], ids=lambda p: p.name
)
def test_the_scripts_can_be_read_by_any_shell(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n")
    assert os.access(script, os.X_OK) == (script.suffix == ".sh")
    good(run(["sh", "-n", str(script)]))


def test_the_package_knows_every_unit() -> None:
    units = {path.name for path in (ROOT / "systemd").glob("relay*")}
    for name in ("prerm", "postrm"):
        assert set(re.findall(r"relay[\w-]*\.(?:service|socket)", (DEBIAN / name).read_text())) == units, name


def test_the_package_is_of_the_python_that_the_project_wants() -> None:
    assert (DEBIAN / "conffiles").read_text() == "/etc/relay/relay.toml\n"
    depends = re.findall(r"^Depends: (.*)$", (DEBIAN / "control.in").read_text(), re.MULTILINE)[0]
    assert depends.startswith("python3 (>= @PYTHON@), python3 (<< @NEXT_PYTHON@), ")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"PREFIX": "opt/relay"}, "PREFIX=opt/relay is no absolute path; call: make install PREFIX=/usr/local"),
        ({"PYTHON": "{closed}"}, "which is in a private folder; call: make install PYTHON=/usr/bin/python3"),
    ],
)
def test_what_cannot_be_installed_is_one_sentence(given: dict[str, str], words: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # Python finds its libraries by where it is: a copy of the program alone must be told.
    shutil.copy(Path(sys.executable).resolve(), closed / "python")
    given = {name: value.format(closed=closed / "python") for name, value in given.items()}
    done = run(
        ["sh", str(PACKAGING / "install.sh")],
        env=environment(DESTDIR=str(tmp_path / "image"), PYTHONHOME=sys.base_prefix, **given),
    )
    assert (done.status, done.out) == (1, "")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "image").exists()


def test_nothing_is_taken_away_that_was_not_installed(tmp_path: Path) -> None:
    done = run(["sh", str(PACKAGING / "uninstall.sh")], env=environment(DESTDIR=str(tmp_path), PREFIX="/usr"))
    assert (done.status, "nothing was installed by make install PREFIX=/usr" in done.err) == (1, True)


def test_the_page_about_sendmail_names_the_places_where_it_is_put() -> None:
    text = SENDMAIL.read_text()
    rows = dict(re.findall(r"^\| (.*?) \| (\S*/relay-sendmail)\b", text, re.MULTILINE))
    prefix = re.findall(r"^PREFIX \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rows["`make install`"] == f"{prefix[0]}/bin/relay-sendmail" == f"{PROGRAMS}/relay-sendmail"
    assert "PREFIX=/usr " in (PACKAGING / "deb.sh").read_text()
    assert "PREFIX=/usr " in (PACKAGING / "Containerfile").read_text()
    assert rows["Debian package, or in the container image"] == "/usr/bin/relay-sendmail"
    # All others are the system's, and the service's own.
    named = set(re.findall(r"(?<![\w~.:-])/(?:etc|opt|run|usr|var)/[\w./-]*\w", text))
    assert named == {*OTHERS, *(row for row in rows.values() if row.startswith("/"))}


# The container, without a container engine: its lines, and what they name.


def copied() -> dict[str, str]:
    """What is copied from this folder, and where to."""
    found: dict[str, str] = {}
    for name, rest in instructions():
        *sources, target = rest.split()
        if name == "COPY" and not sources[0].startswith("--from"):
            found |= {source: f"{target}{source}" if target.endswith("/") else target for source in sources}
    return found


def test_the_container_has_instructions_that_there_are() -> None:
    known = {"FROM", "RUN", "COPY", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} <= known
    for name, rest in instructions():
        if name == "RUN":
            good(run(["sh", "-n", "-c", rest]))
        if name in {"ENTRYPOINT", "CMD"}:
            assert isinstance(json.loads(rest), list)


def test_the_container_runs_as_the_user_that_it_made_and_says_how() -> None:
    lines, (user, _, group) = last_stage(), value("USER").partition(":")
    made = next(index for index, (name, rest) in enumerate(lines) if name == "RUN" and rest.startswith("useradd"))
    assert made < lines.index(("USER", f"{user}:{group}"))
    assert f"--uid {user} --user-group" in lines[made][1]
    assert user == group
    service = re.findall(r"^ExecStart=(.*)$", (ROOT / "systemd/relay.service").read_text(), re.MULTILINE)[0].split()
    assert [*json.loads(value("ENTRYPOINT")), *json.loads(value("CMD"))] == [Path(service[0]).name, *service[1:]]
    assert all(f":{port}" in (ROOT / "etc/relay.toml").read_text() for port in value("EXPOSE").split())


def test_a_linter_has_nothing_against_the_container() -> None:
    linter = Path(sys.prefix) / "bin/hadolint"
    # Versions of packages are those of the release of Debian.
    good(run([str(linter), "--ignore", "DL3008", str(FILE)]))


def test_compose_builds_that_image_and_opens_its_ports_here_alone() -> None:
    service = composed()
    build = service["build"]
    context = (COMPOSE.parent / build["context"]).resolve()
    assert (context, context / build["dockerfile"]) == (ROOT, FILE)
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in value("EXPOSE").split()]
    read = {name: text for name, text in service["environment"].items() if not name.startswith("RELAY_")}
    assert read == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.needs("make", "python3", "go", *READING)
def test_the_container_can_be_made_and_runs(tmp_path: Path) -> None:
    """Its line with make, run in a folder that has what COPY brings and nothing else; then the rest of it."""
    for source, target in copied().items():
        place = tmp_path / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, place)
    (line,) = (rest for name, rest in instructions() if name == "RUN" and rest.startswith("make "))
    arguments = [word.replace("DESTDIR=/", f"DESTDIR={tmp_path}/") for word in shlex.split(line)[3:]]
    good(make(*arguments, folder=tmp_path / "source"))
    image = tmp_path / "image"
    assert {"usr/bin/relay", "usr/bin/relay-sendmail", "etc/relay/relay.toml"} <= set(tree(image))
    # No file says where it was made.
    naming = run(["grep", "-rlF", str(tmp_path), str(image)])
    assert (naming.status, naming.out) == (1, "")
    good(run(apart("tests.e2e.packaging.container", str(image)), seconds=100, cwd=ROOT))
    good(follow_readme(copied_from(image), "/usr/share", "/usr/bin"))


# For real.


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.needs("make", *NEEDS, *READING)
def test_make_install_puts_it_there_twice_and_takes_it_away() -> None:
    with private_folder("install") as folder:
        arguments = ("PREFIX=/opt/relay", f"DESTDIR={folder}", "PYTHON=/usr/bin/python3")
        good(make("install", *arguments))
        first = tree(folder)
        # As an earlier version left it, whose distribution had the name "relay".
        (old,) = folder.glob("opt/relay/lib/relay/lib/python3.*/site-packages/relay_submission-*.dist-info")
        old.rename(old.with_name(old.name.replace("relay_submission", "relay")))
        pages = [f"opt/relay/share/man/man{page.suffix[1:]}/{page.name}" for page in (ROOT / "docs/man").iterdir()]
        assert pages
        assert set(pages) <= set(first)
        settings = folder / "etc/relay/relay.toml"
        settings.write_text(settings.read_text() + "# mine\n")
        good(make("install", *arguments))
        assert tree(folder) == first
        assert settings.read_text().endswith("# mine\n")
        unit = (folder / "etc/systemd/system/relay.service").read_text()
        assert "ExecStart=/opt/relay/bin/relay serve --config /etc/relay/relay.toml\n" in unit
        good(follow_readme(copied_from(folder), "/opt/relay/share", "/opt/relay/bin"))
        good(run(apart("tests.e2e.packaging.local_install", str(folder)), seconds=120, cwd=ROOT))
        good(make("uninstall", *arguments))
        assert {name for name in tree(folder) if not (folder / name).is_dir()} == {"etc/relay/relay.toml"}
        assert not (folder / "opt/relay").exists()


@pytest.fixture(scope="module")
def package() -> Iterator[Path]:
    """The package of this tree."""
    with private_folder("package") as folder:
        yield _package(ROOT, folder, "1.0.0-1")


@pytest.fixture(scope="module")
def older_package() -> Iterator[Path]:
    """The package of the version before the newest migration, as the history of this project has it."""
    if run(["git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository"]).out != "false\n":
        without_history()
    added = run(
        ["git", "-C", str(ROOT), "log", "--diff-filter=A", "--format=%H", "--", MIGRATIONS], seconds=60
    ).out.split()
    with private_folder("older") as folder:
        old = folder / "sources"
        old.mkdir()
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", f"{added[0]}^"], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", str(old)], input=archive.stdout, check=True)
        # How packages are made is as it is today.
        shutil.rmtree(old / "etc/packaging", ignore_errors=True)
        shutil.copytree(PACKAGING, old / "etc/packaging")
        shutil.copytree(ROOT / "etc/completions", old / "etc/completions", dirs_exist_ok=True)
        yield _package(old, folder, "0.0.1-1")


def _package(sources: Path, folder: Path, version: str) -> Path:
    script = sources / "etc/packaging/deb.sh"
    return Path(
        good(run(["sh", str(script)], env=environment(OUTPUT=str(folder), VERSION=version), seconds=200)).out.strip()
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.needs("dpkg", "dpkg-deb", *NEEDS, *READING)
def test_the_readme_is_followed_with_the_package(package: Path) -> None:
    good(follow_readme([f"dpkg --install {package} > /dev/null"], "/usr/share", "/usr/bin"))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.needs("dpkg", "dpkg-deb", "git", "dovecot", "submission", "systemd-socket-activate", *NEEDS)
def test_the_life_of_the_package(older_package: Path, package: Path) -> None:
    done = run(apart("tests.e2e.packaging.journey", str(older_package), str(package)), seconds=400, cwd=ROOT)
    assert done.status == 0, done.text
    steps = re.findall(r"^ *[\d.]+ s  (\w+): ", done.out, re.MULTILINE)
    assert steps == [step.__name__ for step in STEPS]
