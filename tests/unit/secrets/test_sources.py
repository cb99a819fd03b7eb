import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relay.secrets.sources import SecretUnavailable, parse_source, read_source
from tests.peers.system import flags_of, wait_until


async def read(text: str, folder: Path, environ: dict[str, str] | None = None, seconds: float = 10) -> str:
    return await read_source(parse_source(text), environ or {"PATH": os.environ["PATH"]}, folder, seconds=seconds)


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b" spaces belong to it \n", " spaces belong to it "),
        ("pässwört\n".encode(), "pässwört"),
    ],
)
async def test_a_file_gives_its_line(tmp_path: Path, content: bytes, secret: str) -> None:
    (tmp_path / "pw").write_bytes(content)
    assert await read("file:pw", tmp_path) == secret
    assert await read(f"file:{tmp_path}/pw", Path("/nowhere")) == secret


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "gave an empty secret"),
        (b"\n", "gave an empty secret"),
        (b"CANARY\nuser: x\n", "more than one line"),
        (b"CANARY\n\n", "more than one line"),
        (b"CANARY\0", "more than one line"),
        (b"CANARY\xff", "not UTF-8"),
        (b"CANARY" * 20_000, "too long"),
    ],
)
async def test_a_file_that_is_no_secret_is_named_and_not_shown(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "pw").write_bytes(content)
    with pytest.raises(SecretUnavailable, match=words) as caught:
        await read("file:pw", tmp_path)
    assert str(caught.value).startswith("file:pw ")
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match=r"^file:missing cannot be read: No such file or directory$"):
        await read("file:missing", tmp_path)
    with pytest.raises(SecretUnavailable, match=r"^file:\. "):
        await read("file:.", tmp_path)
    with pytest.raises(SecretUnavailable, match="home folder"):
        await read("file:~no-such-user-here/pw", tmp_path)


async def test_a_named_pipe_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SecretUnavailable, match="not a regular file"):
        await read("file:pipe", tmp_path)


async def test_a_variable(tmp_path: Path) -> None:
    assert await read("env:PW", tmp_path, {"PW": "hunter2"}) == "hunter2"
    with pytest.raises(SecretUnavailable, match=r"^env:PW: that variable is not set$"):
        await read("env:PW", tmp_path, {"OTHER": "x"})
    with pytest.raises(SecretUnavailable, match="empty"):
        await read("env:PW", tmp_path, {"PW": ""})


async def test_a_credential_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("hunter2\n")
    assert await read("credential:mail", Path("/nowhere"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "hunter2"
    with pytest.raises(SecretUnavailable, match="LoadCredential"):
        await read("credential:mail", tmp_path, {"PATH": ""})
    with pytest.raises(SecretUnavailable, match="credential:other cannot be read"):
        await read("credential:other", tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize("command", ["echo hunter2", "printf 'hunter2\\nuser: me\\nurl: x\\n'", "printf hunter2"])
async def test_a_command_gives_its_first_line(tmp_path: Path, command: str) -> None:
    assert await read(f"command:{command}", tmp_path) == "hunter2"


async def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    assert await read("command:echo $HOME;echo", tmp_path) == "$HOME;echo"


async def test_a_failing_command_shows_none_of_its_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SecretUnavailable) as caught:
        await read("command:sh -c 'echo CANARY; echo CANARY >&2; exit 3'", tmp_path)
    assert str(caught.value) == "the command 'sh' failed with exit status 3"
    assert "CANARY" not in "".join(capfd.readouterr())


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match=r"^the command 'no-such-program' cannot be run: No such file"):
        await read("command:no-such-program CANARY", tmp_path)


async def test_a_command_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match=r"^the command 'true' gave an empty secret$"):
        await read("command:true", tmp_path)


async def test_what_a_command_leaves_in_the_background_holds_nobody_up(tmp_path: Path) -> None:
    assert await read("command:sh -c 'echo hunter2; sleep 30 & exit 0'", tmp_path, seconds=10) == "hunter2"
    with pytest.raises(SecretUnavailable, match="empty"):
        await read("command:sh -c 'sleep 30 & exit 0'", tmp_path, seconds=10)


async def test_a_command_with_endless_output_ends(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match=r"within 0\.5 seconds"):
        await read("command:yes", tmp_path, seconds=0.5)


def holding(fifo: Path) -> str:
    """A command whose child keeps the fifo open for writing as long as it lives; the opening waits for a reader."""
    os.mkfifo(fifo)
    return f"command:sh -c 'exec 3>{fifo}; sleep 1000 & wait'"


def has_ended(fifo: int) -> bool:
    """Wait until nobody has the fifo open for writing any more."""
    with os.fdopen(fifo, "rb") as file:
        return file.read() == b""


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    command = holding(tmp_path / "alive")
    task = asyncio.create_task(read(command, tmp_path, seconds=3))
    fifo = await asyncio.to_thread(os.open, tmp_path / "alive", os.O_RDONLY)
    with pytest.raises(SecretUnavailable, match=r"^the command 'sh' gave no answer within 3 seconds$"):
        await task
    assert await asyncio.to_thread(has_ended, fifo)


async def test_a_cancelled_reader_leaves_no_command_behind(tmp_path: Path) -> None:
    command = holding(tmp_path / "alive")
    task = asyncio.create_task(read(command, tmp_path))
    fifo = await asyncio.to_thread(os.open, tmp_path / "alive", os.O_RDONLY)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(has_ended, fifo)


def test_a_command_that_hangs_ends_with_a_relay_that_is_killed(tmp_path: Path) -> None:
    command = holding(tmp_path / "alive")
    code = f"""
import asyncio, os
from pathlib import Path
from relay.secrets.sources import parse_source, read_source
asyncio.run(read_source(parse_source({command!r}), os.environ, Path("/"), seconds=1000))
"""
    with subprocess.Popen([sys.executable, "-c", code]) as killed:
        fifo = os.open(tmp_path / "alive", os.O_RDONLY)
        (pid,) = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
        wait_until(lambda: flags_of(int(pid), 1) & os.O_ASYNC, "the kernel to be told")
        killed.kill()
    assert has_ended(fifo)


async def test_what_a_command_leaves_in_the_background_goes_on(tmp_path: Path) -> None:
    pid = int(await read("command:sh -c 'sleep 1000 & echo $!'", tmp_path))
    os.kill(pid, 0)
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize(
    "text", ["", "hunter2", "file:", "file", "env: ", "vault:x", "FILE:x", "credential:../x", "file:a\0b"]
)
def test_what_is_no_source_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(SecretUnavailable) as caught:
        parse_source(text)
    assert "hunter2" not in str(caught.value)


def test_an_open_quote_in_a_command_is_said() -> None:
    with pytest.raises(SecretUnavailable, match="quote"):
        parse_source("command:pass 'show")


async def test_the_command_gets_the_environment_that_was_handed_in(tmp_path: Path) -> None:
    code = "import os; print(os.environ['GIVEN'])"
    assert await read(f'command:{sys.executable} -c "{code}"', tmp_path, {"GIVEN": "hunter2"}) == "hunter2"
