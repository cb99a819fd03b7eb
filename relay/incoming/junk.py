"""The names that junk folders go by where the server does not say which one it is."""

import re

_NAMES = frozenset(
    {"junk", "spam", "junk email", "junk e-mail", "junk mail", "bulk", "bulk mail", "spamverdacht", "quarantine"}
)


def is_junk_name(name: str) -> bool:
    """Whether a folder is for junk by the last part of its name ("INBOX.Spam", "[Gmail]/Spam")."""
    return re.split(r"[./\\]", name)[-1].strip().lower() in _NAMES
