"""Another release of Relay beside ours: installed in an environment of its own, with the libraries of this one."""

import io
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from relay.store.db.tables import HEAD
from tests.peers.packages import program
from tests.peers.system import run

ROOT = Path(__file__).parents[2]
NEXT = f"{int(HEAD) + 1:04}"
_SCRIPT = "#!{python} -P\nimport sys\nfrom relay.cli import main\nsys.exit(main())\n"
_MIGRATIONS = "relay/store/db/migrations/versions"
_TABLES = "relay/store/db/tables.py"
_EXPANDING = '''"""A migration of a release to come: more of everything, which relays of the one before do not miss."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
floor = "{floor}"


def upgrade() -> None:
    op.add_column("messages", sa.Column("colour", sa.Text, nullable=False, server_default="red"))
    op.create_table("colours", sa.Column("name", sa.Text, primary_key=True))
'''


@dataclass(frozen=True, slots=True)
class Release:
    """An installed release. `knows_floors`: it uses a newer schema that says it can."""

    folder: Path
    schema: str
    knows_floors: bool

    @property
    def relay(self) -> str:
        """Its program."""
        return str(self.folder / "bin/relay")


def next_release(folder: Path) -> Release:
    """Install the release to come: ours with one migration more, which those of today can live with."""
    files = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for path in (ROOT / "relay").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files[_TABLES] = files[_TABLES].replace(f'HEAD = "{HEAD}"'.encode(), f'HEAD = "{NEXT}"'.encode())
    migration = _EXPANDING.format(revision=NEXT, before=HEAD, floor=HEAD)
    files[f"{_MIGRATIONS}/{NEXT}_colours.py"] = migration.encode()
    return _install(folder, files, NEXT)


def release_before(folder: Path, migration: str = "*", *, is_first: bool = False) -> Release | None:
    """Install the release before a migration, the newest of those that the pattern names, or the first.

    As the history has it; None where the history is not here.
    """
    git = [program("git"), "-C", str(ROOT)]
    if run([*git, "rev-parse", "--is-shallow-repository"]).out != "false\n":
        return None
    pattern = f":(glob)relay/store/**/migrations/versions/{migration}.py"
    added = run([*git, "log", "--diff-filter=A", "--format=%H", "--", pattern], seconds=60).out.split()
    commit = f"{added[-1 if is_first else 0]}^"
    archive = subprocess.run([*git, "archive", commit, "relay"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
        files = {name: file.read() for name, file in found.items() if file is not None}
    tables = _tables(files).decode()
    return _install(folder, files, tables.partition('HEAD = "')[2][:4])


def _tables(files: Mapping[str, bytes]) -> bytes:
    """The module with the tables, wherever a release has it."""
    return next(content for name, content in files.items() if re.fullmatch(r"relay/store/(db/)?tables\.py", name))


def without_history() -> NoReturn:
    """Fail a test whose older release is in a history that is not here: the copy of the project is shallow."""
    pytest.fail("the history of the project is not here, in which an older release is: git fetch --unshallow")


def _install(folder: Path, files: Mapping[str, bytes], schema: str) -> Release:
    venv.create(folder, symlinks=True)
    python = folder / "bin/python"
    place = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (place / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    script = folder / "bin/relay"
    script.write_text(_SCRIPT.format(python=python))
    script.chmod(0o755)
    where = run([str(python), "-P", "-c", "import relay; print(relay.__file__)"], cwd=folder)
    assert where.out.startswith(str(place)), where.text
    assert sys.executable != str(python)
    return Release(folder, schema, b"schema_floor" in _tables(files))
