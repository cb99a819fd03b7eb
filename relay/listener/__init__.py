"""The way in: sockets, SMTP sessions, and who the client is. aiosmtpd stays in here."""
