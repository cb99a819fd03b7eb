"""What operations say, as a page says it: no command that a button does, and nothing that is not for everybody."""

import pytest

from relay.config.faults import Fault
from relay.control.actor import Actor, Role, Way
from relay.control.refused import NotFound, Refused, Unavailable
from relay.web.kit.words import as_told, in_short, sentences, told

ADMINISTRATOR = Actor(name="ann", role=Role.ADMINISTRATOR, way=Way.PAGE)
AGENT = Actor(name="jane", role=Role.AGENT, way=Way.PAGE)
AWAY = "/var/lib/relay/relay.db: the disk is full; make room"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("set a new password for agent 'jane' with: relay agent password jane", "set a new password for agent 'jane'"),
        ("'b' is the default server; make another the default first: relay server default a", None),
        ("there is no account 'x'; see relay account list", "there is no account 'x'"),
        ("held by hand; let it go on with: relay queue release", "held by hand; let it go on"),
        ("one: relay channel set a b=c\ntwo with: relay token add x", "one\ntwo"),
        ("a password stands in this file; move it to the vault: relay secrets import", None),
        ("550 5.7.1 Relaying denied: relay access", None),
        ("start it with: relay serve", None),
    ],
)
def test_a_command_that_a_page_does_is_left_out(said: str, shown: str | None) -> None:
    kept = said.removesuffix(": relay server default a")
    assert told(said) == (kept if shown is None else shown)


@pytest.mark.parametrize("actor", [AGENT, None])
def test_where_the_store_is_only_administrators_hear(actor: Actor | None) -> None:
    with pytest.raises(Unavailable, match=r"^this cannot be done just now; relay's log says why$"), as_told(actor):
        raise Unavailable(AWAY)
    with pytest.raises(Unavailable, match="the disk is full"), as_told(ADMINISTRATOR):
        raise Unavailable(AWAY)


def test_a_refusal_stays_what_it_is() -> None:
    with pytest.raises(NotFound) as refused, as_told(AGENT):
        raise NotFound("there is no account 'x'; see relay account list", key="account")
    assert (str(refused.value), refused.value.key) == ("there is no account 'x'", "account")


def test_each_fault_is_a_sentence_with_its_key_and_without_the_file() -> None:
    fault = Fault("/etc/directory.toml", "channels.a.server", "it has none; add one: relay server add NAME")
    with pytest.raises(Refused) as refused, as_told(ADMINISTRATOR):
        raise Refused("/etc/directory.toml: …", faults=(fault,))
    assert sentences(refused.value) == ["channels.a.server: it has none; add one"]
    assert sentences(Refused("one\ntwo")) == ["one", "two"]
    assert (in_short(Refused("one\ntwo\nthree")), in_short(Refused("one"))) == ("one (2 more like this)", "one")
