"""What arrived in mailboxes that are read by an API, and what is answered about it as Graph and Gmail do."""

from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from tests.peers.http_api import Reply

_OLDEST = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A mail in a mailbox. `number` rises with every mail, whosever it is."""

    id: str
    user: str
    folder: str
    octets: bytes
    number: int
    received: str


@dataclass(slots=True)
class ApiInbox:
    """The mails of all mailboxes, the oldest first. `oldest_history` is the first number that Gmail still knows."""

    mails: list[Arrived] = field(default_factory=list)
    oldest_history: int = 0
    _numbers: "count[int]" = field(default_factory=lambda: count(2))
    _number: int = 1

    def deliver(self, user: str, octets: bytes, folder: str = "inbox", received: str = "") -> str:
        """Put a mail into a folder, and return its id. `received` is a time of RFC 3339, now where it is left out."""
        self._number = next(self._numbers)
        at = received or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        mail = Arrived(f"in/{self._number}=", user, folder, octets, self._number, at)
        self.mails.append(mail)
        return mail.id

    def of(self, user: str, folder: str) -> list[Arrived]:
        """Return the mails of a folder."""
        return [mail for mail in self.mails if (mail.user, mail.folder) == (user, folder)]

    def graph_list(self, user: str, folder: str, query: dict[str, str]) -> Reply:
        """Answer a list of messages, as learn.microsoft.com/graph/api/user-list-messages."""
        assert query["$select"] == "id,receivedDateTime"
        since = query.get("$filter", f"receivedDateTime ge {_OLDEST}").removeprefix("receivedDateTime ge ")
        found = sorted((mail for mail in self.of(user, folder) if mail.received >= since), key=lambda one: one.received)
        ordered = found if query["$orderby"] == "receivedDateTime asc" else found[::-1]
        value = [{"id": one.id, "receivedDateTime": one.received} for one in ordered[: int(query["$top"])]]
        return Reply(200, {"value": value})

    def gmail_history(self, user: str, query: dict[str, str]) -> Reply | None:
        """Answer users.history.list; None for a start that is too old."""
        start, most = int(query["startHistoryId"]), int(query["maxResults"])
        if start < self.oldest_history:
            return None
        found = [one for one in self.of(user, query["labelId"]) if one.number > start]
        history = [{"id": str(one.number), "messagesAdded": [{"message": {"id": one.id}}]} for one in found[:most]]
        more = {"nextPageToken": "more"} if len(found) > most else {}
        return Reply(200, {"history": history, "historyId": str(self._number), **more})

    @property
    def history_id(self) -> str:
        """Where Gmail is now."""
        return str(self._number)

    def get(self, id_: str) -> Arrived | None:
        """Return a mail."""
        return next((mail for mail in self.mails if mail.id == id_), None)

    def raw(self, id_: str) -> Reply | None:
        """Answer users.messages.get with format=raw."""
        mail = self.get(id_)
        return Reply(200, {"raw": urlsafe_b64encode(mail.octets).decode().rstrip("=")}) if mail is not None else None

    def delete(self, id_: str) -> bool:
        """Delete a mail; False where there is none."""
        mail = self.get(id_)
        if mail is not None:
            self.mails.remove(mail)
        return mail is not None
