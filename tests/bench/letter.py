"""The messages that our generator sends, and what our sink says of each that arrived."""

import zlib
from dataclasses import dataclass

DOMAIN = "acmejets.example"
PASSWORD = "only-for-the-bench"  # of every account
_LINE = 78
_HEADER = "From: %s\r\nTo: %s\r\nSubject: bench\r\nDate: Fri, 2 Jan 2026 03:04:05 +0000\r\nMessage-ID: <%s>\r\n\r\n"


def sender(number: int) -> str:
    """Return the address of a sender, which is also the name of its account."""
    return f"agent{number}@{DOMAIN}"


def recipient(number: int, tag: str) -> str:
    """Return whom message `number` of the run `tag` is for: nobody else is."""
    return f"{number}.{tag}@customer.example"


def body(size: int) -> bytes:
    """Return a body of about `size` octets as it stands on the wire, some of its lines behind a stuffed dot."""
    lines = [b"..%074d\r\n" % number if number % 7 == 0 else b"%076d\r\n" % number for number in range(size // _LINE)]
    return b"".join(lines)


def content(from_: str, to: str, wire_body: bytes) -> bytes:
    """Return a whole message as it stands on the wire, with the dot that ends it."""
    return b"%b%b.\r\n" % ((_HEADER % (from_, to, to)).encode(), wire_body)


def digest(wire_body: bytes, before: int = 0) -> int:
    """Return a checksum of a body and the CRLF in front of it, or of one whose first part has the checksum `before`."""
    return zlib.crc32(wire_body, before)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message at the sink: who logged in ("" for nobody), the envelope, the address in From, the body's checksum."""

    login: str
    sender: str
    recipient: str
    from_: str
    digest: int

    def line(self) -> str:
        """Return it as a line of the sink's file."""
        return f"{self.login}\t{self.sender}\t{self.recipient}\t{self.from_}\t{self.digest}\n"

    @classmethod
    def parse(cls, line: str) -> "Arrived":
        """Read such a line. Raises ValueError."""
        login, sender_, recipient_, from_, checksum = line.rstrip("\n").split("\t")
        return cls(login, sender_, recipient_, from_, int(checksum))


def faults(arrived: list[Arrived], tag: str, messages: int, wire_body: bytes, *, has_logins: bool) -> list[str]:
    """Return what is wrong with the messages of the run `tag`, each fault in a sentence; empty where all is right.

    Right is: every message once, its account, sender and From the same address, its body as it was.
    """
    found = []
    counts: dict[str, int] = {}
    for one in arrived:
        counts[one.recipient] = counts.get(one.recipient, 0) + 1
    wanted = {recipient(number, tag) for number in range(messages)}
    if missing := wanted - counts.keys():
        found.append(f"{len(missing)} messages are missing, such as {min(missing)}")
    if strange := counts.keys() - wanted:
        found.append(f"{len(strange)} messages are for somebody else, such as {min(strange)}")
    if twice := [name for name, count in counts.items() if count > 1]:
        found.append(f"{len(twice)} messages arrived more than once, such as {min(twice)}")
    checksum = digest(b"\r\n" + wire_body)
    if torn := [one for one in arrived if one.digest != checksum]:
        found.append(f"{len(torn)} bodies are changed, such as that of {torn[0].recipient}")
    if alien := [one for one in arrived if one.from_ != one.sender or (has_logins and one.login != one.sender)]:
        first = alien[0]
        found.append(f"{len(alien)} messages are not of one identity: {first.login}, {first.sender}, {first.from_}")
    return found
