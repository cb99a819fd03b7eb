"""The operations that give all channels or agents as CSV, and take such a table back.

SECURITY: the text of an import may hold passwords. None of them is in a result, a fault or an exception.
"""

from asyncio import to_thread
from collections.abc import Container, Iterable
from typing import Any

from relay.config.faults import Faults
from relay.control.audit_log import note_secret
from relay.control.context import ControlContext
from relay.control.entries.passwords import forget_login_password, forget_password, without_passwords
from relay.control.operation import Access, Operation
from relay.control.refused import Conflict
from relay.directory.bulk import Difference, Plan, columns_of, placed_faults, plan_of, sheet_of
from relay.directory.directory import Directory
from relay.directory.document import Document
from relay.directory.kinds import EntryKind
from relay.directory.model import Profile
from relay.directory.sheet import Sheet, SheetFault, read_sheet
from relay.secrets.login_password import login_owner
from relay.secrets.secret import account_owner, bindings_of, incoming_owner, token_ref

_MOST_FAULTS = 100
_CHANGED = "the directory was changed meanwhile; look at what the import does now and confirm again"


class Bulk:
    """`export` and `import` of the profiles of one kind."""

    def __init__(self, parts: ControlContext, kind: EntryKind[Profile]) -> None:
        self._parts = parts
        self._kind = kind

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            f"{self._kind.word}.export": Operation(self.export),
            f"{self._kind.word}.import": Operation(self.import_, access=Access.ADMIN),
        }

    async def export(self) -> dict[str, Any]:
        """Return all profiles as CSV, without passwords."""
        return {"text": await to_thread(sheet_of, self._parts.directory.routing().directory, self._kind)}

    async def import_(self, *, text: str, confirm: bool = False, expected: str | None = None) -> dict[str, Any]:
        """Return what a CSV adds and changes, and every fault by its line; with `confirm` and no fault, do it.

        A known name is a change of the columns that are there, another one an addition. `version` names what was found;
        given back as `expected`, it makes sure that what is done is what was shown.
        """
        work = _Work(await to_thread(read_sheet, text, columns_of(self._kind)), self._kind)
        faults = await self._faults(work)
        if expected is not None and expected != work.version:
            raise Conflict(_CHANGED)
        has_one = await to_thread(self._with_passwords, work.plan)
        is_done = confirm and not faults
        if is_done:
            await self._carry_out(work)
        return await to_thread(_result, work, faults, has_one, is_done=is_done)

    def _with_passwords(self, plan: Plan) -> frozenset[str]:
        """Return those of a plan whose password takes the place of another."""
        entries = self._kind.entries(self._parts.directory.routing().directory)
        known = (entries[name] for name in plan.passwords if name in entries)
        return frozenset(one.name for one in known if one.password or self._parts.vault.has(account_owner(one)))

    async def _faults(self, work: "_Work") -> list[SheetFault]:
        """Return all that is wrong, by line: with the table, with its cells, and with the directory that it makes."""
        try:
            directory = await self._parts.directory.preview(work)
        except Faults as error:
            return await to_thread(work.faults_with, placed_faults(error.faults, self._kind, work.sheet.rows))
        return await to_thread(lambda: work.faults_with(_password_faults(directory, work)))

    async def _carry_out(self, work: "_Work") -> None:
        """Write the directory once, then the passwords.

        In this order a crash in between leaves somebody without a password, which lists and pages show; in the other
        it would leave passwords that nobody knows of.
        """
        plan = work.plan
        if plan.adds or any(plan.edits.values()):
            await self._parts.directory.change(_Work(work.sheet, self._kind, work.version))
        directory = self._parts.directory.routing().directory
        for new in await to_thread(self._with_left_secrets, directory, plan):
            await forget_password(self._parts, new)
            await forget_login_password(self._parts, new.name)
        known = [profile for name in plan.passwords if (profile := directory.profile(name))]
        secrets = await to_thread(lambda: {account_owner(each): plan.passwords[each.name] for each in known})
        before = frozenset(self._parts.vault.owners()) if secrets else frozenset()
        before |= {account_owner(each) for each in known if each.password}
        await self._parts.vault.put_all(secrets, await to_thread(bindings_of, directory, secrets))
        await to_thread(_note_all, secrets, before)
        if inline := [each for each in known if each.password]:
            await self._parts.directory.change(without_passwords(inline))

    def _with_left_secrets(self, directory: Directory, plan: Plan) -> list[Profile]:
        """Return the new profiles whose names had an earlier owner: what that left must not serve them."""
        found = []
        for profile in filter(None, map(directory.profile, plan.adds)):
            owner = account_owner(profile)
            left = (owner, f"oauth/{owner}", incoming_owner(profile), login_owner(profile.name))
            if any(self._parts.vault.has(one) for one in left):
                found.append(profile)
        return found


class _Work:
    """The edit of an import. The plan is made of the document that it is given first."""

    def __init__(self, sheet: Sheet, kind: EntryKind[Profile], expected: str | None = None) -> None:
        self.sheet = sheet
        self._kind = kind
        self._expected = expected
        self._plan: Plan | None = None
        self.version = ""

    @property
    def plan(self) -> Plan:
        """What the rows do; nothing where the directory file itself cannot be read."""
        return self._plan or Plan((), {}, (), {}, {})

    def faults_with(self, others: Iterable[SheetFault]) -> list[SheetFault]:
        """Return all faults by line. Where one is known about a cell, others about it follow from that."""
        own = [*self.sheet.faults, *self.plan.faults]
        known = {(fault.line, fault.key) for fault in own}
        return sorted({*own, *(fault for fault in others if (fault.line, fault.key) not in known)})

    def __call__(self, document: Document) -> None:
        """Make the plan, and the changes in the document. Raises Conflict where it is another than was expected."""
        if self._plan is None or self._expected is not None:  # on another document it is made anew
            self._plan = plan_of(document, self._kind, self.sheet.rows)
            self.version = self._plan.version
            if self._expected is not None and self._expected != self.version:
                raise Conflict(_CHANGED)
        self._plan.apply(document, self._kind)


def _password_faults(directory: Directory, work: _Work) -> list[SheetFault]:
    """Return for each password that would not count why it does not."""
    lines = {row.cells["name"]: row.line for row in work.sheet.rows}
    faults = []
    for name in work.plan.passwords:
        profile = directory.profile(name)
        server = directory.server_of(profile) if profile else None
        if profile is None:
            continue
        message = ""
        if server is not None and token_ref(server, profile) is not None:
            message = f"{profile.kind} '{name}' logs in by OAuth, without a password; leave this cell empty"
        elif source := profile.password_from:
            message = f"{profile.kind} '{name}' takes its password from {source}; set it there, not here"
        if message:
            faults.append(SheetFault(lines[name], "password", message))
    return faults


def _result(work: _Work, faults: list[SheetFault], has_one: Container[str], *, is_done: bool) -> dict[str, Any]:
    """Return what an import is told with. A row with a fault is among the faults alone."""
    lines = {fault.line for fault in faults}
    faulty = {row.cells["name"] for row in work.sheet.rows if row.line in lines}
    plan = work.plan
    return {
        "rows": work.sheet.count,
        "adds": [name for name in plan.adds if name not in faulty],
        "changes": [
            {"name": name, "keys": _told(keys, name in has_one)}
            for name, keys in plan.changes.items()
            if name not in faulty
        ],
        "passwords": [name for name in plan.passwords if name not in faulty],
        "unchanged": sum(name not in faulty for name in plan.unchanged),
        "faults": [fault._asdict() for fault in _first(faults)],
        "version": work.version,
        "done": is_done,
    }


def _told(keys: Difference, has_password: bool) -> Difference:
    """Return what changes of one; a password that takes the place of another is told as that."""
    return {**keys, "password": ["set", "replaced"]} if has_password and "password" in keys else keys


def _first(faults: list[SheetFault]) -> list[SheetFault]:
    """Return the faults that are told one by one, and how many more there are."""
    more = len(faults) - _MOST_FAULTS
    return [*faults[:_MOST_FAULTS], *([SheetFault(0, "", f"and {more:,} more")] if more > 0 else [])]


def _note_all(owners: Iterable[str], before: Container[str]) -> None:
    for owner in owners:
        note_secret(owner, was_set=owner in before)
