"""Mailboxes where mail for our addresses arrives, read by IMAP or POP3: for the round trip and for returned mail."""
