"""The `relay` command: one module per noun."""
