"""A relay whose leases are short: `python hasty_node.py MESSAGES SHARES serve --config FILE`, both in seconds.

The whole program runs as it is, and nobody has to wait for minutes until a node that was stopped counts as lost. It is
silent for others after a second and a half.
"""

import sys


def main(messages: str, shares: str, *arguments: str) -> int:
    """Run `relay` with these arguments."""
    from relay.store import terms  # noqa: PLC0415 - before the rest of it is imported

    terms.TOGETHER = terms.Terms(messages=float(messages), shares=float(shares), nodes=1.5)
    from relay.cli.app import run  # noqa: PLC0415

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
