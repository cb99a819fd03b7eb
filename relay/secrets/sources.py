"""Secrets that live elsewhere: `password_from = "file:…" | "env:NAME" | "credential:NAME" | "command:…"`.

DIAGNOSTICS: SecretUnavailable, one sentence that names the source and never what came out of it. Of a command
only the program is named: its arguments may be secret too.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from relay.system.files import in_file_thread, read_regular_file

COMMAND_SECONDS = 10.0
# A password is short. Whatever is longer is the wrong file, and an endless one must not fill the memory.
_MOST_BYTES = 64 * 1024


class SecretUnavailable(Exception):
    """A secret cannot be had now. The message is one sentence without any part of the secret."""


UNBOUND = "another node wrote this secret a moment ago, and for which server is not noted yet"


class SecretDelayed(SecretUnavailable):
    """A secret cannot be had now, and will be by itself: whoever gives it is not there or busy."""


class SourceKind(StrEnum):
    """Where a source looks."""

    FILE = "file"
    ENV = "env"
    CREDENTIAL = "credential"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed source. `argument` is a path, a variable's name, a credential's name, or a command line."""

    kind: SourceKind
    argument: str

    def __str__(self) -> str:
        if self.kind is SourceKind.COMMAND:
            return f"the command '{shlex.split(self.argument)[0]}'"
        return f"{self.kind}:{self.argument}"


def parse_source(text: str) -> Source:
    """Return the source that a `password_from` names. Raises SecretUnavailable for anything else."""
    word, colon, argument = text.partition(":")
    if not colon or word not in set(SourceKind) or not argument.strip() or "\0" in argument:
        raise SecretUnavailable("a secret's source is written as file:PATH, env:NAME, credential:NAME or command:LINE")
    source = Source(SourceKind(word), argument.strip())
    if source.kind is SourceKind.CREDENTIAL and "/" in source.argument:
        raise SecretUnavailable(f"{source}: a credential is named without a folder")
    if source.kind is SourceKind.COMMAND:
        _words(source.argument)
    return source


def source_path(source: Source, environ: Mapping[str, str], folder: Path) -> Path | None:
    """Return the file behind a file or credential source, None for the others.

    A relative path is one in `folder` (state_dir). Raises SecretUnavailable where systemd gave no credentials.
    """
    if source.kind is SourceKind.FILE:
        return folder / _without_tilde(source)
    if source.kind is not SourceKind.CREDENTIAL:
        return None
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if not credentials:
        raise SecretUnavailable(f"{source}: systemd gave this process no credentials (LoadCredential=)")
    return Path(credentials) / source.argument


async def read_source(
    source: Source, environ: Mapping[str, str], folder: Path, *, seconds: float = COMMAND_SECONDS
) -> str:
    """Return the secret in a source. A command has `seconds` to answer. Raises SecretUnavailable."""
    path = source_path(source, environ, folder)
    if path is not None:
        return _one_line(source, await in_file_thread(read_secret_file, path, source))
    if source.kind is SourceKind.ENV:
        if source.argument not in environ:
            raise SecretUnavailable(f"{source}: that variable is not set")
        return _one_line(source, environ[source.argument].encode(errors="surrogateescape"))
    output = await _run(source, environ, seconds)
    # `pass` and its like print the password first and notes behind it.
    return _one_line(source, output.partition(b"\n")[0])


def read_secret_file(path: Path, source: object) -> bytes:
    """Return the bytes of a small regular file. `source` names it to people. Raises SecretUnavailable."""
    try:
        return read_regular_file(path, _MOST_BYTES)
    except OSError as error:
        words = {errno.EINVAL: "is not a regular file", errno.EFBIG: "is too long for a secret"}
        said = words.get(error.errno or 0, f"cannot be read: {error.strerror}")
        raise SecretUnavailable(f"{source} {said}") from None


def _without_tilde(source: Source) -> Path:
    try:
        return Path(source.argument).expanduser()
    except RuntimeError:
        raise SecretUnavailable(f"{source}: that home folder is not known; write the whole path") from None


def _one_line(source: Source, content: bytes) -> str:
    """Return the text without the newline that editors and echo put behind it."""
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if not content:
        raise SecretUnavailable(f"{source} gave an empty secret")
    if any(byte in content for byte in b"\r\n\0"):
        raise SecretUnavailable(f"{source} gave more than one line; a secret is one line of text")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise SecretUnavailable(f"{source} gave something that is not UTF-8 text") from None


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise SecretUnavailable("the command of a secret's source cannot be split into words; is a quote open?")
    return words


async def _run(source: Source, environ: Mapping[str, str], seconds: float) -> bytes:
    """Run a command without a shell, and return what it had written when it ended.

    The pipe is read at the end: it holds 64 KiB, which is more than a secret has, and what the command left running
    in the background (as gpg does) may keep its other end open.
    """
    output, other_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            os.set_blocking(other_end, True)
            process = await _start(source, environ, other_end)
            with _killed_with_us(process, other_end):
                status = await _ended(process, source, seconds)
        finally:
            os.close(other_end)
        if status:
            raise SecretUnavailable(f"{source} failed with exit status {status}")
        return os.read(output, _MOST_BYTES)
    except BlockingIOError:
        return b""  # nothing was written, and something in the background still could
    finally:
        os.close(output)


async def _start(source: Source, environ: Mapping[str, str], output: int) -> asyncio.subprocess.Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *_words(source.argument),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.DEVNULL,  # it may repeat the secret, and belongs in no log
            env=dict(environ),  # uvloop takes nothing else
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Cancelled itself, asyncio would kill the command alone, and not what that has started already.
        await _end(await starting)
        raise
    except OSError as error:
        raise SecretUnavailable(f"{source} cannot be run: {error.strerror}") from None


async def _ended(process: asyncio.subprocess.Process, source: Source, seconds: float) -> int:
    """Return the exit status. Where the time runs out or we are cancelled, the command and its children are killed."""
    try:
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        raise SecretUnavailable(f"{source} gave no answer within {seconds:g} seconds") from None
    finally:
        await _end(process)


@contextlib.contextmanager
def _killed_with_us(process: asyncio.subprocess.Process, output: int) -> Iterator[None]:
    """Let the kernel kill a command and all that it started when we are killed meanwhile.

    `output` is the command's end of its pipe. The kernel signals whom it belongs to when the last reader is gone
    (O_ASYNC, fcntl(2)), and we are the only one. Only Linux can do this; a kill in the moment of the command's start
    leaves it as it is.
    """
    if sys.platform != "linux" or process.returncode is not None:
        yield
        return
    flags = fcntl.fcntl(output, fcntl.F_GETFL)
    fcntl.fcntl(output, fcntl.F_SETSIG, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):  # it has ended just now
        fcntl.fcntl(output, fcntl.F_SETOWN, -process.pid)  # its group
    fcntl.fcntl(output, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:  # also before we read: the kernel would tell that there is room again
        fcntl.fcntl(output, fcntl.F_SETFL, flags)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a command that still runs, and all that it started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
