"""Where passwords are kept and found: the vault, other sources, and the master key over the vault."""
