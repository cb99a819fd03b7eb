"""The operations that give all channels or agents as CSV, and take such a table back.

SECURITY: the text of an import may hold passwords. None of them is in a result, a fault or an exception.
"""

from asyncio import to_thread
from collections.abc import Sequence
from typing import Any

from relay.control.logins import forget_login_password
from relay.control.operation import Operation
from relay.control.parts import Parts
from relay.control.passwords import forget_password, set_password
from relay.control.refused import Refused
from relay.directory.bulk import Plan, columns_of, placed_faults, plan_of, sheet_of
from relay.directory.edit import Document
from relay.directory.model import Directory, Profile, ProfileKind
from relay.directory.sheet import Sheet, SheetFault, SheetRow, read_sheet
from relay.faults import Faults
from relay.secrets.incoming import incoming_owner
from relay.secrets.login_password import login_owner
from relay.secrets.secret import ref_of, token_ref


class Bulk:
    """`export` and `import` of the profiles of one kind."""

    def __init__(self, parts: Parts, kind: ProfileKind) -> None:
        self._parts = parts
        self._kind = kind

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            f"{self._kind}.export": Operation(self.export),
            f"{self._kind}.import": Operation(self.import_, is_change=True),
        }

    async def export(self) -> dict[str, Any]:
        """Return all profiles as CSV, without passwords."""
        return {"text": await to_thread(sheet_of, self._parts.directory.routing().directory, self._kind)}

    async def import_(self, *, text: str, confirm: bool = False, expected: str | None = None) -> dict[str, Any]:
        """Return what a CSV adds and changes, and every fault by its line; with `confirm` and no fault, do it.

        A known name is a change of the columns that are there, another one an addition. `version` names what was found;
        given back as `expected`, it makes sure that what is done is what was shown.
        """
        sheet = await to_thread(read_sheet, text, columns_of(self._kind))
        work = _Work(sheet, self._kind)
        faults = await self._faults(work)
        if expected is not None and expected != work.plan.version:
            raise Refused("the directory was changed meanwhile; look at what the import does now and confirm again")
        is_done = confirm and not faults
        if is_done:
            await self._carry_out(sheet, work.plan)
        return {
            "rows": sheet.count,
            "adds": list(work.plan.adds),
            "changes": [{"name": name, "keys": keys} for name, keys in work.plan.changes.items()],
            "unchanged": work.plan.unchanged,
            "faults": [fault._asdict() for fault in faults],
            "version": work.plan.version,
            "done": is_done,
        }

    async def _faults(self, work: "_Work") -> list[SheetFault]:
        """Return all that is wrong, by line: with the table, with its cells, and with the directory that it makes."""
        in_directory: list[SheetFault] = []
        try:
            directory = await self._parts.directory.preview(work)
        except Faults as error:
            placed = placed_faults(error.faults, self._kind, work.rows)
            in_directory = await to_thread(list, placed)
        else:
            in_directory = list(_password_faults(directory, work))
        own = [*work.sheet.faults, *work.plan.faults]
        known = {(fault.line, fault.key) for fault in own}
        return sorted({*own, *(fault for fault in in_directory if (fault.line, fault.key) not in known)})

    async def _carry_out(self, sheet: Sheet, plan: Plan) -> None:
        """Write the directory once, then the passwords.

        In this order a crash in between leaves somebody without a password, which lists and pages show; in the other
        it would leave passwords that nobody knows of.
        """
        if plan.adds or any(plan.edits.values()):
            await self._parts.directory.change(_Work(sheet, self._kind, plan.version))
        directory = self._parts.directory.routing().directory
        for name in plan.adds:
            await self._forget(directory.profile(name))
        several: dict[str, str] = {}
        for name, password in plan.passwords.items():
            profile = directory.profile(name)
            if profile is None:  # removed by somebody else in this moment
                continue
            ref = ref_of(profile)
            if ref.inline:
                await set_password(self._parts, profile, password)
            else:
                several[ref.owner] = password
        if several:
            await self._parts.vault.put_all(several)

    async def _forget(self, profile: Profile | None) -> None:
        """Forget what an earlier owner of a name left, as where one profile is added."""
        if profile is None:
            return
        owner = ref_of(profile).owner
        left = (owner, f"oauth/{owner}", incoming_owner(profile), login_owner(profile.name))
        if any(self._parts.vault.has(one) for one in left):
            await forget_password(self._parts, profile)
            await forget_login_password(self._parts, profile.name)


class _Work:
    """The edit of an import. The plan is made of the document that it is given first."""

    def __init__(self, sheet: Sheet, kind: ProfileKind, expected: str | None = None) -> None:
        self.sheet = sheet
        self._kind = kind
        self._expected = expected
        self._plan: Plan | None = None

    @property
    def rows(self) -> Sequence[SheetRow]:
        """The rows that could be read."""
        return self.sheet.rows

    @property
    def plan(self) -> Plan:
        """What the rows do; nothing where the directory file itself cannot be read."""
        return self._plan or Plan((), {}, 0, {}, {})

    def __call__(self, document: Document) -> None:
        """Make the plan, and the changes in the document. Raises Refused where it is another than was expected."""
        if self._plan is None:
            self._plan = plan_of(document, self._kind, self.sheet.rows)
            if self._expected is not None and self._expected != self._plan.version:
                raise Refused("the directory was changed meanwhile; look at what the import does now and confirm again")
        self._plan.apply(document, self._kind)


def _password_faults(directory: Directory, work: _Work) -> list[SheetFault]:
    """Return for each password that would not count why it does not."""
    lines = {row.cells["name"]: row.line for row in work.rows}
    faults = []
    for name in work.plan.passwords:
        profile = directory.profile(name)
        server = directory.server_of(profile) if profile else None
        if profile is None:
            continue
        message = ""
        if server is not None and token_ref(server, profile) is not None:
            message = f"{profile.kind} '{name}' logs in by OAuth, without a password; leave this cell empty"
        elif source := ref_of(profile).source:
            message = f"{profile.kind} '{name}' takes its password from {source}; set it there, not here"
        if message:
            faults.append(SheetFault(lines[name], "password", message))
    return faults
