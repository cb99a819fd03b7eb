"""Run as a program: `add_agents.py FILE PREFIX COUNT` adds agents one by one, as that many commands would."""

import sys
from functools import partial
from pathlib import Path

from relay.directory.edit import add_entry
from relay.directory.file import DirectoryFile
from relay.directory.kinds import AGENT

if __name__ == "__main__":
    directory_file, prefix = DirectoryFile(Path(sys.argv[1])), sys.argv[2]
    for number in range(int(sys.argv[3])):
        name = f"{prefix}{number}"
        values = {"address": f"{name}@acme.example"}
        directory_file.change(partial(add_entry, kind=AGENT, name=name, values=values))
