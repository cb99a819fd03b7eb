"""A large message in parts."""

SENDER, YOU = "support@acmejets.example", "you@customer.example"
MIB = 1024 * 1024
HEADER = f"From: {SENDER}\r\nSubject: large\r\n".encode()
# As it stands on the wire: lines that begin with a dot, wherever a piece of it is cut.
PART = b"".join(
    b"..%074d\r\n" % number if number % 3 == 0 else b"%076d\r\n" % number for number in range(2 * MIB // 78)
)
END = b"the end\r\n.\r\n"
