"""Passwords, tokens and keys: where they are kept and found; and who logs in at Relay.

- A secret in the store is encrypted under the master key, for one owner (`master_key`, `vault`).
- It goes to no other server than the one it was set for (`secret`, `binding`).
- Only `Secret.value` gives it: no log, exception, argument or repr has it.
- A login password is kept as a hash and a verifier, and is nowhere in plain text (`login_password`).
- A refresh token is spent by one process at a time (`oauth/`, `renewal_lease`).
"""
