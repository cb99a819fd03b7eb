"""One mail transaction on an open connection: MAIL, RCPT, DATA, the message (RFC 5321 section 3.3).

All of it is `transact`; the steps are apart so that `probe` can show them one by one. Where the server announces
PIPELINING, commands leave in groups (RFC 2920). What comes of them is the same.

SAFETY: the gate of `Progress` is passed when all of the message but its end has left. Where there is none, nothing is
awaited between the look at it and the end: whoever sees that the dot has not left may still set one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from relay import log
from relay.directory.model import Meaning, Server
from relay.mail.reply import Reply
from relay.store.db.errors import StoreError
from relay.upstream.connection import Connection
from relay.upstream.outcome import MAPPED, Failed, Failure, Outcome, Phase, early_failure, garbage, own_failure
from relay.upstream.protocol import EarlyAnswer, Link, RawReply, response_of
from relay.upstream.transaction import (
    CHUNK_END,
    FINAL_DOT,
    Gate,
    Progress,
    Transfer,
    check_lines,
    chunk,
    joined,
    mail_command,
    pieces,
    pieces_as_they_come,
    rcpt_command,
    stuffed,
)

# In one group. Answers are read while a group is written, so that no window of TCP stops both sides; this bounds what
# is written ahead, and who is named in vain to a server that has had enough.
_MOST_RECIPIENTS = 100
_STOPPED = Reply(451, "4.3.0", "Something went wrong here before the message was sent")


class Command(NamedTuple):
    """One command, without its line end. `recipient` is the index of whom it names in the transfer; -1: nobody."""

    phase: Phase
    line: str
    recipient: int = -1


RSET = Command(Phase.MAIL, "RSET")
DATA = Command(Phase.DATA, "DATA")


class GateFailed(Exception):
    """What was to be done before the final dot raised (its exception is the cause); the dot was not sent."""


async def transact(connection: Connection, transfer: Transfer, progress: Progress | None = None) -> Outcome:
    """Hand a message over and return what came of it. Raises CancelledError, and what `progress.on_mail` raises.

    Without `all_or_none` the accepted recipients get the message, with it nobody does once one is refused. DATA leaves
    before the outcome is known to need it only in one group with RCPT, and an invitation that nobody needs is ended by
    closing: an empty transaction cannot be ended without sending a message.
    """
    connection.server = transfer.server  # limits and answer rules may have changed; what it depends on has not
    connection.progress = progress or Progress()
    refused: dict[int, Failure] = {}
    accepted: Reply | None = None
    failure: Failure | None = None
    try:
        octets = joined(transfer.content) if _leaves_at_once(connection, transfer) else None
        if octets is not None:
            accepted = await _hand_over_at_once(connection, transfer, octets, refused)
        else:
            await _Envelope(connection, transfer, refused).announce()
            accepted = await _send(connection, transfer, None, is_chunk=connection.takes_chunks and not refused)
    except Failed as failed:
        failure = failed.failure
        warn_out_of_step(connection.server, failure)
        if failure.out_of_step:
            refused = {}
    except BaseException:
        connection.abort()  # where the server stands nobody knows
        raise
    finally:
        connection.progress = connection.nobody  # the caller's may hold all of the message
    return Outcome(
        host=transfer.server.host,
        tls=connection.tls,
        has_dsn="dsn" in connection.offers.extensions,
        refused=refused,
        accepted=accepted,
        failure=failure,
        on_new_connection=connection.messages == 0,
    )


async def mail(connection: Connection, transfer: Transfer) -> Reply:
    """MAIL, after a RSET where the connection needs one. Raises Failed, also for what this server cannot take."""
    return await _Envelope(connection, transfer, {}).open()


async def rcpt(connection: Connection, transfer: Transfer, index: int) -> Reply:
    """RCPT for one recipient of the transfer. Raises Failed."""
    refused: dict[int, Failure] = {}
    envelope = _Envelope(connection, transfer, refused)
    reply = await envelope.ask(envelope.naming(index))
    if index in refused:
        raise Failed(refused[index])
    return reply


async def data(connection: Connection, transfer: Transfer) -> Reply:
    """DATA and the message; return the answer to the final dot. Raises Failed."""
    if not connection.takes_chunks:
        await _Envelope(connection, transfer, {}).ask(DATA)
    return await _send(connection, transfer, None, is_chunk=connection.takes_chunks)


def warn_out_of_step(server: Server, failure: Failure) -> None:
    """Log where a server's answers are not those of our commands."""
    if failure.out_of_step:
        log.warned(
            "the server's answers are out of step with the commands; nothing of this attempt is taken for final",
            server=server.name,
            phase=str(failure.phase),
            said=failure.why,
        )


def _leaves_at_once(connection: Connection, transfer: Transfer) -> bool:
    """Whether MAIL, all RCPT and DATA may leave in one write."""
    return (
        connection.is_pipelined
        and not connection.needs_reset
        and not (transfer.server.chunking and connection.takes_chunks)
        and len(transfer.recipients) <= _MOST_RECIPIENTS
        # Where all or none get the message, DATA follows all answers: what was begun could only be ended by closing.
        and not transfer.all_or_none
        and transfer.arriving is None
    )


async def _hand_over_at_once(
    connection: Connection, transfer: Transfer, octets: bytes, refused: dict[int, Failure]
) -> Reply:
    """MAIL, all RCPT and DATA in one write, and a message of one piece in the next; return the answer to its end.

    Nearly all mail goes this way: where all is accepted, no more than the codes is looked at, and where there is no
    gate, the message leaves as soon as they are here. Raises Failed where nobody may have it.
    """
    progress, offers, number = connection.progress, connection.offers, len(transfer.recipients)
    progress.phase = Phase.MAIL
    named = [rcpt_command(transfer, recipient, offers) for recipient in transfer.recipients]
    recipients = "\r\n".join(named)
    line = mail_command(
        transfer,
        offers,
        is_encrypted=connection.tls is not None,
        size=len(octets),
        is_ascii=octets.isascii(),
        recipients=recipients,
    )
    connection.needs_reset = True
    if progress.on_mail is not None:
        await progress.on_mail()
    phases = (Phase.MAIL, *(Phase.RCPT,) * number, Phase.DATA)
    link, patience = connection.link, connection.timeouts.final

    def go_on() -> bool:
        """Send the message, where nothing has to be waited for before its dot."""
        if progress.before_final_dot is not None or not (link.is_in_step and _all_accepted(link.replies, number + 2)):
            return False
        message = stuffed(octets) + FINAL_DOT
        progress.note_final_dot()
        link.follow(message, patience)
        return True

    replies, lost = await _exchange(connection, f"{line}\r\n{recipients}\r\nDATA\r\n", phases, go_on)
    if progress.final_dot_sent:
        if lost is not None:
            connection.abort()
            raise Failed(lost)
        return _answer(connection)
    if lost is not None or not _all_accepted(replies, number + 2):
        all_named = [Command(Phase.RCPT, each, index) for index, each in enumerate(named)]
        group = (Command(Phase.MAIL, line), *all_named, DATA)
        await _Envelope(connection, transfer, refused).conclude(group, replies, lost)
    return await _send(connection, transfer, octets, is_chunk=False)


async def _exchange(
    connection: Connection, lines: str, phases: Sequence[Phase], go_on: Callable[[], bool] | None = None
) -> tuple[Sequence[RawReply], Failure | None]:
    """Send commands, one for each of the phases, in one write; return their answers, and why some are missing.

    Where `go_on` has sent the message behind them, the answer is the one to its end.
    """
    link = None
    try:
        octets, number = lines.encode(), len(phases)
        check_lines(octets, number)
        link = connection.link
        await link.send(octets, connection.timeouts.reply, number, phases, connection.progress, go_on)
        if not link.is_in_step:
            (link.check_final_step if connection.progress.final_dot_sent else link.check_step)()
    except MAPPED as error:
        failure = connection.failure_of(error.with_traceback(None))  # its frames keep the message
        # Who is silent has left an answer out, and who closes only those behind.
        is_late = isinstance(error, TimeoutError) and not connection.progress.final_dot_sent
        lost = replace(failure, out_of_step=True) if is_late else failure
        return (link.replies if link is not None else ()), lost
    return link.replies, None


def _all_accepted(replies: Sequence[RawReply], number: int) -> bool:
    """Whether so many commands are all accepted, the last of them DATA."""
    if len(replies) != number or replies[-1][0][:1] != b"3":
        return False
    for code, _ in replies[:-1]:  # noqa: SIM110  a generator takes three times as long
        if code[:1] != b"2":
            return False
    return True


class _Envelope:
    """Sender and recipients as they are said to one server.

    Who is refused is put into `refused`, by the index in the transfer.
    """

    def __init__(self, connection: Connection, transfer: Transfer, refused: dict[int, Failure]) -> None:
        self._refused = refused
        self._full: Failure | None = None  # the server has no room for more recipients in this transaction
        self._connection = connection
        self._transfer = transfer

    async def open(self) -> Reply:
        """RSET, where it is needed, and MAIL, one by one; return the answer to MAIL. Raises Failed."""
        *before, mail_ = self._opening()
        for command in before:
            await self.ask(command)
        return await self.ask(mail_)

    def naming(self, index: int) -> Command:
        """Return RCPT for one recipient of the transfer."""
        transfer = self._transfer
        line = rcpt_command(transfer, transfer.recipients[index], self._connection.offers)
        return Command(Phase.RCPT, line, index)

    async def announce(self) -> None:
        """All that goes before the message. Raises Failed where nobody may have it."""
        if self._connection.is_pipelined:
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
            group = ahead + [self.naming(index) for index in range(start, end)]
            if may_join and end == total and not connection.takes_chunks:
                group.append(DATA)
                is_asked = True
            await self.ask(*group)
            ahead, start = [], end
        if self._full is not None:
            self._refused.update(dict.fromkeys(range(start, total), self._full))
            self._check()
        # BDAT has no 354, which proves a refusal before it: with one the message goes by DATA.
        if not is_asked and (self._refused or not connection.takes_chunks):
            await self.ask(DATA)

    async def ask(self, *group: Command) -> Reply:
        """Send a group in one go, judge what is answered, and return the last answer.

        Raises Failed where nobody may have the message.
        """
        connection, progress = self._connection, self._connection.progress
        progress.phase = group[0].phase
        if any(command.phase is Phase.MAIL and command is not RSET for command in group[:2]):
            connection.needs_reset = True
            await progress.note_mail()
        lines = "".join(f"{command.line}\r\n" for command in group)
        replies, lost = await _exchange(connection, lines, [command.phase for command in group])
        await self.conclude(group, replies, lost)
        response = response_of(replies[-1])
        return Reply.of_upstream(response.code, response.message)

    async def conclude(self, group: Sequence[Command], replies: Sequence[RawReply], lost: Failure | None) -> None:
        """Judge what was answered to a group; `lost` is why answers are missing behind, or why these are not believed.

        Where answers are missing at the end, or one of them is a 421, the connection is closed. Raises Failed where
        nobody may have the message.
        """
        connection = self._connection
        is_invited = bool(replies) and replies[-1][0][:1] == b"3"
        if len(replies) < len(group) or replies[-1][0] == b"421":
            connection.abort()
        try:
            self._judge(group, replies, lost)
        except Failed as failed:
            if is_invited:
                connection.abort()  # RFC 2920 section 3.1: whatever is said now is a message
            elif connection.is_pipelined and connection.is_usable and _may_be_of_another(group, failed.failure):
                await connection.check_in_step()
            raise

    def _opening(self) -> list[Command]:
        """Return MAIL, after a RSET where the connection needs one. Raises Failed for what the server cannot take."""
        connection, transfer = self._connection, self._transfer
        connection.progress.phase = Phase.MAIL
        line = mail_command(
            transfer,
            connection.offers,
            is_encrypted=connection.tls is not None,
            size=transfer.content.size,
            is_ascii=transfer.content.is_ascii,
            recipients="".join(rcpt_command(transfer, each, connection.offers) for each in transfer.recipients),
        )
        command = Command(Phase.MAIL, line)
        return [RSET, command] if connection.needs_reset else [command]

    def _judge(self, group: Sequence[Command], replies: Sequence[RawReply], lost: Failure | None) -> None:
        if lost is not None and lost.out_of_step:
            raise Failed(lost)
        is_in_step = False  # as long as nobody asked: where all is accepted, each code has its command
        for command, raw in zip(group, replies, strict=False):
            failure = self._connection.fault(command.phase, raw, b"3" if command is DATA else b"2")
            if failure is None:
                continue
            if not is_in_step and (why := _mismatch(group, replies)):
                self._connection.abort()
                raise Failed(garbage(command.phase, why))
            is_in_step = True
            if command is RSET:
                # No server may refuse it (RFC 5321 section 4.1.1.5); whatever it means, it is not about the message.
                self._connection.abort()
                raise Failed(garbage(Phase.MAIL, f"answer to RSET: {failure.reply}"))
            if command.phase is Phase.RCPT and failure.from_server and failure.reply.code != 421:
                self._refused[command.recipient] = failure
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
        first = next(iter(self._refused.values()), None)
        if first is not None and (self._transfer.all_or_none or len(self._refused) == len(self._transfer.recipients)):
            raise Failed(first)


def _mismatch(group: Sequence[Command], replies: Sequence[RawReply]) -> str:
    """Return why the answers cannot be those of these commands, "" where they can.

    An answer too many moves all that follow it by one command, and then one of them meets the wrong command: only
    DATA is answered 354, it has no other success, and nobody is accepted without a sender. A 354 in its place
    proves that none came before it.
    """
    if len(replies) == len(group) and group[-1] is DATA and replies[-1][0][:1] == b"3":
        return ""
    has_sender = True
    for command, raw in zip(group, replies, strict=False):
        code, text = response_of(raw)
        digit, verb = code // 100, command.line[:4]
        if digit not in {3 if command is DATA else 2, 4, 5}:
            return f"{verb} was answered {code} {text}"
        if digit == 2 and not has_sender:
            return f"{verb} was answered {code} behind a refused MAIL"
        has_sender = has_sender and (command.phase is not Phase.MAIL or digit == 2)
    return ""


def _may_be_of_another(group: Sequence[Command], failure: Failure) -> bool:
    """Whether the refusal at the end of a group may be an answer too many, whose command is answered later.

    The answer to DATA proves those before it, and nothing proves itself. Whoever asks one by one has waited.
    """
    if not failure.from_server or not failure.reply.is_permanent:
        return False
    return failure.phase is Phase.DATA or (failure.phase is Phase.RCPT and len(group) > 1 and group[-1] is not DATA)


async def _send(connection: Connection, transfer: Transfer, octets: bytes | None, *, is_chunk: bool) -> Reply:
    """Send the message, `octets` where it is one piece, and return the answer to its end. Raises Failed."""
    progress, link, times = connection.progress, connection.link, connection.timeouts
    progress.phase = Phase.CONTENT
    end = CHUNK_END if is_chunk else FINAL_DOT
    try:
        if octets is None:
            last = await _send_all_but_last(link, _pieces(transfer, is_chunk=is_chunk), times.chunk)
        else:
            if not link.is_in_step:
                link.check_open()
            last = stuffed(octets)
        # Without a gate nothing is awaited from here to the end: whoever sees that it has not left may still set one.
        if (gate := progress.before_final_dot) is not None:
            if octets is not None:
                link.expect()
            link.write(last)
            if link.is_paused:
                await link.drain(times.chunk)
            await _pass(gate)
            link.check_quiet()
            last = b""
        progress.note_final_dot()
        await link.send(last + end, times.final)
        if not link.is_in_step:
            link.check_final_step()
    except (*MAPPED, EarlyAnswer, GateFailed, StoreError) as error:
        connection.abort()  # half a message is on its way: only closing takes it back
        raise Failed(_content_failure(connection, error)) from error.with_traceback(None)
    return _answer(connection)


def _answer(connection: Connection) -> Reply:
    """Return the answer to the end of the message. Raises Failed for any that is no yes."""
    raw = connection.link.replies[0]
    code, text = raw
    if code[:1] != b"2":
        try:
            raise connection.refusal(raw)
        except MAPPED as error:  # it is no answer by the rules
            raise Failed(connection.failure_of(error)) from error.with_traceback(None)
    connection.needs_reset = False
    connection.messages += 1
    return Reply.of_upstream(int(code), text.decode("utf-8", "surrogateescape"))


def _content_failure(connection: Connection, error: Exception) -> Failure:
    match error:
        case EarlyAnswer():
            (code, text), phase = response_of(error.reply), connection.progress.phase
            if not 400 <= code <= 599:
                return garbage(phase, f"{code} {text}")
            return early_failure(phase, Reply.of_upstream(code, text), connection.server.answers)
        case GateFailed():
            cause = error.__cause__
            detail = f"before the final dot: {type(cause).__name__}: {cause}"
            return own_failure(Phase.CONTENT, _STOPPED, Meaning.TEMPORARY, detail)
        case StoreError():  # a large body is read as it leaves
            return own_failure(Phase.CONTENT, _STOPPED, Meaning.TEMPORARY, str(error))
    return connection.failure_of(error)


def _pieces(transfer: Transfer, *, is_chunk: bool) -> Iterable[bytes] | AsyncIterator[bytes]:
    content = transfer.content
    if transfer.arriving is not None:
        return pieces_as_they_come(transfer.arriving.chunks())
    return chunk(content.chunks(), content.size) if is_chunk else pieces(content.chunks())


async def _send_all_but_last(link: Link, message: Iterable[bytes] | AsyncIterator[bytes], within: float) -> bytes:
    """Send a message's pieces and return the last: it leaves in one write with the end, where there is no gate."""
    link.expect()
    piece = b""
    if isinstance(message, AsyncIterator):
        async for each in message:
            await _send_piece(link, each, within)
    else:
        rest = iter(message)
        piece = next(rest)
        for following in rest:
            await _send_piece(link, piece, within)
            piece = following
    link.check_quiet()
    return piece


async def _send_piece(link: Link, piece: bytes, within: float) -> None:
    link.check_quiet()
    link.write(piece)
    if link.is_paused:
        await link.drain(within)
    else:
        await asyncio.sleep(0)  # a fast server would take the whole message before anyone else had a turn


async def _pass(gate: Gate) -> None:
    try:
        await gate()
    except Exception as error:
        raise GateFailed from error
