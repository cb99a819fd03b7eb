"""The bench: the same load through Postfix, a bare relay of libraries and Relay, side by side (docs/performance.md)."""
