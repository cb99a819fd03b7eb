"""The `relay` command: one module per noun."""


def main() -> None:
    """Run the command line of this process and end it: 0 done, 1 refused or failed, 2 wrong usage.

    `relay sendmail` has its own exit codes. It is started for every mail of every job, and `relay serve` runs for
    years: the other commands are not loaded for them.
    """
    import os
    import sys

    from relay.cli.startup import COMPLETING, for_sendmail, is_serve, run_serve

    arguments = sys.argv[1:]
    words = for_sendmail(arguments)
    if words is not None:
        from relay.sendmail.program import run as run_sendmail

        sys.exit(run_sendmail("relay sendmail", words))
    if is_serve(arguments) and COMPLETING not in os.environ:
        sys.exit(run_serve(arguments))
    from relay.cli.app import run

    sys.exit(run(arguments))
