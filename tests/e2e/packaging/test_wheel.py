"""The wheel: it installs, runs, and carries what is no Python (migrations, presets, templates, static files)."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.packaging.readme import NEEDS as READING
from tests.e2e.packaging.readme import follow_readme
from tests.peers.system import Finished, private_folder, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "relay", "etc", "docs")
_BACKEND = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
_DATA = ("*.toml", "*.html", "*.css", "*.js", "*.svg", "*.sql", "py.typed")


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    """The wheel of the source distribution, built from a copy: a build leaves its folders beside the sources."""
    with private_folder("wheel") as folder:
        sources = folder / "sources"
        sources.mkdir()
        for name in _SOURCES:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, sources / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, sources)
        _pip("install", "--target", str(folder / "backend"), *_BACKEND)
        build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
        env = {**os.environ, "PYTHONPATH": str(folder / "backend")}
        done = run([sys.executable, "-c", build, str(folder)], env=env, cwd=sources)
        assert done.status == 0, done.text
        (source_distribution,) = folder.glob("relay_submission-*.tar.gz")
        _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source_distribution))
        (built,) = folder.glob("relay_submission-*.whl")
        yield built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """The `bin` of a fresh environment with the wheel; the dependencies are those of this run's environment."""
    with private_folder("installed") as folder:
        venv.create(folder, with_pip=False, symlinks=True)
        python = folder / "bin" / "python"
        _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
        ours = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        (Path(ours) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        yield folder / "bin"


def test_the_wheel_carries_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "relay"
    expected = {path for pattern in ("*.py", *_DATA) for path in package.rglob(pattern)}
    with zipfile.ZipFile(wheel) as archive:
        carried = set(archive.namelist())
    assert {str(path.relative_to(ROOT)) for path in expected} <= carried
    assert any(name.startswith("relay/store/db/migrations/versions/") for name in carried)


def test_the_installed_command_runs(installed: Path) -> None:
    done = _relay(installed, "--version")
    assert done.status == 0, done.text
    assert done.out.split()[-1][0].isdigit()


def test_the_installed_package_is_the_one_that_runs(installed: Path) -> None:
    script = "import relay.store.db.migrations, relay; print(relay.__file__)"
    done = run([str(installed / "python"), "-I", "-c", script], env={"PATH": str(installed)})
    assert done.status == 0, done.text
    assert Path(done.out.strip()).is_relative_to(installed.parent)


def test_the_installed_command_makes_its_store(installed: Path, tmp_path: Path) -> None:
    """The first secret makes the database, by the migrations that the wheel carries."""
    tmp_path.chmod(0o700)
    settings = tmp_path / "relay.toml"
    settings.write_text(f'state_dir = "{tmp_path}"\n')
    server = ["server", "add", "acmejets", "--host", "127.0.0.1", "--username", "mailer@acmejets.example"]
    done = _relay(installed, "--config", str(settings), *server, "--password-stdin", data=b"secret\n")
    assert done.status == 0, done.text
    assert (tmp_path / "relay.db").exists()


@pytest.mark.timeout(300)
@pytest.mark.needs(*READING)
def test_the_readme_is_followed_with_the_wheel(installed: Path) -> None:
    home = installed.parent
    done = follow_readme([f"ln -s {home} /opt/relay"], f"{home}/share", "/opt/relay/bin")
    assert done.status == 0, done.text


def _relay(installed: Path, *arguments: str, data: bytes = b"") -> Finished:
    return run([str(installed / "relay"), *arguments], data=data, env={"PATH": str(installed), "HOME": "/nonexistent"})


def _pip(*arguments: str) -> None:
    done = run([sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"], seconds=100)
    assert done.status == 0, done.text
