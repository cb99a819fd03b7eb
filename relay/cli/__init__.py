"""The `relay` command: one module per noun."""


def main() -> None:
    """Run the command line of this process and end it: 0 done, 1 refused or failed, 2 wrong usage."""
    import sys

    from relay.cli.app import run

    sys.exit(run(sys.argv[1:]))
