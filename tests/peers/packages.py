"""The system programs that tests run, and the Debian packages that they come from (tests/packages.txt)."""

import os
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_LIST = Path(__file__).parent.parent / "packages.txt"
# A normal user's search path on Debian has no sbin, where servers are.
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_PATH = os.environ.get("PATH", os.defpath)
# Set: no program of the list is here, as on a machine without the packages. What runs `make test-bare` itself stays.
HIDDEN = "WITHOUT_PACKAGES"
_STAYS = "make"
# What the running test declares, for the processes that it starts; and the audit event of asking for a program.
DECLARED = "DECLARED_PROGRAMS"
ASKED = "tests.program"


def read_packages(text: str) -> Mapping[str, str]:
    """Return the package of every program in lines of `package: program program`; `#` begins a comment.

    Raises ValueError for a line that is none.
    """
    packages = {}
    for line in text.splitlines():
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        package, colon, programs = entry.partition(":")
        if not colon or not programs.split():
            raise ValueError(f"packages.txt: {line!r} is not 'package: program program'")
        packages.update(dict.fromkeys(programs.split(), package.strip()))
    return packages


@cache
def known_programs() -> Mapping[str, tuple[str, str]]:
    """Return, for every program's short name, the name or path to look for and its Debian package."""
    return {Path(name).name: (name, package) for name, package in read_packages(_LIST.read_text()).items()}


def find_program(name: str) -> str | None:
    """Return the path of a program or library of packages.txt, or None where it is not installed, or hidden.

    Raises KeyError for one that is not in the list.
    """
    return None if os.environ.get(HIDDEN) and name != _STAYS else find_installed(name)


def find_installed(name: str) -> str | None:
    """Return the same, whether or not it is hidden."""
    wanted = known_programs()[name][0]
    if wanted.startswith("/"):
        return next((str(path) for path in Path("/").glob(wanted[1:]) if path.is_file()), None)
    return shutil.which(wanted, path=os.pathsep.join((_PATH, *_SYSTEM_FOLDERS)))


def program(name: str) -> str:
    """Return the path of a program that the test said it needs."""
    sys.audit(ASKED, name)
    declared = os.environ.get(DECLARED)
    if declared is not None and name not in declared.split():
        raise LookupError(f'this test does not say that it needs {name}: @pytest.mark.needs("{name}")')
    path = find_program(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: apt install {package_of(name)}")
    return path


def package_of(name: str) -> str:
    """Return the Debian package of a program."""
    return known_programs()[name][1]
