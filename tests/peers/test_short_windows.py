"""Short windows keep the proportions that the real ones have, and reach a relay with all its workers."""

import json
import os
import subprocess
import sys

import pytest

from tests.peers.short_windows import Windows, real, short_windows

MINUTE = "relay.limits.constants.MINUTE"


def test_the_real_figures_and_all_short_ones_are_in_proportion() -> None:
    assert Windows({}).figures == {}
    figures = short_windows(minute=6, lease=6, shares=12, lead=5, silence=6, stop=6, slow=3, day=30).figures
    assert figures[MINUTE] == 6.0
    assert real(MINUTE) == 60.0, "nothing is changed here"


def test_figures_in_no_proportion_are_refused() -> None:
    with pytest.raises(AssertionError, match="LASTS_SECONDS: not with"):
        Windows({"relay.cluster.leader_election.LASTS_SECONDS": 11.0})


def test_a_python_that_is_started_with_them_has_them_from_the_beginning() -> None:
    windows = short_windows(minute=6, lease=6, shares=12, silence=6)
    asked = "from relay.limits.rate import RateLimit; from relay.store.cluster import leases; "
    asked += "from relay.store.db import postgresql; "
    told = "print(RateLimit(7).interval, leases.TOGETHER.shares, postgresql._DEFAULTS['keepalives_idle'])"
    program = [*windows.argv, sys.executable, "-P", "-c", asked + told]
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=dict(os.environ), timeout=60)
    assert done.stdout.split() == ["1.0", "12.0", "10"]
    assert json.loads(windows.before[1]) == windows.figures
