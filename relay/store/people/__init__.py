"""What the store keeps beside mail: administrators, sessions, tokens, the audit, secrets, the stored directory."""
