"""Settings: relay.toml, its types, units, faults and environment, and how TOML tables become values."""
