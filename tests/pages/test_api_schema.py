"""The API keeps to its own description, whatever is sent: no request ends in a fault of ours, and each answer is one of
those that are described, in the described form.

Schemathesis makes the requests, valid and broken. What connects to other machines is left out: here every host is made
up. So are requests whose answer only the data decides, such as an address that another entry has (422 is right), and
the removal of a token, which would be its own: all the others would be tried in vain then.
"""

import sys
from pathlib import Path

import pytest

from tests.pages.full_house import full_house
from tests.peers.recorder import recorder_server
from tests.peers.system import run

_LEFT_OUT = r"(/test|/try|/doctor|/authorization|/authorized|/tokens/\{name\})$"
# A description cannot say which references between entries are good.
_NOT_CHECKED = "positive_data_acceptance"
_PROGRAM = Path(sys.executable).with_name("schemathesis")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_answer_is_a_described_one(tmp_path: Path) -> None:
    with recorder_server() as upstream, full_house(upstream.port) as house:
        console = house.console
        # Nobody guesses the id of a message.
        ids = f'"path.id" = ["{house.held}", "{house.delivered}"]\n'
        # An address of wrong data may be too long to be looked at.
        refusals = '[checks.negative_data_rejection]\nexpected-statuses = ["4xx", "5xx"]\n'
        (tmp_path / "schemathesis.toml").write_text(f"[parameters]\n{ids}\n{refusals}")
        done = run(
            [
                str(_PROGRAM),
                "run",
                f"{console.url}/api/v1/openapi.json",
                "--header",
                f"Authorization: Bearer {console.add_token('fuzzer')}",
                "--exclude-path-regex",
                _LEFT_OUT,
                "--exclude-checks",
                _NOT_CHECKED,
                "--phases",
                "examples,coverage,fuzzing",
                "--max-examples",
                "15",
                "--workers",
                "2",
                "--no-color",
            ],
            seconds=880,
            cwd=tmp_path,
        )
        assert done.status == 0, done.text[-6000:]
        # What is only refused is not tried.
        assert "Authentication failed" not in done.text, done.text[-6000:]
        assert console.relay.ask("status")["running"]
