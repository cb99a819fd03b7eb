"""Real peers and clients for the tests: servers in private folders on loopback ports, started and stopped by us."""
