"""The shell blocks of a page of the documentation, and how they run in a world of their own."""

import re
import shlex
import sys
from pathlib import Path

from tests.peers.packages import program

ROOT = Path(__file__).parents[3]
SETTINGS = "/etc/relay/relay.toml"
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SETTINGS = re.compile(r"^```toml\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
# Lines that are not run, by how they begin, and why; behind a page's name those of that page alone.
_NO_TOKEN = "has no token, because nobody signed in"
_NO_API = "there is no such API in the world; tests/e2e/test_https.py has one"
_SIGNS_IN = "a person signs in at the provider; tests/e2e/test_oauth.py does so at a provider of its own"
NOT_RUN = {
    "make ": "sets up the very folder that the tests run in",
    "journalctl": "there is no journal in the world",
    "dpkg-divert": "tests/e2e/test_sendmail.py calls the program by its other names",
    "ln -s": "the same",
    "pip install 'relay-submission[postgresql]'": "the world has the driver already",
    "sudo -u postgres": "there is no PostgreSQL in the world; tests/e2e/test_postgresql.py has one of its own",
    "pg_dump": "the same",
    "cluster.md: relay directory": "there is no directory.toml yet; tests/unit/cli/test_cli_directory.py has one",
    "cluster.md: relay node": "there is no node in the world; tests/e2e/test_nodes.py has some",
    "cluster.md: systemctl restart relay": "there is no systemd in the world",
    "relay init  ": "asks a person; tests/unit/cli/test_cli_init.py answers",
    "relay admin add ann": "asks a person; tests/unit/cli/test_cli_admin.py answers",
    "README.md: relay application password": "asks a person; tests/unit/cli/test_cli_application.py answers",
    "relay server authorize": _SIGNS_IN,
    "relay channel authorize": _SIGNS_IN,
    "moving.md: relay channel password support": "asks a person; tests/unit/cli/test_cli_profiles.py answers",
    "ses-api.md: relay server test": _NO_API,
    "ses-api.md: relay channel test": _NO_API,
    "ses-api.md: relay doctor": _NO_API,
    "mailgun-api.md: relay server test": _NO_API,
    "mailgun-api.md: relay channel test": _NO_API,
    "mailgun-api.md: relay doctor": _NO_API,
    "google.md: relay server test workspace": _NO_TOKEN,
    "google-gmail-api.md: relay server test": _NO_TOKEN,
    "google-gmail-api.md: relay channel test": _NO_TOKEN,
    "google-gmail-api.md: relay doctor": _NO_TOKEN,
    "microsoft365-graph.md: relay server test": _NO_TOKEN,
    "microsoft365-graph.md: relay channel test": _NO_TOKEN,
    "microsoft365-graph.md: relay doctor": _NO_TOKEN,
    "microsoft365.md: relay server test": _NO_TOKEN,
    "microsoft365.md: relay channel test": _NO_TOKEN,
    "microsoft365.md: relay doctor": _NO_TOKEN,
}
# There is no systemd in the world; what its units start is the same command. And nobody types.
INSTEAD = {
    "systemctl enable --now relay": "serve",
    "relay serve": "serve",
    "(umask 077; cat > password)": "printf 'secret of the server\\n' > password",
    "(umask 077; cat > login)": "printf 'secret of the login\\n' > login",
}
# Pages whose sections are for different people: each begins with what an installation brings, the first with nothing.
# What they write in relay.toml is written there.
AFRESH = {"quickstart.md"}
SPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
PRELUDE = r"""
set -eu
umask 022
printf 'secret of the server\n' > password
printf 'secret of the client\n' > secret
printf 'secret of the login\n' > login
serve() {
    command relay serve "$@" 2> /root/log &
    for _ in $(seq 200); do relay status > /dev/null && return; sleep 0.1; done
    cat /root/log; return 1
}
fresh() {
    jobs -p | xargs -r kill; wait
    rm -rf /etc/relay /var/lib/relay
    install -D -m 644 SAMPLE /etc/relay/relay.toml
}
at_end() { code=$?; jobs -p | xargs -r kill; wait; exit "$code"; }
trap at_end EXIT
""".replace("SAMPLE", str(ROOT / "etc/relay.toml"))
# Port 587 of the world is a server's: there the reader takes the other one that the page names.
OTHER_PORT = ("0.0.0.0:587", "0.0.0.0:2587")


def lines_of(page: Path) -> list[str]:
    """Return the lines of a page's shell blocks, a command that goes over several as one."""
    sections = (
        re.split(r"^(?=## )", page.read_text(), flags=re.MULTILINE) if page.name in AFRESH else [page.read_text()]
    )
    if page.name in AFRESH:
        sections = [_SETTINGS.sub(_written, section) for section in sections]
    text = "fresh\n".join("".join(_BLOCK.findall(section)) for section in sections)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def _written(block: re.Match[str]) -> str:
    """Return the block that writes in relay.toml what a block says: behind the line of its table, or as one more."""
    header, *keys = block[1].replace(*OTHER_PORT).strip().splitlines()
    if header.startswith("[["):
        command = shlex.join(["printf", r"%s\n", header, *keys]) + f" >> {SETTINGS}"
    else:
        place = re.escape(header)
        command = shlex.join(["sed", "-i", *(word for key in keys for word in ("-e", f"/^{place}$/a {key}")), SETTINGS])
    return f"```sh\n{command}\n```\n"


def runnable(page: Path, line: str) -> str:
    """Return what is run for a line of a page."""
    if _reason(page, line):
        return f": not run: {line.split(maxsplit=1)[0]}"
    return INSTEAD.get(line.partition("#")[0].strip(), line)


def world(script: Path, *how: str) -> list[str]:
    """Return the command line that runs a script in a world of its own, from the folder of the project."""
    return [program("unshare"), *SPACES, sys.executable, "-m", "tests.e2e.docs.world", str(script), *how]


def _reason(page: Path, line: str) -> str:
    """Return the beginning by which a line is not run, "" for a line that is."""
    said = (line, f"{page.name}: {line}")
    return next((beginning for beginning in NOT_RUN if any(each.startswith(beginning) for each in said)), "")


# What a page begins with, because the reader has it by then.
OTHERS = (
    "mkdir -p /etc/postfix",
    "echo 'relayhost = [smtp.acmejets.example]:587' > /etc/postfix/main.cf",
    "echo 'smtp_sasl_auth_enable = yes' >> /etc/postfix/main.cf",
    "echo 'smtp_sender_dependent_authentication = yes' >> /etc/postfix/main.cf",
    "echo 'smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd' >> /etc/postfix/main.cf",
    "echo 'smtp_tls_security_level = secure' >> /etc/postfix/main.cf",
    "echo '[smtp.acmejets.example]:587 mailer@acmejets.example:secret' > /etc/postfix/sasl_passwd",
    "echo 'support@acmejets.example support@acmejets.example:secret' >> /etc/postfix/sasl_passwd",
    "printf 'account home\\nhost smtp.fastmail.com\\ntls on\\nauth on\\n' > ~/.msmtprc",
    "printf 'from me@acmejets.example\\nuser me@acmejets.example\\npassword x\\n' >> ~/.msmtprc",
    "sed s/me@/jane@/g ~/.msmtprc > /etc/msmtprc",
    "chmod 600 ~/.msmtprc /etc/msmtprc",
)
