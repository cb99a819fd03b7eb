"""The trouble of an account that a channel or agent logs in with itself, for the page on which it is mended."""

from relay.control.results import AdvisedAccount
from relay.web.kit.entry_editing import Record
from relay.web.kit.page_request import PageRequest


async def troubles_of(visit: PageRequest, record: Record | None) -> list[AdvisedAccount]:
    """Return how the own account of a profile is held or slowed; nothing where the server's account sends."""
    if record is None or not record["override"] or not record["resolved_server"]:
        return []
    found: list[AdvisedAccount] = await visit.run("account.troubled", server=record["resolved_server"])
    return [one for one in found if one.username == record["username"] and one.address in {"", record["address"]}]
