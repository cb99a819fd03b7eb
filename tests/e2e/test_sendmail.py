"""`relay sendmail` as cron, git, PHP, mutt and s-nail call it, over the submit socket of a real relay."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from tests.peers.clients.surroundings import surroundings
from tests.peers.packages import program
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import LOOPBACK, Finished, free_port, private_folder, run

pytestmark = pytest.mark.slow

SENDMAIL = Path(sys.executable).parent / "relay-sendmail"
SENDER = "support@acmejets.example"
YOU = "you@customer.example"
HEADER = f"From: Support <{SENDER}>\nTo: {YOU}\nSubject: hello\n"
MESSAGE = f"{HEADER}\nhello\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def relay(upstream: Recorder) -> Iterator[Relay]:
    settings = {"limits": {"recipients": 3, "message_size": "48MiB"}}
    with relay_process(one_channel(open_server(upstream.port)), settings) as relay:
        yield relay


@pytest.fixture(autouse=True)
def as_always(upstream: Recorder) -> Iterator[None]:
    """Each test begins with an upstream that takes everything and heard nothing."""
    upstream.messages.clear()
    for conversation in upstream.conversations:  # the relay goes on in them
        conversation.received.clear()
        conversation.messages.clear()
    yield
    upstream.replies = dict(REPLIES)


def place(relay: Relay) -> str:
    return f"unix:{relay.state_dir / 'submit.sock'}"


def sendmail(relay: Relay, *words: str, data: str | bytes = MESSAGE, to: str = "") -> Finished:
    octets = data.encode() if isinstance(data, str) else data
    return run([str(SENDMAIL), *words], data=octets, env=surroundings(RELAY_SUBMIT=to or place(relay)))


def arrived(upstream: Recorder) -> EmailMessage:
    """The one message that the upstream has, as a reader parses it."""
    (message,) = upstream.messages
    parsed = message_from_bytes(message, policy=SMTP)
    assert isinstance(parsed, EmailMessage)
    return parsed


def envelope(upstream: Recorder) -> list[str]:
    """The addresses in MAIL and RCPT of the one message."""
    return [
        line.partition("<")[2].partition(">")[0] for line in _commands(upstream) if line.startswith(("MAIL", "RCPT"))
    ]


def _commands(upstream: Recorder) -> list[str]:
    return [command for conversation in upstream.conversations for command in conversation.commands]


def recipients_are(upstream: Recorder, *expected: str) -> bool:
    return envelope(upstream) == [SENDER, *expected]


# Who calls


def test_as_cron_calls_it(relay: Relay, upstream: Recorder) -> None:
    """Debian's cron names root without a domain, in From and To too."""
    data = f"From: {SENDER} (Cron Daemon)\nTo: root\nSubject: Cron <root@host> true\nX-Cron-Env: <HOME=/>\n\n.\nout\n"
    done = sendmail(relay, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", data=data)
    assert done.status == 0, done.text + relay.last_words
    local, at, domain = envelope(upstream)[1].partition("@")
    assert (local, at) == ("root", "@")
    assert domain
    message = arrived(upstream)
    assert message["To"] == f"root@{domain}"
    assert upstream.messages[0].endswith(b"\r\n\r\n..\r\nout\r\n")


@pytest.mark.needs("git", "git-send-email", "Address.pm")
@pytest.mark.parametrize("option", ["--smtp-server", "--sendmail-cmd"])
def test_as_git_send_email_calls_it(option: str, relay: Relay, upstream: Recorder) -> None:
    person = {f"GIT_{who}_{what}": SENDER for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = surroundings(RELAY_SUBMIT=place(relay), GIT_CONFIG_NOSYSTEM="1", **person)
    asks = ["--no-validate", "--confirm=never", "--suppress-cc=all", f"--from={SENDER}"]
    with private_folder("git") as folder:
        patch = folder / "0001.patch"
        patch.write_text(f"From: {SENDER}\nSubject: [PATCH] hello\n\n---\n+.\n.\n-x\n")
        argv = [program("git-send-email"), *asks, f"--to={YOU}", f"{option}={SENDMAIL}", str(patch)]
        done = run(argv, env={**environment, "GIT_CEILING_DIRECTORIES": str(folder.parent)}, cwd=folder)
    assert done.status == 0, done.text + relay.last_words
    assert recipients_are(upstream, YOU)
    assert arrived(upstream)["From"] == SENDER
    assert upstream.messages[0].endswith(b"\r\n---\r\n+.\r\n..\r\n-x\r\n")


@pytest.mark.needs("php")
@pytest.mark.parametrize("options", ["-t -i", "-t"])
def test_as_php_mail_calls_it(options: str, relay: Relay, upstream: Recorder) -> None:
    script = (
        f"exit(mail('{YOU}', 'hello', \"one\\n.dot\\nthree\\n\", "
        f"['From' => '{SENDER}', 'Cc' => 'ann@x.example', 'Bcc' => 'eve@x.example']) ? 0 : 1);"
    )
    argv = [program("php"), "-n", "-d", f"sendmail_path={SENDMAIL} {options}", "-r", script]
    done = run(argv, env=surroundings(RELAY_SUBMIT=place(relay)))
    assert done.status == 0, done.text + relay.last_words
    assert recipients_are(upstream, YOU, "ann@x.example", "eve@x.example")
    assert "Bcc" not in arrived(upstream)
    assert upstream.messages[0].endswith(b"\r\n\r\none\r\n..dot\r\nthree\r\n\r\n"), "PHP adds the last line end"


@pytest.mark.needs("php")
def test_php_mail_hears_of_a_refusal(relay: Relay) -> None:
    script = f"exit(mail('{YOU}', 'hello', 'x', 'From: nobody@else.example') ? 0 : 1);"
    argv = [program("php"), "-n", "-d", f"sendmail_path={SENDMAIL} -t -i", "-r", script]
    done = run(argv, env=surroundings(RELAY_SUBMIT=place(relay)))
    assert done.status == 1
    assert "550 5.7.1" in done.err


@pytest.mark.needs("mutt")
def test_as_mutt_calls_it(relay: Relay, upstream: Recorder) -> None:
    with private_folder("mutt") as folder:
        config = folder / "muttrc"
        config.write_text(
            f'set sendmail="{SENDMAIL} -oem -oi"\nset from={SENDER}\nset use_envelope_from=yes\nset record=""\n'
        )
        argv = [program("mutt"), "-n", "-F", str(config), "-s", "hello", "-b", "eve@x.example", "--", YOU]
        done = run(argv, data=b"one\n.\nthree\n", env=surroundings(HOME=str(folder), RELAY_SUBMIT=place(relay)))
    assert done.status == 0, done.text + relay.last_words
    assert recipients_are(upstream, YOU, "eve@x.example")
    assert arrived(upstream)["Subject"] == "hello"
    assert upstream.messages[0].endswith(b"\r\n\r\none\r\n..\r\nthree\r\n")


@pytest.mark.needs("s-nail")
def test_as_s_nail_calls_it(relay: Relay, upstream: Recorder) -> None:
    with private_folder("s-nail") as folder:
        argv = [program("s-nail"), "-:/", "-S", f"mta={SENDMAIL}", "-S", "sendwait", "-r", SENDER, "-s", "hello", YOU]
        environment = surroundings(RELAY_SUBMIT=place(relay), DEAD="/dev/null", TMPDIR=str(folder))
        done = run(argv, data=b"one\n.dot\n", env=environment)
    assert done.status == 0, done.text + relay.last_words
    assert recipients_are(upstream, YOU)
    assert upstream.messages[0].endswith(b"\r\n\r\none\r\n..dot\r\n")


def test_as_a_shell_script_calls_it(relay: Relay, upstream: Recorder) -> None:
    """No header at all, two recipients in one word, and a dot that ends the message."""
    done = sendmail(relay, "-f", SENDER, "-F", "Jané Doe", f"{YOU}, ann@x.example", data="hello\nworld\n.\nlost\n")
    assert done.status == 0, done.text + relay.last_words
    assert recipients_are(upstream, YOU, "ann@x.example")
    message = arrived(upstream)
    assert message["From"] == f"Jané Doe <{SENDER}>"
    assert message["Date"]
    assert message["Message-ID"]
    assert upstream.messages[0].endswith(b"\r\n\r\nhello\r\nworld\r\n")


def test_as_pine_talks_to_it(relay: Relay, upstream: Recorder) -> None:
    """-bs: SMTP on standard input and output; the last replies come although the input has ended."""
    talk = f"EHLO pine.test\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{YOU}>\r\nDATA\r\n"
    with subprocess.Popen(
        [str(SENDMAIL), "-bs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=surroundings(RELAY_SUBMIT=place(relay)),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(talk.encode())
        process.stdin.flush()
        while not process.stdout.readline().startswith(b"354 "):
            assert process.poll() is None
        process.stdin.write(MESSAGE.replace("\n", "\r\n").encode() + b".\r\nQUIT\r\n")
        process.stdin.close()
        assert [line[:3] for line in process.stdout] == [b"250", b"221"]
        assert process.wait(10) == 0
    assert recipients_are(upstream, YOU)


# Where it goes


def test_over_tcp(relay: Relay, upstream: Recorder) -> None:
    done = sendmail(relay, "-t", to=f"{LOOPBACK}:{relay.port}")
    assert done.status == 0, done.text
    assert recipients_are(upstream, YOU)


def test_the_socket_is_open_to_every_local_user(relay: Relay) -> None:
    """relay.toml is not: it is not read."""
    mode = (relay.state_dir / "submit.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666


@pytest.mark.needs("strace")
def test_it_reads_no_settings(relay: Relay, upstream: Recorder, tmp_path: Path) -> None:
    """Nothing of what the service keeps is opened, so no right to it is needed; and nothing is written anywhere."""
    log = tmp_path / "strace"
    argv = [program("strace"), "-f", "-e", "trace=openat,open,creat,mkdir,rename", "-o", str(log), str(SENDMAIL), "-t"]
    environment = surroundings(RELAY_SUBMIT=place(relay), RELAY_CONFIG=str(relay.settings_file))
    done = run(argv, data=MESSAGE.encode(), env={**environment, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.status == 0, done.text
    calls = log.read_text().splitlines()
    opened = [line for line in calls if "relay.toml" in line or "directory.toml" in line or "relay.db" in line]
    written = [line for line in calls if "O_WRONLY" in line or "O_RDWR" in line or "O_CREAT" in line]
    assert calls
    assert opened == []
    assert written == []
    assert recipients_are(upstream, YOU)


# How it ends


@pytest.mark.parametrize(
    ("replies", "words", "data", "status", "said"),
    [
        ({}, ["-t"], "", os.EX_USAGE, "the header names no recipient"),
        ({}, [YOU, "-t"], MESSAGE, os.EX_USAGE, "stands behind a recipient"),
        ({}, ["jo jane"], MESSAGE, os.EX_DATAERR, "'jo jane' is no mailbox"),
        ({}, ["jo..jane@x.example"], MESSAGE, os.EX_DATAERR, "<jo..jane@x.example>: 501 5.1.3"),
        ({}, [YOU], MESSAGE + "\0", os.EX_DATAERR, "554 5.6.0"),
        ({}, [YOU], "Subject : x\n" + MESSAGE, os.EX_DATAERR, "line 1 of the header block is no header field"),
        ({}, ["-f", "nobody@else.example", YOU], MESSAGE, os.EX_NOPERM, "sender <nobody@else.example>: 550 5.7.1"),
        ({}, ["-f", SENDER, "a@x.example,b@x.example,c@x.example,d@x.example"], "x\n", os.EX_TEMPFAIL, "452 4.5.3"),
        ({"RCPT": b"550 5.1.1 Who?\r\n"}, [YOU], MESSAGE, os.EX_NOUSER, "550 5.1.1"),
        ({"RCPT": b"550 5.2.1 Off\r\n"}, [YOU], MESSAGE, os.EX_UNAVAILABLE, "550 5.2.1"),
        ({".": b"552 5.3.4 Large\r\n"}, [YOU], MESSAGE, os.EX_DATAERR, "552 5.3.4"),
        ({".": b"554 5.7.1 Spam\r\n"}, [YOU], MESSAGE, os.EX_NOPERM, "554 5.7.1"),
        ({".": b"451 4.3.0 Later\r\n"}, [YOU], MESSAGE, os.EX_TEMPFAIL, "451 4."),
    ],
)
def test_the_exit_status_says_why(
    replies: dict[str, bytes],
    words: Sequence[str],
    data: str,
    status: int,
    said: str,
    relay: Relay,
    upstream: Recorder,
) -> None:
    upstream.replies.update(replies)
    done = sendmail(relay, *words, data=data)
    assert (done.status, done.out) == (status, ""), done.err
    assert done.err.startswith("relay-sendmail: ")
    assert said in done.err
    if "." not in replies:
        assert upstream.messages == []


def test_one_refused_recipient_refuses_all(relay: Relay, upstream: Recorder) -> None:
    done = sendmail(relay, YOU, "jo..jane@x.example")
    assert done.status == os.EX_DATAERR
    assert done.err.splitlines()[-1] == "relay-sendmail: nothing was sent, not to the other recipients either"
    assert upstream.messages == []


def test_an_empty_message_is_one(relay: Relay, upstream: Recorder) -> None:
    done = sendmail(relay, "-f", SENDER, YOU, data="")
    assert done.status == 0, done.text
    assert arrived(upstream)["From"] == SENDER


def test_where_no_relay_runs_it_is_worth_another_try() -> None:
    env = surroundings(RELAY_SUBMIT=f"{LOOPBACK}:{free_port()}")
    done = run([str(SENDMAIL), YOU], data=MESSAGE.encode(), env=env)
    assert done.status == os.EX_TEMPFAIL
    assert "no relay takes mail here" in done.err


def test_a_stopped_relay_leaves_nobody_to_talk_to(upstream: Recorder) -> None:
    with relay_process(one_channel(open_server(upstream.port))) as relay:
        relay.stop()
        assert sendmail(relay, YOU).status == os.EX_TEMPFAIL


# What it takes


def test_a_large_message_is_not_kept_in_memory(relay: Relay, upstream: Recorder) -> None:
    body = b"%075d\n" % 7 * (36 * MIB // 77)
    script = (
        "import sys; from relay.sendmail.program import run; status = run('sendmail', ['-t', '-i']); "
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0]); "
        "sys.exit(status)"
    )
    env = surroundings(RELAY_SUBMIT=place(relay))
    done = run([sys.executable, "-c", script], data=HEADER.encode() + b"\n" + body, env=env, seconds=60)
    assert done.status == 0, done.text + relay.last_words
    assert upstream.messages[0].endswith(b"\r\n\r\n" + body.replace(b"\n", b"\r\n"))
    assert int(done.out) < 40 * 1024, "KiB"


def test_eight_bits_and_addresses_beyond_ascii_arrive(relay: Relay, upstream: Recorder) -> None:
    header = f"From: {SENDER}\nTo: Jö <jö@exämple.example>\nSubject: grüße\n"
    done = sendmail(relay, "-t", data=f"{header}\nhellö\n")
    assert done.status == 0, done.text + relay.last_words
    assert recipients_are(upstream, "jö@exämple.example")
    assert "hellö\r\n".encode() in upstream.messages[0]
    mail = next(line for line in _commands(upstream) if line.startswith("MAIL"))
    assert {"BODY=8BITMIME", "SMTPUTF8"} <= set(mail.split())


def test_nothing_is_connected_to_before_the_message_is_complete(tmp_path: Path) -> None:
    """A job may write for hours; a session held open for it would time out."""
    path = tmp_path / "submit.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(20)
        with subprocess.Popen(
            [str(SENDMAIL), "-v", YOU], stdin=subprocess.PIPE, env=surroundings(RELAY_SUBMIT=f"unix:{path}")
        ) as process:
            assert process.stdin is not None
            process.stdin.write(b"x" * MIB)
            process.stdin.flush()
            # A mebibyte is more than a pipe holds: it has been read, all but the last of it.
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()
            server.settimeout(20)
            process.stdin.close()
            connection, _ = server.accept()
            connection.close()
            assert process.wait(20) == os.EX_TEMPFAIL
