"""The `relay` command: one module per noun."""

from collections.abc import Sequence


def main() -> None:
    """Run the command line of this process and end it: 0 done, 1 refused or failed, 2 wrong usage.

    `relay sendmail` has its own exit codes. It is started for every mail of every job, so that the other commands are
    not loaded for it.
    """
    import sys

    words = for_sendmail(sys.argv[1:])
    if words is not None:
        from relay.sendmail.program import run as run_sendmail

        sys.exit(run_sendmail("relay sendmail", words))
    from relay.cli.app import run

    sys.exit(run(sys.argv[1:]))


def for_sendmail(words: Sequence[str]) -> Sequence[str] | None:
    """Return what stands behind `sendmail` where that is the command, with or without `--config FILE`; else None."""
    skipped = 2 if words[:1] == ["--config"] else int(bool(words) and words[0].startswith("--config="))
    return words[skipped + 1 :] if words[skipped : skipped + 1] == ["sendmail"] else None
