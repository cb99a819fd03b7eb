"""No password is ever told: what a relay can do is done at level debug, with passwords that can be found again.

They are looked for in its log, its files, its process, its answers and the mail that left.
Every other end-to-end test looks as well, when its relay ends (`tests.peers.relay.Relay.check_leaks`).
"""

import signal
import sys
from base64 import b64encode
from collections.abc import Iterator

import pytest
import tomli_w

from tests.peers.canaries import MARK, RIGHT, WRONG, canary, leaks_in
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, Table, open_server, relay_process
from tests.peers.system import free_port, wait_until

pytestmark = pytest.mark.slow

SUPPORT, JANE = "support@acmejets.example", "jane@acmejets.example"
MESSAGE = b"From: %s\r\nSubject: hello\r\nMessage-ID: <1@acmejets.example>\r\n\r\nhello\r\n"
BY_HAND = canary("by hand")


def plain(user: str, password: str) -> str:
    return b64encode(f"\0{user}\0{password}".encode()).decode()


def directory(port: int) -> Table:
    server = open_server(port, auth="plain", allow_plaintext_password=True, username="mailer@acmejets.example")
    return {
        "default_server": "acmejets",
        "servers": {"acmejets": server, "gone": {**server, "port": free_port()}},
        "channels": {
            "support": {"address": SUPPORT, "override": True},
            "hand": {"address": "hand@acmejets.example", "override": True, "password": BY_HAND},
            "lost": {"address": "lost@acmejets.example", "server": "gone"},
        },
        "agents": {"jane": {"address": JANE, "override": True}},
        "applications": {"crm": {"may_send_as": ["*"]}},
    }


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder_server() as server:
        yield server


@pytest.fixture(scope="module")
def relay(upstream: Recorder) -> Iterator[Relay]:
    """A relay in which asyncio tells all it can; its passwords went in while it ran."""
    settings = {"delivery": {"mode": "auto", "retry": ["1s"], "patience": "15s"}}
    with relay_process(directory(upstream.port), settings, starts=False) as relay:
        relay.start("env", "PYTHONASYNCIODEBUG=1")
        for name in ("acmejets", "gone"):
            relay.set_password("server", name, canary(name))
        for noun, name in (("channel", "support"), ("agent", "jane")):
            relay.set_password(noun, name, RIGHT)
        for noun, name, *option in (("agent", "jane", "--login"), ("application", "crm")):
            done = relay.command(noun, "password", name, *option, "--password-stdin", data=f"{RIGHT}\n")
            assert done.status == 0, done.text
        yield relay


@pytest.fixture(autouse=True)
def _nothing_was_told(relay: Relay, upstream: Recorder) -> Iterator[None]:
    yield
    upstream.replies.update(REPLIES)
    relay.check_leaks()
    assert leaks_in(b"".join(upstream.messages)) == []


def submit(relay: Relay, sender: str, *logins: str, to: str = "you@customer.example") -> str:
    """Send a message after these AUTH lines and their responses; return the reply to its end."""
    with relay.connect() as client:
        client.say("EHLO raw.test")
        for line in logins:
            client.say(line)
        return client.submit(sender, to, MESSAGE % sender.encode())


def test_a_message_of_each_account(relay: Relay) -> None:
    for sender in (SUPPORT, JANE, "hand@acmejets.example"):
        assert submit(relay, sender).startswith("250 2.0.0 Ok: delivered via acmejets"), relay.last_words


@pytest.mark.parametrize(
    "lines",
    [
        [f"AUTH PLAIN {plain('jane', RIGHT)}"],
        ["AUTH PLAIN", plain("jane", RIGHT)],
        ["AUTH LOGIN", b64encode(b"crm").decode(), b64encode(RIGHT.encode()).decode()],
    ],
    ids=["at once", "asked for", "in two"],
)
def test_a_login(lines: list[str], relay: Relay) -> None:
    with relay.connect() as client:
        client.say("EHLO raw.test")
        *_, last = [client.say(line) for line in lines]
        assert last.startswith("235 "), last
    assert submit(relay, JANE, *lines).startswith("250 ")


@pytest.mark.parametrize(
    "lines",
    [
        [f"AUTH PLAIN {plain('jane', WRONG)}"],
        [f"AUTH PLAIN {plain('nobody', WRONG)}"],
        [f"AUTH PLAIN {plain('jane', RIGHT)}="],
        [f"AUTH PLAIN {b64encode(RIGHT.encode()).decode()}"],
        [f"AUTH {RIGHT}"],
        [f"AUTH XOAUTH2 {plain('jane', RIGHT)}"],
        ["AUTH LOGIN", b64encode(b"jane").decode(), RIGHT],
        ["AUTH LOGIN", "*", b64encode(RIGHT.encode()).decode()],
        ["AUTH SCRAM-SHA-256", b64encode(RIGHT.encode()).decode()],
        [plain("jane", RIGHT)],
        [b64encode(RIGHT.encode()).decode()],
        [RIGHT],
        [f"{RIGHT}\x01"],
        [f"MAIL FROM:<{SUPPORT}> AUTH={MARK}", f"AUTH PLAIN {plain('jane', RIGHT)}"],
        [f"MAIL FROM:<{SUPPORT}> PASSWORD={MARK}"],
        ["x" * 13000 + RIGHT],
    ],
    ids=lambda lines: " then ".join(line.partition(" ")[0][:8] for line in lines).replace(MARK[:8], "X"),
)
def test_a_login_that_goes_wrong(lines: list[str], relay: Relay) -> None:
    """Also at a moment when no password is asked for: what a client says then is told to nobody either."""
    with relay.connect() as client:
        client.say("EHLO raw.test")
        replies = [client.say(line) for line in lines]
    assert not replies[-1].startswith("235 ")
    assert leaks_in("\n".join(replies).encode()) == []


@pytest.mark.parametrize("words", ["535 5.7.8 Wrong password", "454 4.7.0 Try later", "500 5.5.6 Line too long"])
def test_an_upstream_that_refuses_the_login(words: str, relay: Relay, upstream: Recorder) -> None:
    upstream.replies["AUTH"] = words.encode() + b"\r\n"
    relay.set_password("channel", "support", RIGHT)
    relay.set_password("channel", "support", canary(words))
    submit(relay, SUPPORT)
    for noun, name in (("channel", "support"), ("server", "gone")):
        assert relay.command(noun, "test", name, "--to", "you@customer.example").status == 1
    assert relay.command("account", "list").status == 0
    upstream.replies.update(REPLIES)
    relay.set_password("channel", "support", RIGHT)
    assert relay.command("channel", "test", "support", "--to", "you@customer.example").status == 0


def test_an_upstream_that_says_our_password_back(relay: Relay, upstream: Recorder) -> None:
    said = plain(SUPPORT, RIGHT)
    # Mail that waits logs in as soon as there is a new password, so the server must not say another back than that one.
    upstream.replies["AUTH"] = b"535 5.7.8 Not this one\r\n"
    relay.set_password("channel", "support", canary("other"))
    submit(relay, SUPPORT)
    upstream.replies["AUTH"] = f"535 5.7.8 Not understood: AUTH PLAIN {said} ({RIGHT})\r\n".encode()
    relay.set_password("channel", "support", RIGHT)
    submit(relay, SUPPORT)
    relay.command("channel", "test", "support", "--to", "you@customer.example")
    relay.command("account", "list", "--json")
    upstream.replies.update(REPLIES)
    relay.set_password("channel", "support", canary("other"))


def test_a_message_that_waits(relay: Relay) -> None:
    id_ = submit(relay, "lost@acmejets.example").rpartition(" ")[2]
    wait_until(lambda: relay.command("queue", "hold", id_).status == 0, "a moment between two of its attempts")
    for words in (
        ["queue", "list"],
        ["queue", "show", id_],
        ["queue", "export", id_],
        ["queue", "release", id_],
        ["messages", "list"],
        ["messages", "show", id_],
        ["status"],
        ["route", JANE, "--login", "crm"],
        ["config", "show"],
        *([noun, "list"] for noun in ("server", "channel", "agent", "application", "account", "secrets")),
        ["server", "show", "acmejets"],
        ["agent", "show", "jane"],
        ["application", "show", "crm"],
    ):
        done = relay.command(*words)
        assert done.status == 0, done.text
        if words[1:] == ["list"]:
            relay.command(*words, "--json")
    wait_until(lambda: relay.command("queue", "remove", id_).status == 0, "the end of the attempt after the release")


@pytest.mark.parametrize(
    "spoiled",
    [
        f'password = "{MARK} without an end\n',
        f"password = {MARK}\n",
        f'password = ["{MARK}"]\n',
        f'pasword = "{MARK}"\n',
        f'password = "{MARK}\\u0000"\n',
        f'password = "{MARK}"\npassword_from = "env:X"\n',
        f'password_from = "{MARK}"\n',
        f'password_from = "env:{MARK}"\n',
        f'password = "{MARK}"\nserver = "nobody"\n',
    ],
    ids=lambda spoiled: spoiled.replace(MARK, "X").strip(),
)
def test_a_directory_with_faults_around_a_password(spoiled: str, relay: Relay) -> None:
    good = relay.directory_file.read_text()
    entry = f'\n[channels.odd]\naddress = "odd@acmejets.example"\noverride = true\n{spoiled}'
    before = relay.log.count("the directory has faults")
    relay.write_directory_text(good + entry)
    relay.signal(signal.SIGHUP)
    try:
        checked = relay.command("check")
        for words in (["status"], ["channel", "set", "odd", "mode="]):
            relay.command(*words)
        if checked.status:
            wait_until(lambda: relay.log.count("the directory has faults") > before, "the relay's view of it")
    finally:
        relay.write_directory_text(good)
        relay.signal(signal.SIGHUP)


def test_a_password_given_where_none_belongs(relay: Relay) -> None:
    for words in (
        ["channel", "set", "support", f"password={MARK}"],
        ["channel", "set", "support", f"password_from={MARK}"],
        ["agent", "password", "jane", "--password-stdin"],
    ):
        relay.command(*words, data=f"{RIGHT}\0{RIGHT}\n")
    done = relay.command("agent", "password", "jane", "--login", "--password-stdin", data=f"{RIGHT}\a\n")
    assert done.status == 1


def test_the_import_and_a_new_key(relay: Relay) -> None:
    assert "hand" in relay.command("secrets", "import").out
    assert BY_HAND not in relay.directory_file.read_text()
    assert leaks_in(relay.directory_file.read_bytes()) == []
    assert relay.command("secrets", "rotate").status == 0
    assert relay.command("secrets", "list", "--json").status == 0
    assert submit(relay, "hand@acmejets.example").startswith("250 ")


FAULTY = """
import sys
from relay.secrets.authentication import Logins
from relay.upstream import auth
from relay.upstream.connection import Connection

async def fail(self, *secrets, **more):
    raise RuntimeError("a fault of ours")

{patch}
from relay.cli import main
sys.argv[0] = "relay"
sys.exit(main())
"""


@pytest.mark.parametrize("patch", ["Logins.check = fail", "Logins.verifier = fail", "Connection.login = fail"])
def test_a_fault_of_ours_in_the_middle_of_a_login(patch: str, start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(recorder.port), starts=False)
    relay.set_password("channel", "support", RIGHT)
    relay.command("agent", "password", "jane", "--login", "--password-stdin", data=f"{RIGHT}\n")
    relay.launch(sys.executable, "-c", FAULTY.format(patch=patch), *relay.serving)
    wait_until(relay.greets, "the greeting", 20)
    submit(relay, JANE, f"AUTH PLAIN {plain('jane', RIGHT)}")
    submit(relay, JANE, "AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=jane,r=abcdefgh").decode())
    submit(relay, SUPPORT)
    assert relay.command("channel", "test", "support", "--no-send").status == (1 if "Connection" in patch else 0)
    assert "a fault of ours" in relay.log


def test_a_relay_that_cannot_start(start_relay: StartRelay) -> None:
    relay = start_relay(directory(free_port()), starts=False)
    relay.set_password("channel", "support", RIGHT)
    key = relay.state_dir / "master.key"
    key.write_text(f"{MARK}\n")
    with pytest.raises(RuntimeError, match="holds no master key"):
        relay.start()
    assert relay.command("secrets", "list").status == 1
    key.unlink()


def test_the_files_that_were_looked_at_are_the_ones_there_are(relay: Relay) -> None:
    """What was looked at was there: else nothing found would mean nothing."""
    names = {path.name for path in relay.state_dir.iterdir()}
    assert {"relay.db", "relay.db-wal", "master.key", "directory.toml"} <= names
    assert '"level": "debug"' in relay.log
    assert MARK in tomli_w.dumps({"password": RIGHT})
