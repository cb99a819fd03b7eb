"""The login to a mailbox by an access token: XOAUTH2 as Google and Microsoft have it, or OAUTHBEARER (RFC 7628).

developers.google.com/gmail/imap/xoauth2-protocol has it for IMAP and POP3;
learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
too. XOAUTH2 comes first, as for SMTP.
"""

from base64 import b64encode
from collections.abc import Collection

from relay.incoming.reader import Credentials, MailboxRefused
from relay.upstream.auth import (
    OAUTHBEARER_END,
    XOAUTH2_END,
    ExchangeStopped,
    masked,
    oauthbearer_message,
    refusal_words,
    xoauth2_message,
)

_MECHANISMS = (("XOAUTH2", xoauth2_message, XOAUTH2_END), ("OAUTHBEARER", oauthbearer_message, OAUTHBEARER_END))


class TokenLogin:
    """One login by a token, tried once. `mechanism` names how. Raises MailboxRefused where there is no way."""

    def __init__(self, login: Credentials, offered: Collection[str]) -> None:
        found = next((one for one in _MECHANISMS if one[0] in {name.upper() for name in offered}), None)
        if found is None:
            raise MailboxRefused("the server offers no login by OAuth that we know (XOAUTH2 or OAUTHBEARER)")
        self.mechanism, message, self._end = found
        self._login = login
        self._challenge = b""
        self._has_told = False
        try:
            self._message = message(login.username, login.secret)
        except ExchangeStopped as stopped:
            raise MailboxRefused(str(stopped)) from None

    def answer(self, challenge: bytes) -> bytes:
        """Return what is said to a challenge: the token, and after it the end of a refusal that explains itself."""
        if not self._has_told:
            self._has_told = True
            return self._message
        self._challenge = challenge
        return self._end

    def refused(self, words: str) -> MailboxRefused:
        """Return a refusal in the server's words, without the token."""
        more = refusal_words(b64encode(self._challenge).decode())
        said = f"the login as {self._login.username} by OAuth was refused: {words}{f' ({more})' if more else ''}"
        return MailboxRefused(masked(said, self._login.secret, [self._login.secret, b64encode(self._message).decode()]))
