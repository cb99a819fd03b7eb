"""What a command, a page or the API may ask of a running relay: operations by name.

- An operation is a function of keyword parameters (`operation`); `operations` lists all of them.
- Its result is a frozen dataclass, whose fields are the keys of the JSON (`results`).
- What it refuses is one sentence for people (`refused`), and nothing is done then.
- Who may run it is decided here, and every change is in the audit log with who made it (`audit_log`).
- SECURITY: a parameter may be a password. No message, log line or audit entry repeats one.
"""
