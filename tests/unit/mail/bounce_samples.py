"""Reports of returned mail in the forms in which mail systems write them; made up here, none was really sent."""

SENT = "<2026112410.4711@acmejets.example>"
ANN = "ann@customer.example"

_ORIGINAL = f"""\
Received: from relay.test (relay.test [192.0.2.1]) by mx.sender.example; Tue, 24 Nov 2026 10:00:00 +0000
From: Support <support@acmejets.example>
To: {ANN}
Subject: Your ticket
Message-ID: {SENT}
Date: Tue, 24 Nov 2026 10:00:00 +0000
"""


def _report(status: str, *, human: str = "It did not work.", fields: str = "", original: str = _ORIGINAL) -> bytes:
    return f"""\
Return-Path: <>
From: MAILER-DAEMON@mx.sender.example (Mail Delivery System)
To: support@acmejets.example
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
{fields}MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="=_1/mx.sender.example"

This is a MIME-encapsulated message.

--=_1/mx.sender.example
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

{human}

--=_1/mx.sender.example
Content-Description: Delivery report
Content-Type: message/delivery-status

{status}
--=_1/mx.sender.example
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

{original}
--=_1/mx.sender.example--
""".replace("\n", "\r\n").encode()


def _text(body: str, fields: str) -> bytes:
    return f"Return-Path: <>\n{fields}To: support@acmejets.example\n\n{body}".replace("\n", "\r\n").encode()


POSTFIX = _report(
    """\
Reporting-MTA: dns; mx.sender.example
X-Postfix-Queue-ID: 4F1XyZ0abc
X-Postfix-Sender: rfc822; support@acmejets.example
Arrival-Date: Tue, 24 Nov 2026 10:00:00 +0000 (UTC)

Final-Recipient: rfc822; ann@customer.example
Original-Recipient: rfc822;ann@customer.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.customer.example
Diagnostic-Code: smtp; 550 5.1.1 <ann@customer.example>: Recipient address
    rejected: User unknown in virtual mailbox table
"""
)
FORWARDED = _report(
    """\
Reporting-MTA: dns; mx.customer.example

Final-Recipient: rfc822; ann.private@elsewhere.example
Original-Recipient: rfc822;ann@customer.example
Action: failed
Status: 5.2.2
Diagnostic-Code: smtp; 552 5.2.2 mailbox full
"""
)
EXCHANGE = _report(
    """\
Reporting-MTA: dns;AM0PR01MB1234.eurprd01.prod.exchangelabs.example
Received-From-MTA: dns;mx.sender.example
Arrival-Date: Tue, 24 Nov 2026 10:00:03 +0000

Original-Recipient: rfc822;Ann@Customer.Example
Final-Recipient: rfc822;ann@customer.example
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient
 ann@customer.example not found by SMTP address lookup
""",
    human="Your message to ann@customer.example couldn't be delivered.\n\nann wasn't found at customer.example.",
    fields="X-MS-Exchange-Message-Is-Ndr:\n",
)
GMAIL = _report(
    """\
Reporting-MTA: dns; googlemail.example
Received-From-MTA: dns; support@acmejets.example
Arrival-Date: Tue, 24 Nov 2026 02:00:01 -0800 (PST)
X-Original-Message-ID: <2026112410.4711@acmejets.example>

Final-Recipient: rfc822; ann@customer.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.customer.example. (192.0.2.55, the server for the domain customer.example.)
Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist. Please try
 550-5.1.1 double-checking the recipient's email address for typos. - gsmtp
Last-Attempt-Date: Tue, 24 Nov 2026 02:00:02 -0800 (PST)
""",
    human="** Address not found **\n\nYour message wasn't delivered to ann@customer.example.",
    fields="X-Failed-Recipients: ann@customer.example\n",
)
INTERNATIONAL = (
    _report(
        """\
Reporting-MTA: dns; mx.sender.example

Final-Recipient: utf-8; jürgen@bücher.example
Action: failed (no such mailbox)
Status: 5.1.1 (bad destination mailbox)
Diagnostic-Code: smtp; 550 5.1.1 <jürgen@bücher.example> unknown
"""
    )
    .replace(b"message/delivery-status", b"message/global-delivery-status")
    .replace(b"text/rfc822-headers", b"message/global-headers")
)
DELAYED = _report(
    """\
Reporting-MTA: dns; mx.sender.example

Final-Recipient: rfc822; ann@customer.example
Action: delayed
Status: 4.4.1
Diagnostic-Code: X-Postfix; connect to mx.customer.example[192.0.2.55]:25: Connection timed out
Will-Retry-Until: Sun, 29 Nov 2026 10:00:00 +0000 (UTC)
"""
)
QMAIL = _text(
    f"""\
Hi. This is the qmail-send program at mx.sender.example.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<{ANN}>:
192.0.2.55 does not like recipient.
Remote host said: 550 sorry, no mailbox here by that name (#5.1.1 - chkusr)
Giving up on 192.0.2.55.

--- Below this line is a copy of the message.

Return-Path: <support@acmejets.example>
{_ORIGINAL}
Hello Ann, your old address was <old@customer.example>:
550 5.9.9 this line is yours
""",
    "From: MAILER-DAEMON@mx.sender.example\nSubject: failure notice\n",
)
EXIM = _text(
    f"""\
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  {ANN}
    host mx.customer.example [192.0.2.55]
    SMTP error from remote mail server after RCPT TO:<{ANN}>:
    550 No such person at this address

------ This is a copy of the message, including all the headers. ------

{_ORIGINAL}
Hello
""",
    "X-Failed-Recipients: ann@customer.example\n"
    "From: Mail Delivery System <Mailer-Daemon@mx.sender.example>\n"
    "Subject: Mail delivery failed: returning message to sender\n",
)
EXIM_WARNING = _text(
    f"""\
This message was created automatically by mail delivery software.
A message that you sent has not yet been delivered to one or more of its
recipients after more than 24 hours on the queue on mx.sender.example.

The message identifier is:     1tAbCd-000123-AB

The address to which the message has not yet been delivered is:

  {ANN}
    host mx.customer.example [192.0.2.55]
    451 4.7.1 Greylisted

No action is required on your part. Delivery attempts will be retried.

{_ORIGINAL}""",
    "From: Mail Delivery System <Mailer-Daemon@mx.sender.example>\n"
    "Subject: Warning: message 1tAbCd-000123-AB delayed 24 hours\n",
)
SENDMAIL = _text(
    f"""\
The original message was received at Tue, 24 Nov 2026 10:00:00 GMT
from relay.test [192.0.2.1]

   ----- The following addresses had permanent fatal errors -----
<{ANN}>
    (reason: 550 5.1.1 <{ANN}>... User unknown)

   ----- Transcript of session follows -----
... while talking to mx.customer.example.:
>>> DATA
<<< 550 5.1.1 <{ANN}>... User unknown

   ----- Original message follows -----

{_ORIGINAL}""",
    "From: Mail Delivery Subsystem <MAILER-DAEMON@mx.sender.example>\n"
    "Subject: Returned mail: see transcript for details\n",
)
POSTFIX_OLD = _text(
    f"""\
This is the Postfix program at host mx.sender.example.

I'm sorry to have to inform you that your message could not be
be delivered to one or more recipients. It's attached below.

For further assistance, please send mail to <postmaster>

<{ANN}>: host mx.customer.example[192.0.2.55] said: 550 5.7.1
    <{ANN}>: Recipient address rejected: Access denied (in reply to
    RCPT TO command)

<bob@customer.example>: Name service error for name=customer.example type=MX: Host
    not found

--------- header of your message: message header follows ---------
{_ORIGINAL}""",
    "From: MAILER-DAEMON@mx.sender.example (Mail Delivery System)\nSubject: Undelivered Mail Returned to Sender\n",
)
GMAIL_OLD = _text(
    f"""\
Delivery to the following recipient failed permanently:

     {ANN}

Technical details of permanent failure:
Google tried to deliver your message, but it was rejected by the server for the recipient domain
customer.example by mx.customer.example. [192.0.2.55].

The error that the other server returned was:
550 5.1.1 <{ANN}>: Recipient address rejected: User unknown

----- Original message -----

{_ORIGINAL}
Hello
""",
    "From: Mail Delivery Subsystem <mailer-daemon@googlemail.example>\n"
    "Subject: Delivery Status Notification (Failure)\nIn-Reply-To: <2026112410.4711@acmejets.example>\n",
)
EXCHANGE_TEXT = _text(
    f"""\
Delivery has failed to these recipients or groups:

{ANN}<mailto:{ANN}>
The email address you entered couldn't be found. Please check the recipient's email address and try again.

Diagnostic information for administrators:

Generating server: EX01.customer.example

{ANN}
Remote Server returned '550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup'

Original message headers:

{_ORIGINAL}""",
    "From: Microsoft Outlook <postmaster@customer.example>\n"
    "Subject: Undeliverable: Your ticket\nIn-Reply-To: <2026112410.4711@acmejets.example>\n",
)
EXCHANGE_55 = _text(
    f"""\
Your message

  To:      {ANN}
  Subject: Your ticket
  Sent:    Tue, 24 Nov 2026 10:00:00 -0000

did not reach the following recipient(s):

{ANN} on Tue, 24 Nov 2026 10:00:05 -0000
    The recipient name is not recognized
\tThe MTS-ID of the original message is: c=us;a= ;p=customer;l=EX0102
    MSEXCH:IMS:CUSTOMER:SITE:EX01 0 (000C05A6) Unknown Recipient
""",
    "From: System Administrator <postmaster@customer.example>\nSubject: Undeliverable: Your ticket\n"
    "References: <other@acmejets.example>\n <2026112410.4711@acmejets.example>\n",
)
OUT_OF_OFFICE = _text(
    "I am out of the office until 5.12.2026.\n\nIn urgent cases write to\n\n  bob@customer.example\n\nor ring 550.\n",
    f"From: Ann <{ANN}>\nSubject: Automatic reply: Your ticket\nIn-Reply-To: {SENT}\nAuto-Submitted: auto-replied\n",
)
ANSWER = _text(
    f"You wrote that mail to\n\n  {ANN}\n\nfailed permanently: 550 5.1.1 User unknown\n\nMessage-ID: {SENT}\n",
    f"From: Ann <{ANN}>\nSubject: Re: Undelivered Mail Returned to Sender\n",
).replace(b"Return-Path: <>", b"Return-Path: <ann@customer.example>")

# Name, sample, who did not get it, the status, a part of the words, the reporter.
RETURNED = {
    "postfix": (
        POSTFIX,
        [ANN],
        "5.1.1",
        "550 5.1.1 <ann@customer.example>: Recipient address rejected",
        "mx.sender.example",
    ),
    "forwarded": (
        FORWARDED,
        [ANN, "ann.private@elsewhere.example"],
        "5.2.2",
        "552 5.2.2 mailbox full",
        "mx.customer.example",
    ),
    "exchange": (EXCHANGE, ["Ann@Customer.Example", ANN], "5.1.10", "RecipientNotFound", "exchangelabs.example"),
    "gmail": (GMAIL, [ANN], "5.1.1", "550-5.1.1 The email account", "googlemail.example"),
    "international": (INTERNATIONAL, ["jürgen@bücher.example"], "5.1.1", "550 5.1.1 <jürgen", "mx.sender.example"),
    "qmail": (QMAIL, [ANN], "5.1.1", "550 sorry, no mailbox here", "mx.sender.example"),
    "exim": (EXIM, [ANN], "5.0.0", "550 No such person at this address", "mx.sender.example"),
    "sendmail": (SENDMAIL, [ANN], "5.1.1", "550 5.1.1 <ann@customer.example>... User unknown", "mx.sender.example"),
    "postfix-old": (POSTFIX_OLD, [ANN], "5.7.1", "550 5.7.1 <ann@customer.example>: Recipient address rejected", ""),
    "gmail-old": (GMAIL_OLD, [ANN], "5.1.1", "550 5.1.1 <ann@customer.example>: Recipient", "googlemail.example"),
    "exchange-text": (EXCHANGE_TEXT, [ANN], "5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound", "customer.example"),
    "exchange-5.5": (EXCHANGE_55, [ANN], "5.0.0", "The recipient name is not recognized", "customer.example"),
}
NOT_RETURNED = {
    "delayed": DELAYED,
    "exim-warning": EXIM_WARNING,
    "out-of-office": OUT_OF_OFFICE,
    "answer": ANSWER,
    "empty": b"",
    "no message id": EXIM.replace(SENT.encode(), b""),
}
