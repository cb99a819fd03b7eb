"""The sendmail(1) drop-in: it hands one message from standard input to the service, and keeps nothing itself."""
