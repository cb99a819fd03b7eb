"""Several processes that are one relay: who starts them, what they tell each other, and how they agree.

`supervisor` is the parent; a worker sees the others as its `peers`. What may not be lost is in the store.
"""
