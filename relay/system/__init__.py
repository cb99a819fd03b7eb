"""The machine and the process: systemd, file modes, descriptors, terminal, peers, event loop, interpreter.

Nothing here knows of mail. Everything may import it, and it imports `relay.log` alone. What commands load first imports
neither asyncio nor a library.
"""
