"""Who may send and how: servers, channels, agents, their rules, and the route of one sender.

Pure but for `file`, which keeps directory.toml.
"""
