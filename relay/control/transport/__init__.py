"""control.sock: HTTP over a unix socket, its server and its client."""
