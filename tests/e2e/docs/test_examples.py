"""The example in the help of every command, run as it stands, with real parts."""

from pathlib import Path

import pytest

from docs.generate.commands import commands, examples_of
from tests.e2e.docs.blocks import OTHERS, PRELUDE, world
from tests.peers.system import run

ROOT = Path(__file__).parents[3]
# A line is an example and what it needs beside it: a password on stdin where it would ask for one, or the id of a
# message that there is. Lines that begin with "+" only make what the examples speak of.
SCRIPT = r"""
relay demo --send
relay init --host smtp.gmail.com --username mailer@acmejets.example --address support@acmejets.example \
    --no-test --password-stdin < password
relay check --config /etc/relay/relay.toml
relay serve --config /etc/relay/relay.toml
relay channel remove support
relay server add acmejets --host smtp.gmail.com --username mailer@acmejets.example --password-stdin < password
+ relay server add old --host smtp.gmail.com --username old@acmejets.example --password-stdin < password
relay server remove old --move-to acmejets
relay server default acmejets
relay server password acmejets --password-stdin < password
relay server set acmejets max_connections=2 port=
relay server list --sort agents --json
relay server show acmejets
relay server test acmejets --to me@example.org
relay channel add support --address support@acmejets.example
relay channel set support server=acmejets script=
relay channel password support --password-stdin < password
relay channel list --sort login
relay channel show support
relay channel test support --to me@example.org
relay agent add jane --address jane@acmejets.example --override --group sales --password-stdin < password
relay agent set jane server=acmejets script=
relay agent password jane --password-stdin < password
relay agent invite jane
relay agent list --sort login
relay agent show jane
relay agent test jane --to me@example.org
relay application add contact-center --may-send-as support,group:sales
relay application password contact-center --password-stdin < login
relay application list --sort login
relay application show contact-center
relay application set contact-center 'may_send_as=*'
relay application remove contact-center
relay status --json
relay route support@acmejets.example --from 'Jane <jane@acmejets.example>'
relay doctor support
relay provider list --json
relay secrets list
relay secrets import
relay secrets rotate
relay config show
relay admin link
relay admin add ada --link
relay admin list --json
relay admin set ada --role viewer
relay admin password ada --password-stdin < login
relay admin remove ada
relay token add monitoring
relay token list --json
relay token remove monitoring
relay account list --json
relay node list --json
relay webhook list --json
relay alert list --json
+ relay server set acmejets host=nobody.example
+ relay channel set support mode=queued
+ printf 'Subject: x\n\nx\n' | relay sendmail -f support@acmejets.example ann@customer.example
+ ID=$(relay queue list --json | sed -n 's/.*"id": "\([^"]*\)".*/\1/p')
relay queue show 6aq3kd1p0e4m
relay queue hold 6aq3kd1p0e4m
relay queue list --profile support --state held
relay queue release 6aq3kd1p0e4m
relay queue retry --profile support
relay queue export 6aq3kd1p0e4m > message.eml
relay messages list --to ann@customer.example --since 7d
relay messages show 6aq3kd1p0e4m
relay queue remove 6aq3kd1p0e4m
relay directory import /var/lib/relay/directory.toml
relay directory export directory.toml
+ mkdir -p /var/backups
relay backup /var/backups/relay.tar.gz
+ jobs -p | xargs -r kill; wait
relay restore /var/backups/relay.tar.gz
relay agent remove jane
+ relay channel remove support
relay import postfix /etc/postfix
relay import msmtp ~/.msmtprc
"""
REFUSED = {
    "relay account release acmejets/mailer@acmejets.example": "account acmejets/mailer@acmejets.example is not held",
    "relay alert test 1": "there is no alert 1; relay.toml names none, see: relay alert list",
    "relay webhook test 1": "there is no webhook 1; relay.toml names none, see: relay webhook list",
    "relay webhook replay --since 2h": "relay.toml names no webhook; write one: [[webhook]] (docs/webhooks.md)",
    "relay node drain one": "there is no node 'one'; see: relay node list",
}
# A person signs in at the provider.
ASKS = tuple(f"relay {noun} authorize" for noun in ("server", "channel", "agent"))


def script() -> str:
    lines = [
        line.removeprefix("+ ").replace("6aq3kd1p0e4m", '"$ID"')
        for line in SCRIPT.replace("\\\n   ", "").strip().splitlines()
    ]
    lines = [line.replace("relay serve", "serve") if line.startswith("relay serve ") else line for line in lines]
    refused = [f'test "$({command} 2>&1)" = "{said}"' for command, said in REFUSED.items()]
    return PRELUDE + "\n".join(OTHERS) + "\n" + "\n".join([*lines[:52], *refused, *lines[52:]]) + "\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.needs("root", "unshare", "nsd")
def test_the_example_of_every_command_can_be_run(tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text(script())
    done = run(world(file, "preloaded"), seconds=580, cwd=ROOT)
    assert done.status == 0, f"{done.out[-2000:]}\n{done.err[-2000:]}"
    assert "Traceback" not in done.text


def test_every_example_is_run() -> None:
    lines = [*SCRIPT.replace("\\\n   ", "").splitlines(), *REFUSED]
    examples = [example for _, command in commands() for example in examples_of(command)]
    left_out = [example for example in examples if not any(line.startswith(example) for line in lines)]
    asks_a_person = [example for example in left_out if any(example.startswith(one) for one in ASKS)]
    assert len(examples) > 60
    assert [example for example in left_out if example not in asks_a_person] == []
