"""Reports of returned mail that are written for people alone, as older and some present mail systems send them.

What tells one is who sent it (nobody, or the mail system itself) together with what it says. Each product lays its
text out differently, and yet all put a recipient first on a line and the reason behind it.
"""

import re
from collections.abc import Iterator

from relay.mail.address import Address, AddressError
from relay.mail.parts import Fields, value_of
from relay.mail.returned_copy import ReturnedCopy, status_in, words_of

_MOST_LINES = 2000
_ADDRESS = r"[^\s<>@\"',;:()\[\]]{1,64}@[A-Za-z0-9._-]{1,190}[A-Za-z0-9]"
# <ann@x>: …  (qmail, Postfix, sendmail) · "  ann@x" alone (Exim, Gmail) · ann@x on Mon, … (Exchange 5.5)
_RECIPIENT = re.compile(
    rf"[ \t]*[<'\"]?({_ADDRESS})[>'\"]?(?:<mailto:[^>\s]*>|\(mailto:[^)\s]*\))?[ \t]*"
    r"(?:$|:[ \t]*(.*)|on [A-Z][a-z]{2}, .*)"
)
_MAIL_SYSTEM = re.compile(r"\b(?:mailer-daemon|mail-daemon|postmaster|mail delivery (?:sub)?system)\b", re.IGNORECASE)
# Below it is the message that came back, which may hold anything.
_ORIGINAL = re.compile(
    r"^[ \t]*-{3,}.*\b(?:original message|copy of (?:the|your) message|headers? follow|message header)\b"
    r"|^[ \t]*Original message headers:",
    re.IGNORECASE | re.MULTILINE,
)
_OVER = re.compile(
    r"could ?n[o']t be delivered|could not be delivered|unable to deliver|not able to deliver|undeliver|"
    r"deliver\w* .{0,60}fail|fail\w* .{0,40}deliver|failed permanently|permanent (?:fatal )?error|permanent failure|"
    r"did not reach|returned to sender|returned mail|failure notice|wasn't delivered|was not delivered",
    re.IGNORECASE,
)
_NOT_OVER = re.compile(
    r"will be re-?tried|still being retried|keep trying|has(?: not yet|n't yet)? been (?:delayed|queued)|"
    r"warning: message|delivery (?:is |has been )?delayed|do not need to resend|not need to (?:do|take) any|\(delay\)",
    re.IGNORECASE,
)
_REASON = re.compile(r"(?<![\d.])[45](?:\d\d[ \-]|\.\d{1,3}\.\d{1,3}(?![\d.]*\d))")


def may_be_report(fields: Fields) -> bool:
    """Whether a mail system says that it sent this, be it by the sender alone."""
    return bool(value_of(fields, "x-failed-recipients")) or _is_by_a_mail_system(fields)


def copies_in_text(fields: Fields, text: str) -> Iterator[ReturnedCopy]:
    """Yield the copies that a report without fields says came back; nothing where the mail is no such report."""
    failed = [part.strip(" \t<>") for part in value_of(fields, "x-failed-recipients").split(",")]
    said = _ORIGINAL.split(text, maxsplit=1)[0]
    judged = f"{value_of(fields, 'subject')}\n{said}"
    if not (any(failed) or _is_by_a_mail_system(fields)) or _NOT_OVER.search(judged):
        return
    reasons = _reasons(said)
    if not any(failed) and not _OVER.search(judged):
        return
    by_key = {address.lower(): address for address in [*failed, *reasons] if _is_address(address)}
    if any(failed):
        by_key = {key: by_key[key] for address in failed if (key := address.lower()) in by_key}
    reporter = _reporter(fields)
    for address in by_key.values():
        words = reasons.get(address.lower(), "")
        yield ReturnedCopy((address,), status_in(words) or "5.0.0", words, reporter)


def _is_by_a_mail_system(fields: Fields) -> bool:
    """Whether nobody is to be answered (a null sender, RFC 5321 section 4.5.5), or a mail system gives its name."""
    is_null = value_of(fields, "return-path").replace(" ", "") == "<>"
    return is_null or _MAIL_SYSTEM.search(value_of(fields, "from")) is not None


def _reasons(text: str) -> dict[str, str]:
    """Return what is said behind each recipient, by its address in lower case; with a code before without one."""
    found: dict[str, str] = {}
    lines = text.split("\n")[:_MOST_LINES]
    starts = list(_starts(lines))
    for (start, match), end in zip(starts, [*[number for number, _ in starts[1:]], len(lines)], strict=False):
        key, words = match[1].lower(), _reason([match[2] or "", *lines[start + 1 : end]])
        if key not in found or (status_in(words) and not status_in(found[key])):
            found[key] = words
    return found


def _starts(lines: list[str]) -> Iterator[tuple[int, re.Match[str]]]:
    """Yield the lines with a recipient; not where what is said about one goes on with its address."""
    key = ""
    for number, line in enumerate(lines):
        match = _RECIPIENT.match(line)
        if match is not None and (match[1].lower() != key or not lines[number - 1].strip()):
            key = match[1].lower()
            yield number, match


def _reason(lines: list[str]) -> str:
    """Return the paragraph with a server's code in it, from where the code stands on; else the first paragraph."""
    coded = next((number for number, line in enumerate(lines) if _REASON.search(line)), None)
    if coded is not None:
        code = _REASON.search(lines[coded])
        assert code is not None
        lines = [lines[coded][code.start() :], *lines[coded + 1 :]]
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            break
    return words_of(" ".join(paragraph))


def _is_address(text: str) -> bool:
    try:
        Address.parse(text)
    except AddressError:
        return False
    return True


def _reporter(fields: Fields) -> str:
    """Return the domain of From, which is the mail system's own."""
    match = re.search(_ADDRESS, value_of(fields, "from"))
    return words_of(match[0].rpartition("@")[2]) if match else ""
