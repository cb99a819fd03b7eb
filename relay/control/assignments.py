"""What `set` is given: KEY=VALUE texts, with the faults of all of them told at once."""

from collections.abc import Iterable
from typing import Any

from relay.control.refused import Refused
from relay.directory.edit import Editable, EditRefused, parse_assignments


def read_assignments(model: Editable, texts: Iterable[str]) -> dict[str, Any]:
    """Return the values in "KEY=VALUE" texts. Raises Refused with a line for each that cannot be one."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for text in texts:
        try:
            values |= parse_assignments(model, [text])
        except EditRefused as error:
            faults.append(str(error))
    if faults:
        raise Refused("\n".join(faults))
    return values
