"""A mailbox by the API of the provider through which its mail is sent: Microsoft Graph, and the Gmail API.

It is read in a thread as the others are, and its requests are made by the loop, so that they end when nobody waits.
The first octets of a mail are read, and the connection is closed where there are more.

Imported where the first such mailbox is opened.
"""

import asyncio
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from relay.directory.model import Kind, Meaning, Server
from relay.incoming.reader import (
    INBOX,
    MOST_HEADER,
    MOST_NEW,
    Arrivals,
    Credentials,
    Folder,
    Head,
    MailboxFailed,
    MailboxRefused,
)
from relay.upstream.http.client import Answer, ApiClient
from relay.upstream.http.meaning import refusal_of
from relay.upstream.outcome import Failed, Failure, Phase

_OLDEST = "1970-01-01T00:00:00Z"
_RAW = re.compile(rb'"raw"\s*:\s*"([A-Za-z0-9_=-]*)')


class _Requests:
    """Makes requests from a thread, by the loop. Raises MailboxFailed."""

    def __init__(self, client: ApiClient, server: Server, login: Credentials, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._server = server
        self._token = login.secret
        self._loop = loop
        self._pending: Future[Answer] | None = None
        self._is_cut = False

    def ask(self, method: str, path: str, *, may_lack: bool = False, most: int = 0) -> Answer:
        """Return a good answer, or where it `may_lack` one with status 404; with `most` its first octets."""
        url = f"{self._server.effective_api_url}{path}"
        asking = self._client.ask(method, url, self._token, phase=Phase.LOGIN, most=most)
        self._pending = asyncio.run_coroutine_threadsafe(asking, self._loop)
        if self._is_cut:
            self._pending.cancel()
        try:
            answer = self._pending.result()
        except Failed as failed:
            raise _fault(failed.failure) from None
        except CancelledError:
            raise MailboxFailed("nobody waits for it any more") from None
        if not answer.is_good and not (may_lack and answer.status == 404):
            raise _fault(refusal_of(answer, self._server.kind, self._server.answers, has_sent=False))
        return answer

    def cut(self) -> None:
        """End what is under way, and begin nothing more."""
        self._is_cut = True
        if self._pending is not None:
            self._pending.cancel()


class _Box(Protocol):
    """The mailbox at one provider. A position is text, as a reader's."""

    junk: Folder

    def look(self) -> None:
        """Raise MailboxRefused where it may not be read."""

    def position(self, folder: Folder) -> str:
        """Return the position behind all that is there."""

    def new(self, folder: Folder, position: str) -> tuple[list[str], str]:
        """Return the ids of at most MOST_NEW mails behind a position, the oldest first, and the position behind."""

    def octets(self, uid: str, most: int) -> bytes:
        """Return the first octets of a mail, b"" where it is gone."""

    def delete(self, uid: str) -> None:
        """Delete a mail."""


class ApiReader:
    """An open mailbox. `cut` ends what is under way, from the loop."""

    sees_arrivals = True

    def __init__(self, client: ApiClient, server: Server, login: Credentials, loop: asyncio.AbstractEventLoop) -> None:
        self._requests = _Requests(client, server, login, loop)
        self._client = client
        kind = _GmailBox if server.kind is Kind.GMAIL else _GraphBox
        self._box: _Box = kind(self._requests, login.username)

    def look(self) -> "ApiReader":
        """Return itself, where the mailbox may be read."""
        self._box.look()
        return self

    def folders(self) -> tuple[Folder, ...]:
        """Return the inbox and the folder for junk."""
        return (INBOX, self._box.junk)

    def position(self, folder: Folder) -> str:
        """Return the position behind all that is there."""
        return self._box.position(folder)

    def arrivals(self, folder: Folder, position: str) -> Arrivals:
        """Return what arrived behind a position."""
        uids, after = self._box.new(folder, position)
        found = [(uid, self._box.octets(uid, MOST_HEADER)) for uid in uids]
        return Arrivals(tuple(Head(uid, _header(octets)) for uid, octets in found if octets), after)

    def content(self, folder: Folder, uid: str, octets: int) -> bytes:  # noqa: ARG002 - an id is good in all folders
        """Return the first octets of a mail."""
        return self._box.octets(uid, octets)

    def remove(self, folder: Folder, uid: str) -> bool:  # noqa: ARG002 - the same
        """Delete one mail."""
        self._box.delete(uid)
        return True

    def leave(self) -> None:
        """There is nobody to say good-bye to."""

    def drop(self) -> None:
        """Close the connection at once: `aclose` does."""

    def cut(self) -> None:
        """End what is under way."""
        self._requests.cut()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class _GraphBox:
    """learn.microsoft.com/graph/api/user-list-messages and message-get ("Get MIME content").

    A position is the time of the newest mail that is known, in whole seconds, and which mails of that second are.
    """

    junk = Folder("junkemail", is_junk=True)

    def __init__(self, requests: _Requests, username: str) -> None:
        self._requests = requests
        self._path = f"/users/{quote(username)}"

    def look(self) -> None:
        self._requests.ask("GET", f"{self._path}/mailFolders/inbox?$select=id")

    def position(self, folder: Folder) -> str:
        query = {"$select": "id,receivedDateTime", "$orderby": "receivedDateTime desc", "$top": "1"}
        newest = self._listed(folder, query)
        return self._behind(newest, _OLDEST, []) if not newest else self._all_of(folder, _moment(newest[-1]))

    def new(self, folder: Folder, position: str) -> tuple[list[str], str]:
        since, *known = position.split("\n")
        found = [one for one in self._since(folder, since, MOST_NEW + len(known)) if _id(one) not in set(known)]
        taken = found[:MOST_NEW]
        return [_id(one) for one in taken], self._behind(taken, since, known)

    def octets(self, uid: str, most: int) -> bytes:
        path = f"{self._path}/messages/{quote(uid, safe='')}/$value"
        return self._requests.ask("GET", path, may_lack=True, most=most).octets

    def delete(self, uid: str) -> None:
        self._requests.ask("DELETE", f"{self._path}/messages/{quote(uid, safe='')}", may_lack=True)

    def _all_of(self, folder: Folder, moment: str) -> str:
        return self._behind(self._since(folder, moment, MOST_NEW), moment, [])

    def _since(self, folder: Folder, moment: str, count: int) -> list[Mapping[str, Any]]:
        # Exchange wants what it sorts by first in the filter.
        query = {"$filter": f"receivedDateTime ge {moment}", "$orderby": "receivedDateTime asc", "$top": str(count)}
        return self._listed(folder, {**query, "$select": "id,receivedDateTime"})

    def _listed(self, folder: Folder, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
        name = "inbox" if folder == INBOX else folder.name
        told = urlencode(query, quote_via=quote, safe="$,")
        said = self._requests.ask("GET", f"{self._path}/mailFolders/{name}/messages?{told}").said or {}
        return [one for one in _list(said, "value") if _id(one) and _moment(one)]

    @staticmethod
    def _behind(taken: list[Mapping[str, Any]], since: str, known: list[str]) -> str:
        last = _moment(taken[-1]) if taken else since
        same = [_id(one) for one in taken if _moment(one) == last]
        return "\n".join([last, *(known if last == since else []), *same])


class _GmailBox:
    """developers.google.com/gmail/api/guides/sync: a position is a historyId, which Gmail keeps for a week or more."""

    junk = Folder("SPAM", is_junk=True)
    _me = "/gmail/v1/users/me"

    def __init__(self, requests: _Requests, username: str) -> None:  # noqa: ARG002 - the token says whose it is
        self._requests = requests

    def look(self) -> None:
        self._requests.ask("GET", f"{self._me}/profile")

    def position(self, folder: Folder) -> str:  # noqa: ARG002 - one for all folders
        said = self._requests.ask("GET", f"{self._me}/profile").said or {}
        return _text(said, "historyId")

    def new(self, folder: Folder, position: str) -> tuple[list[str], str]:
        query = {"startHistoryId": position, "labelId": folder.name, "historyTypes": "messageAdded"}
        path = f"{self._me}/history?{urlencode({**query, 'maxResults': MOST_NEW})}"
        answer = self._requests.ask("GET", path, may_lack=True)
        if answer.status == 404:  # too old
            return [], self.position(folder)
        said = answer.said or {}
        records = _list(said, "history")
        added = [one for record in records for one in _list(record, "messagesAdded")]
        uids = [_id(one.get("message")) for one in added if isinstance(one, dict)]
        is_more = bool(said.get("nextPageToken")) and bool(records)
        return list(dict.fromkeys(filter(None, uids))), _text(records[-1], "id") if is_more else _text(
            said, "historyId"
        )

    def octets(self, uid: str, most: int) -> bytes:
        path = f"{self._me}/messages/{quote(uid, safe='')}?format=raw&fields=raw"
        said = self._requests.ask("GET", path, may_lack=True, most=most // 3 * 4 + 64)
        found = _RAW.search(said.octets)
        text = found[1].rstrip(b"=") if found else b""
        whole = text[: len(text) // 4 * 4] if len(text) % 4 == 1 else text + b"=" * (-len(text) % 4)
        return urlsafe_b64decode(whole)

    def delete(self, uid: str) -> None:
        self._requests.ask("DELETE", f"{self._me}/messages/{quote(uid, safe='')}", may_lack=True)


def _header(octets: bytes) -> bytes:
    head, end, _ = octets.partition(b"\r\n\r\n")
    return head + end


def _id(said: Any) -> str:
    value = said.get("id") if isinstance(said, Mapping) else None
    return value if isinstance(value, str) and "\n" not in value else ""


def _moment(said: Mapping[str, Any]) -> str:
    value = said.get("receivedDateTime")
    return value if isinstance(value, str) and re.fullmatch(r"[0-9T:.Z+-]{1,40}", value) else ""


def _text(said: Any, key: str) -> str:
    value = said.get(key) if isinstance(said, Mapping) else None
    if not isinstance(value, str) or not value.isdecimal():
        raise MailboxFailed(f"the answer has no {key}")
    return value


def _list(said: Any, key: str) -> list[Any]:
    value = said.get(key) if isinstance(said, Mapping) else None
    return value if isinstance(value, list) else []


def _fault(failure: Failure) -> MailboxFailed:
    is_refused = failure.from_server and failure.meaning in {Meaning.LOGIN_REFUSED, Meaning.IDENTITY_REFUSED}
    return (MailboxRefused if is_refused else MailboxFailed)(failure.why)
