"""What forms ask for is what the model knows: a value that could not be chosen would be lost with the next save."""

from dataclasses import fields
from enum import Enum
from typing import Literal, get_args, get_origin

from relay.directory.kinds import KINDS
from relay.directory.tables import asked_of, hint_of, plain_type
from relay.web.kit.key_fields import key_field


def test_every_value_of_a_key_can_be_chosen() -> None:
    looked_at = 0
    for kind in KINDS.values():
        known = {field.name for field in fields(kind.model)}
        for key in (key for group in kind.form for key in group.keys if key.partition(".")[0] in known):
            if asked_of(kind.model, key) is None:  # a password, which has a field of its own
                continue
            hint = plain_type(hint_of(kind.model, key))
            is_enum = isinstance(hint, type) and issubclass(hint, Enum)
            if not is_enum and get_origin(hint) is not Literal:
                continue
            values = {str(value) for value in (hint if is_enum else get_args(hint))}
            assert {choice.value for choice in key_field(kind, key).choices} - {""} == values, key
            looked_at += 1
    assert looked_at >= 10


def test_each_field_says_what_it_is() -> None:
    for kind in KINDS.values():
        for key in kind.options:
            field = key_field(kind, key)
            assert field.label
            assert field.key == key
