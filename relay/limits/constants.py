"""The numbers that the limits of accounts rest on: windows, margins, leases. All in seconds, unless a name says parts.

`faults` states each inequality that must hold between them and returns those that do not; one
test asks it. Modules read these names at the moment of use (`constants.MINUTE`), so a test may run with a short minute.
"""

# The rate of messages.
MINUTE = 60.0  # what messages_per_minute is about
# MAIL takes different times to reach the server. Two that begin a minute apart must not arrive within one.
RATE_GUARD_SECONDS = 1.0
# Between processes a row in the store may also be older than the message that it stands for: a second more.
SHARED_RATE_GUARD_SECONDS = 2.0
# A fifteenth of the limit may begin at once, so that a few messages now and then do not wait. The minute behind it
# lacks as many, and so still has more than nine tenths of the limit.
BURST_PARTS = 15
# A burst is made up for within this time: what is that much older than the window still says how far we are ahead.
SEEN_BEFORE_SECONDS = 5.0
# A reservation of messages of a single process counts as begun so much later, and may be used until then.
AHEAD_SECONDS = 10
# The row of a message that was let go and has not begun is moved on so often.
TIDY_SECONDS = 0.5
# A message that begins so much later than it was let go counts from when it begins.
LATE_SECONDS = 0.2

# The recipients of a day.
DAY = 86400  # what recipients_per_day is about
PIECE = 600  # what a rolling day is counted in
# What is taken ahead of a day counts so much later, and may be used until then: also while the store is away.
DAY_AHEAD_SECONDS = 3600

# Outage of the store.
TELL_SECONDS = 5.0  # how often a process says in the store that it is there
KEPT_BACK_SECONDS = 15.0  # after so long a silence the others leave a process's outage share free
AWAY_SECONDS = 20.0  # after so long without the store a process uses its outage share

# The lease of a share of connections. A process may be stopped, or lost with its machine, while it uses its share, and
# then its connections stay open at their provider: RFC 5321 section 4.5.3.2.7 lets a server give up a silent client
# after 5 minutes at the earliest. Those that we know of do so after 5 (Postfix, Exim, Exchange Online), or after 10,
# which is covered where the database was there until then.
SHARE_LEASE_SECONDS = 900.0
USED_PART = 19 / 30  # so much of the lease a process uses its shares
SHARE_RENEW_SECONDS = 30.0
SILENT_CLIENT_SECONDS = 300.0  # how long a provider may keep the connections of one that is lost


def faults() -> list[str]:
    """Return in a sentence each inequality that these numbers do not satisfy."""
    used = USED_PART * SHARE_LEASE_SECONDS
    laws = {
        "a guard is a small part of the minute, or too little of the limit is used": (
            0 < RATE_GUARD_SECONDS < SHARED_RATE_GUARD_SECONDS <= MINUTE / 30
        ),
        "a burst leaves nine tenths of the limit to the minute behind it": 1 / BURST_PARTS < 0.1,
        "a burst is made up for before its messages are forgotten": (
            SEEN_BEFORE_SECONDS >= (MINUTE + SHARED_RATE_GUARD_SECONDS) / BURST_PARTS
        ),
        "a reservation of messages is written anew within the minute": AHEAD_SECONDS < MINUTE,
        "a row is never a second older than its message, which is what the second guard stands for": (
            TIDY_SECONDS + LATE_SECONDS <= SHARED_RATE_GUARD_SECONDS - RATE_GUARD_SECONDS
        ),
        "a day is a whole number of pieces, and a piece less than a hundredth of it": (
            DAY % PIECE == 0 and PIECE < DAY / 100
        ),
        "what a kill loses of a day is lost for hardly longer than a day": (
            DAY_AHEAD_SECONDS % PIECE == 0 and PIECE <= DAY_AHEAD_SECONDS <= DAY / 20
        ),
        "in an outage recipients can be used for as long as connections": used <= DAY_AHEAD_SECONDS,
        "one word in the store may fail before the others leave a share free": 2 * TELL_SECONDS < KEPT_BACK_SECONDS,
        "a share is used only after the others leave it free": KEPT_BACK_SECONDS < AWAY_SECONDS,
        "an outage share can be used for some time before the lease is over": used > AWAY_SECONDS + MINUTE,
        "the connections of one that is lost are closed before its lease ends": (
            SHARE_LEASE_SECONDS - used >= SILENT_CLIENT_SECONDS
        ),
        "a renewal may fail, and fail again, before a process stops using its shares": used > 3 * SHARE_RENEW_SECONDS,
    }
    return [law for law, holds in laws.items() if not holds]
