"""Makes the leases of a process short, before anything else of it is there (`tests.e2e.hasty`).

A node counts as silent after a second and a half.
"""

import os

from relay.store import terms

terms.TOGETHER = terms.Terms(
    messages=float(os.environ["HASTY_MESSAGES"]), shares=float(os.environ["HASTY_SHARES"]), nodes=1.5
)
