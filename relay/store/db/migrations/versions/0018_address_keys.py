"""Addresses beyond ASCII compare otherwise (ß is not ss): those that are there are found by what compares by now."""

import sqlalchemy as sa
from alembic import op

from relay.mail.address import Address, AddressError

revision = "0018"
down_revision = "0017"
floor = "0014"  # who does not know it writes and looks for the keys of before, which are others for few addresses

_PLACES = (("messages", "sender", "sender_key"), ("recipients", "address", "address_key"))


def upgrade() -> None:
    connection = op.get_bind()
    octets = "octet_length({0})" if connection.dialect.name == "postgresql" else "length(CAST({0} AS BLOB))"
    for table, address, key in _PLACES:
        place = sa.table(table, sa.column(address), sa.column(key))
        is_beyond_ascii = sa.text(f"{octets.format(address)} <> length({address})")
        found = sa.select(place.c[address], place.c[key]).where(is_beyond_ascii).distinct()
        for text, old in connection.execute(found).all():
            if (new := _key(text)) not in (None, old):
                same = (place.c[key] == old, place.c[address] == text)  # the key has an index
                connection.execute(sa.update(place).where(*same).values({key: new}))


def _key(text: str) -> str | None:
    try:
        return Address.parse(text).key
    except AddressError:
        return None
