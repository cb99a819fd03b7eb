"""People and what they keep: administrators, sessions, tokens, invitations, audit, secrets, directory rows."""
