"""The way out: connections, their pool, and what a server's answer means. aiosmtplib stays in here."""
