"""The port to the ledger: where is kept what accounts have used up of their limits, and what each process has leased.

The store implements it (`relay.store.cluster.day_quotas`, `relay.store.cluster.capacity_leases`).
"""


class LedgerError(Exception):
    """The ledger can be neither read nor written. The message is a sentence with what to do."""
