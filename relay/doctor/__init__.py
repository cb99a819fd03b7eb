"""Whether mail of a profile will arrive: its server, its login, and what DNS says (SPF, DKIM, DMARC, MX).

It logs in and asks DNS; it sends no message. A finding says what was checked, how bad it is, why, and what to do, with
the record to publish where one helps. What nobody answered is "not known", and never "wrong".
"""
