"""README.md and docs/sendmail.md, followed to the letter with Relay installed in one way or another."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.docs.blocks import PRELUDE, ROOT, lines_of, runnable, world
from tests.e2e.packaging.overlay import PATH
from tests.peers.system import Finished, private_folder, run

NEEDS = ("root", "unshare", "nsd", "dpkg-divert")
README, SENDMAIL = ROOT / "README.md", ROOT / "docs/sendmail.md"
# The words of the two blocks that are run, so that a README that says something else is no empty test.
SET_UP = ("make install", "relay init", "relay serve")
BY_COMMANDS = ("relay server add", "relay channel add", "relay channel test", "relay doctor", "relay route")
_PERSON = ("relay init", "relay application password")
_PRELUDE = f"""{PRELUDE}
answering() {{ (cd {ROOT} && {sys.executable} -m tests.e2e.packaging.answers /root "$@"); }}
rm /opt/relay/bin && rmdir /opt/relay
"""
# Where `make install` puts them without a PREFIX, and docs/sendmail.md finds them.
PROGRAMS = "/usr/local/bin"
# What a mail client is answered by the relay that was set up, what the tab key offers, and that there are manual pages.
_LOOK = r"""
python3 - << 'END'
import smtplib
with smtplib.SMTP("127.0.0.1", 2525) as client:
    client.ehlo()
    client.mail("info@acmejets.example")
    client.rcpt("you@customer.example")
    code, text = client.data(b"From: info@acmejets.example\r\nSubject: first\r\n\r\nhello\r\n")
    assert (code, text.partition(b":")[0]) == (250, b"2.0.0 Ok"), (code, text)
    assert b"delivered via main" in text, text
END
offered=$(bash -c '
    source "$1/bash-completion/completions/relay"
    COMP_WORDS=(relay channel show "") COMP_CWORD=3
    _relay_completion relay
    echo "${COMPREPLY[*]}"
' bash "$share")
test "$offered" = 'info support'
grep -q '^#compdef relay$' "$share"/zsh/*/_relay
grep -q '^complete --command relay' "$share/fish/vendor_completions.d/relay.fish"
for page in man1/relay.1 man5/relay.toml.5 man5/relay-directory.toml.5 man8/relay-sendmail.8; do
    test -s "$share/man/$page" || test -s "$share/man/$page.gz"
done
"""
# Cron's program is ours, sends, and is the one before it when that is undone.
_TAKEN = r"""
printf 'From: info@acmejets.example\nTo: you@customer.example\nSubject: x\n\nhello\n' |
    /usr/sbin/sendmail -v -f info@acmejets.example you@customer.example 2>&1 | tee talk
grep -q 'delivered via main' talk
rm /usr/sbin/sendmail
dpkg-divert --rename --remove /usr/sbin/sendmail
"""


def follow_readme(installing: Sequence[str], share: str, programs: str) -> Finished:
    """Run the README's commands in a world of its own. `installing` are commands in the place of `make install`.

    `share` is the folder of what programs do not load: manual pages, completions of shells. `programs` is the one that
    docs/sendmail.md says they are in.
    """
    lines = lines_of(README)
    for beginning in (*SET_UP, *BY_COMMANDS):
        assert [line for line in lines if line.startswith(beginning)], f"README.md has no {beginning}"
    script = [_PRELUDE, f"share={shlex.quote(share)}", *(_line(line, installing) for line in lines), _LOOK]
    taking = [line for line in lines_of(SENDMAIL) if line.startswith(("dpkg-divert", "ln -s"))]
    assert any(f"{PROGRAMS}/relay-sendmail /usr/sbin/sendmail" in line for line in taking)
    script += [*(line.replace(PROGRAMS, programs) for line in taking), _TAKEN]
    with private_folder("readme") as folder:
        file = folder / "script"
        file.write_text("\n".join(script) + "\n")
        # A test's own search path is made before anything is installed.
        return run(world(file), seconds=280, cwd=ROOT, env={**os.environ, "PATH": PATH})


def _line(line: str, installing: Sequence[str]) -> str:
    if line.startswith("make install"):
        return "\n".join(installing)
    if line.startswith(_PERSON):
        return f"answering {line}"
    return runnable(README, line)


def copied(folder: Path) -> Sequence[str]:
    """Return the commands that put on a machine what was installed below a folder (DESTDIR)."""
    return (f"cp -a {shlex.quote(str(folder))}/. /",)
