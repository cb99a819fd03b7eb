"""Words of Python that no answer for people has."""

import re

# How Python writes a tuple, a mapping, a list, a class, an object and what TOML does not have.
PYTHON = re.compile(
    r"[(\[{]['\"](?!…)|<class |<[\w.]+ object|datetime\.|PosixPath|\b(?:None|True|False|NoneType|dict|tuple|str|int)\b"
)
