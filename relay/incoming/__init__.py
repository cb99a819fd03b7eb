"""Mailboxes where mail for our addresses arrives, read by IMAP, POP3 or an API: for the round trip and returned mail.

No mail is marked as read, and none is removed but the round trip's own. Reading blocks, so it runs in threads of its
own. What a server can make us keep in memory is bounded.
"""
