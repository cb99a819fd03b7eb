"""One mail transaction on an open connection: MAIL, RCPT, DATA, the message (RFC 5321 section 3.3).

All of it is `transact`; the steps are apart so that `probe` can show them one by one. Where the server announces
PIPELINING, commands leave in groups (RFC 2920). What comes of them is the same.
"""

from relay.mail.reply import Reply
from relay.upstream.commands import naming, opening
from relay.upstream.connection import Connection
from relay.upstream.group import DATA, RSET, Answers, Command
from relay.upstream.outcome import Failed, Failure, Outcome, Phase, garbage
from relay.upstream.transfer import Transfer
from relay.upstream.wire import CHUNK_END, FINAL_DOT, chunk, pieces, pieces_as_they_come

# In one group. Answers are read while a group is written, so that no window of TCP stops both sides; this bounds what
# is written ahead, and who is named in vain to a server that has had enough.
_MOST_RECIPIENTS = 100


async def transact(connection: Connection, transfer: Transfer) -> Outcome:
    """Hand a message over and return what came of it. Raises nothing but CancelledError.

    Without `all_or_none` the accepted recipients get the message, with it nobody does once one is refused. DATA leaves
    before the outcome is known to need it only in one group with RCPT, and an invitation that nobody needs is ended by
    closing: an empty transaction cannot be ended without sending a message.
    """
    envelope = _Envelope(connection, transfer)
    try:
        await envelope.announce()
        accepted = await _send(connection, transfer, is_chunk=connection.takes_chunks and not envelope.refused)
    except Failed as failed:
        refused = {} if failed.failure.out_of_step else envelope.refused
        return _outcome(connection, refused, failure=failed.failure)
    return _outcome(connection, envelope.refused, accepted=accepted)


async def mail(connection: Connection, transfer: Transfer) -> Reply:
    """MAIL, after a RSET where the connection needs one. Raises Failed, also for what this server cannot take."""
    return await _Envelope(connection, transfer).open()


async def rcpt(connection: Connection, transfer: Transfer, index: int) -> Reply:
    """RCPT for one recipient of the transfer. Raises Failed."""
    envelope = _Envelope(connection, transfer)
    answers = await envelope.ask(naming(connection, transfer, index))
    if index in envelope.refused:
        raise Failed(envelope.refused[index])
    return answers.last


async def data(connection: Connection, transfer: Transfer) -> Reply:
    """DATA and the message; return the answer to the final dot. Raises Failed."""
    if not connection.takes_chunks:
        await _Envelope(connection, transfer).ask(DATA)
    return await _send(connection, transfer, is_chunk=connection.takes_chunks)


class _Envelope:
    """Sender and recipients as they are said to one server, and who was refused, by the index in the transfer."""

    def __init__(self, connection: Connection, transfer: Transfer) -> None:
        self.refused: dict[int, Failure] = {}
        self._full: Failure | None = None  # the server has no room for more recipients in this transaction
        self._connection = connection
        self._transfer = transfer
        self._is_in_groups = connection.offers.has("pipelining")

    async def open(self) -> Reply:
        """RSET, where it is needed, and MAIL, one by one; return the answer to MAIL. Raises Failed."""
        *before, mail_ = self._opening()
        for command in before:
            await self.ask(command)
        return (await self.ask(mail_)).last

    async def announce(self) -> None:
        """All that goes before the message. Raises Failed where nobody may have it."""
        if self._is_in_groups:
            await self._announce(self._opening(), _MOST_RECIPIENTS)
        else:
            await self.open()
            await self._announce([], 1)

    async def _announce(self, ahead: list[Command], most: int) -> None:
        connection, total = self._connection, len(self._transfer.recipients)
        # Where all or none get the message, DATA follows all answers: what was begun could only be ended by closing.
        may_join = most > 1 and not self._transfer.all_or_none
        start, is_asked = 0, False
        while start < total and self._full is None:
            end = min(start + most, total)
            group = ahead + [naming(connection, self._transfer, index) for index in range(start, end)]
            if may_join and end == total and not connection.takes_chunks:
                group.append(DATA)
                is_asked = True
            await self.ask(*group)
            ahead, start = [], end
        if self._full is not None:
            self.refused.update(dict.fromkeys(range(start, total), self._full))
            self._check()
        # BDAT has no 354, which proves a refusal before it: with one the message goes by DATA.
        if not is_asked and (self.refused or not connection.takes_chunks):
            await self.ask(DATA)

    async def ask(self, *group: Command) -> Answers:
        """Send a group in one go, judge what is answered, and return it.

        Raises Failed where nobody may have the message.
        """
        connection = self._connection
        if any(command.phase is Phase.MAIL and command is not RSET for command in group[:2]):
            connection.needs_reset = True
            await connection.progress.note_mail()
        answers = await connection.ask_all(group)
        try:
            self._judge(group, answers)
        except Failed as failed:
            if answers.is_invited:
                connection.abort()  # RFC 2920 section 3.1: whatever is said now is a message
            elif self._is_in_groups and connection.is_usable and _may_be_of_another(group, failed.failure):
                await connection.check_in_step()
            raise
        return answers

    def _opening(self) -> list[Command]:
        self._connection.progress.phase = Phase.MAIL
        return opening(self._connection, self._transfer)

    def _judge(self, group: tuple[Command, ...], answers: Answers) -> None:
        lost = answers.failure
        if lost is not None and lost.out_of_step:
            raise Failed(lost)
        is_in_step = False  # as long as nobody asked: where all is accepted, each code has its command
        for command, response in zip(group, answers.responses, strict=False):
            failure = self._connection.fault(command.phase, response, 3 if command is DATA else 2)
            if failure is None:
                continue
            if not is_in_step and (why := answers.mismatch(group)):
                self._connection.abort()
                raise Failed(garbage(command.phase, why))
            is_in_step = True
            if command is RSET:
                # No server may refuse it (RFC 5321 section 4.1.1.5); whatever it means, it is not about the message.
                self._connection.abort()
                raise Failed(garbage(Phase.MAIL, f"answer to RSET: {failure.reply}"))
            if command.phase is Phase.RCPT and failure.from_server and failure.reply.code != 421:
                self.refused[command.recipient] = failure
                if failure.in_next_transaction:
                    self._full = self._full or failure
            else:
                lost = failure  # of the connection, or of the message; nothing that counts is behind it
                break
        self._check()
        if lost is not None:
            raise Failed(lost)

    def _check(self) -> None:
        """Raise Failed in the first one's words where the refused leave nobody who may have the message."""
        first = next(iter(self.refused.values()), None)
        if first is not None and (self._transfer.all_or_none or len(self.refused) == len(self._transfer.recipients)):
            raise Failed(first)


def _may_be_of_another(group: tuple[Command, ...], failure: Failure) -> bool:
    """Whether the refusal at the end of a group may be an answer too many, whose command is answered later.

    The answer to DATA proves those before it, and nothing proves itself. Whoever asks one by one has waited.
    """
    if not failure.from_server or not failure.reply.is_permanent:
        return False
    return failure.phase is Phase.DATA or (failure.phase is Phase.RCPT and len(group) > 1 and group[-1] is not DATA)


async def _send(connection: Connection, transfer: Transfer, *, is_chunk: bool) -> Reply:
    content = transfer.content
    if transfer.arriving is not None:
        reply = await connection.send(pieces_as_they_come(transfer.arriving.chunks()), FINAL_DOT)
    elif is_chunk:
        reply = await connection.send(chunk(content.chunks(), content.size), CHUNK_END)
    else:
        reply = await connection.send(pieces(content.chunks()), FINAL_DOT)
    connection.demand(reply, "2")
    connection.needs_reset = False
    connection.messages += 1
    return reply


def _outcome(
    connection: Connection,
    refused: dict[int, Failure],
    *,
    accepted: Reply | None = None,
    failure: Failure | None = None,
) -> Outcome:
    return Outcome(
        host=connection.server.host,
        tls=connection.tls,
        has_dsn=connection.offers.has("dsn"),
        refused=refused,
        accepted=accepted,
        failure=failure,
        on_new_connection=connection.messages == 0,
    )
