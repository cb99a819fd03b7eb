"""Whether mail of a profile arrives: its server, its login, and what DNS says about its domain."""
