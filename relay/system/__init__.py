"""The machine and the process: systemd, file modes, descriptors, terminal, peers, event loop, collector."""
