"""A person at a terminal who runs one command and answers its questions.

`python -m tests.e2e.packaging.answers FOLDER COMMAND...`: the command runs in the folder. It ends as the command does.
"""

import os
import pty
import subprocess
import sys

# What the answer to each question begins with, by words of the question.
ANSWERS = {
    "server that takes your mail": "smtp.gmail.com",
    "first address that sends": "info@acmejets.example",
    "account of its own": "no",
    "Who logs in there": "mailer@acmejets.example",
    "Password for ": "secret of the person",
    "The same again": "secret of the person",
}


def main(folder: str, *command: str) -> int:
    """Run the command and answer, and show what was said."""
    terminal, end = pty.openpty()
    # Nothing of ours comes in the place of what is installed.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with subprocess.Popen(
        command, stdin=end, stdout=end, stderr=end, start_new_session=True, cwd=folder, env=env
    ) as it:
        os.close(end)
        seen, answered = "", 0
        while said := _read(terminal):
            sys.stdout.write(said)
            seen += said
            line = seen[answered:].rpartition("\n")[2]
            answer = next((text for words, text in ANSWERS.items() if words in line), None)
            if answer is not None and line.rstrip(" ").endswith(":"):
                answered = len(seen)
                os.write(terminal, answer.encode() + b"\n")
    return it.returncode


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 4096).decode()
    except OSError:  # EIO: nobody holds the other end any more
        return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
