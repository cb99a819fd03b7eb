"""The API keeps to its own description, whatever is sent: no request ends in a fault of ours, and each answer is one of
those that are described, in the described form.

Schemathesis makes the requests, valid and broken. What connects to other machines is left out: here every host is made
up. So are requests whose answer only the data decides, such as an address that another entry has (422 is right).
"""

import sys
from pathlib import Path

import pytest

from tests.peers.console import Console
from tests.peers.system import run

_CONNECTS = r"(/test|/try|/doctor|/authorization|/authorized)$"
# A description cannot say which references between entries are good.
_NOT_CHECKED = "positive_data_acceptance"
_PROGRAM = Path(sys.executable).with_name("schemathesis")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_answer_is_a_described_one(console: Console, tmp_path: Path) -> None:
    token = console.add_token("fuzzer")
    done = run(
        [
            str(_PROGRAM),
            "run",
            f"{console.url}/api/v1/openapi.json",
            "--header",
            f"Authorization: Bearer {token}",
            "--exclude-path-regex",
            _CONNECTS,
            "--exclude-checks",
            _NOT_CHECKED,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "15",
            "--workers",
            "2",
            "--warnings",
            "off",
            "--no-color",
        ],
        seconds=880,
        cwd=tmp_path,
    )
    assert done.status == 0, done.text[-6000:]
    assert console.relay.ask("status")["running"]
