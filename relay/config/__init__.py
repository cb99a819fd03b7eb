"""relay.toml: settings with their types, units and faults, from the file and the environment.

Each key is declared once, in `settings`, with its type, default and help. A value that cannot be used is a fault with
file, key and what to do, and all faults of a file are found at once. Settings are one frozen value: they take effect as
a whole or not at all, and a reload makes another one (`changes`).
"""
