"""What a command or a page may ask of a running relay, and the unix socket it asks over."""
