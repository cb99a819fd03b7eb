"""By what a node is known again."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, literal, select

from relay.config.faults import Faults
from relay.config.settings import Settings
from relay.store.cluster.identity import Place, keep_out_others, living_of, own_node, owner_of
from relay.store.cluster.nodes import Node
from relay.store.queue.claims import is_dead


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", node="one")


def test_a_restart_is_the_same_node_and_another_state_dir_is_another(settings: Settings, tmp_path: Path) -> None:
    first = own_node(settings)
    assert first.name == "one"
    assert own_node(settings) == first
    assert own_node(replace(settings, state_dir=tmp_path / "other")).id != first.id
    file = settings.state_dir / "node.id"
    assert file.read_text().strip() == first.id
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert own_node(replace(settings, node="")).name


def test_an_id_that_was_not_written_to_its_end_is_made_anew(settings: Settings) -> None:
    first = own_node(settings)
    (settings.state_dir / "node.id").write_text("")
    assert own_node(settings).id not in {"", first.id}


def test_what_cannot_be_kept_is_said_with_its_file(settings: Settings) -> None:
    (settings.state_dir / "node.id").mkdir(parents=True)
    with pytest.raises(Faults, match=r"node\.id: the id of this node cannot be kept: "):
        own_node(settings)


def test_two_relays_never_use_one_state_dir(settings: Settings) -> None:
    own_node(settings)
    first = keep_out_others(settings)
    with pytest.raises(Faults, match="state: another relay runs already with this state_dir; stop it first"):
        keep_out_others(settings)
    os.close(first)
    os.close(keep_out_others(settings))


def place(run: str, index: int = 0, life: int = 1) -> Place:
    return Place(index=index, total=2, run=run, life=life)


@pytest.mark.parametrize("is_shared", [True, False])
def test_whom_a_process_knows_to_be_dead(settings: Settings, tmp_path: Path, is_shared: bool) -> None:
    node, other = own_node(settings), own_node(replace(settings, state_dir=tmp_path / "other"))
    living = living_of(node, place("now", 1, 2), is_shared=is_shared)
    owners = {
        "who had our place": owner_of(node, place("now", 1)),
        "an earlier run": owner_of(node, place("before")),
        "beside us": owner_of(node, place("now")),
        "another node": owner_of(other, place("now")),
        "a relay of before": "host:1:2.0/0/1",
    }
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        dead = {
            who
            for who, owner in owners.items()
            if connection.execute(select(is_dead(literal(owner), living))).scalar_one()
        }
    engine.dispose()
    here = {"who had our place", "an earlier run"}
    assert dead == (here if is_shared else here | {"another node", "a relay of before"})


def test_the_owner_of_a_place_tells_its_start_and_its_life() -> None:
    node, second = Node(name="one", id="1111"), Place(index=1, total=3, run="run", life=2)
    assert owner_of(node, second) == "1111/run/1/2"
    assert living_of(node, second, is_shared=False) == ("1111/run/", "1111/run/1/", "")
    assert Place().run != Place().run, "another start of the relay"
    assert (Place().is_first, Place().has_others) == (True, False)
