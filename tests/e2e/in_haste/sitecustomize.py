"""Makes the leases of a process short, before anything else of it is there (`tests.e2e.hasty`).

A node counts as silent after four seconds.
"""

import os

from relay.store import terms

terms.TOGETHER = terms.Terms(
    messages=float(os.environ["HASTY_MESSAGES"]), shares=float(os.environ["HASTY_SHARES"]), nodes=4.0
)
