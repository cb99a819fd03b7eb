"""Why a message was not handed over, and the exit status that says so to a program (sysexits.h)."""

import os

from relay.mail.reply import Reply

# By the last two parts of the enhanced code, else by its subject (RFC 3463): what the caller can mend, or not.
_BY_DETAIL = {
    "1.0": os.EX_NOUSER,
    "1.1": os.EX_NOUSER,
    "1.2": os.EX_NOHOST,
    "1.3": os.EX_DATAERR,
    "1.6": os.EX_NOUSER,
    "1.7": os.EX_DATAERR,
    "1.8": os.EX_DATAERR,
    "1.10": os.EX_NOUSER,
    "2.3": os.EX_DATAERR,
    "3.4": os.EX_DATAERR,
}
_BY_SUBJECT = {"5": os.EX_PROTOCOL, "6": os.EX_DATAERR, "7": os.EX_NOPERM}
_BY_CODE = {530: os.EX_NOPERM, 535: os.EX_NOPERM, 552: os.EX_DATAERR, 554: os.EX_DATAERR}


class NotSent(Exception):
    """Nothing was handed over, or nobody knows. `status` is the exit status, each of `sentences` one line of text."""

    def __init__(self, status: int, *sentences: str) -> None:
        super().__init__("; ".join(sentences))
        self.status = status
        self.sentences = sentences


def refused(reply: Reply, about: str = "") -> NotSent:
    """Return what a refusal by the service comes to; `about` says what it refused."""
    return NotSent(exit_status(reply), f"{about}: {reply}" if about else str(reply))


def exit_status(reply: Reply) -> int:
    """Return the exit status for a reply that is no success."""
    if not reply.is_permanent:
        return os.EX_TEMPFAIL
    detail = reply.enhanced[2:]
    subject = detail.partition(".")[0]
    fallback = _BY_CODE.get(reply.code, os.EX_UNAVAILABLE)
    return _BY_DETAIL.get(detail) or _BY_SUBJECT.get(subject) or fallback
