"""Mailboxes where mail for our addresses arrives, read by IMAP or POP3: for the round trip and for returned mail.

No mail is marked as read, and none is removed but the round trip's own. Reading blocks, so it runs in threads of its
own. What a server can make us keep in memory is bounded.
"""
