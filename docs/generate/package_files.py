"""What a package carries that is made here: the samples that `relay init` writes, and the completions of shells."""

import contextlib
import io
import os
from pathlib import Path
from unittest import mock

from relay.cli import app

_ROOT = Path(__file__).parents[2]
_SAMPLES = ("relay.toml", "directory.toml")
# Of each shell the name that its file has in the folder of that shell's completions.
_SHELLS = {"bash": "relay", "zsh": "_relay", "fish": "relay.fish"}
# zsh reads the file at the first completion, as the body of the function _relay: that one is to offer something, too.
_FIRST_TIME = """
if [ "$funcstack[1]" = _relay ]; then
  _relay_completion "$@"
fi
"""


def package_files() -> dict[Path, str]:
    """Return every such file and its text."""
    samples = {_ROOT / "relay/cli/samples" / name: (_ROOT / "etc" / name).read_text() for name in _SAMPLES}
    return samples | {_ROOT / "etc/completions" / name: _completion(shell) for shell, name in _SHELLS.items()}


def _completion(shell: str) -> str:
    """Return what `relay --show-completion` prints in a shell, as a file that the shell reads by itself."""
    said = io.StringIO()
    with mock.patch.dict(os.environ, {"_RELAY_COMPLETE": f"source_{shell}"}), contextlib.redirect_stdout(said):
        app.run(())
    return said.getvalue().strip() + "\n" + (_FIRST_TIME if shell == "zsh" else "")
