"""`relay sendmail`: takes a message on stdin as sendmail(1) does, and hands it to a relay by SMTP.

It is started for every mail, so it imports the standard library and little of that. It needs no right to Relay's files.
It reads the message to its end before it connects. All recipients get it, or none. It exits with the codes of
sysexits(3), and a caller that tries again after 75 sends nothing twice.
"""
