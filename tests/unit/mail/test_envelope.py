"""An envelope is the same for other recipients."""

from dataclasses import fields, replace

from relay.mail.address import Address
from relay.mail.dsn_parameters import Return
from relay.mail.envelope import Body, Envelope, Recipient


def test_only_the_recipients_are_others() -> None:
    sender, jane, sue = (Address.parse(f"{name}@acmejets.example") for name in ("sales", "jane", "sue"))
    envelope = Envelope(
        sender,
        (Recipient(jane),),
        body=Body.EIGHT_BIT_MIME,
        smtputf8=True,
        size=4711,
        ret=Return.HEADERS,
        envid="QQ314159",
        require_tls=True,
    )
    plain = Envelope(None)
    unset = [field.name for field in fields(Envelope) if getattr(envelope, field.name) == getattr(plain, field.name)]
    assert not unset, "a new field belongs into this test, and into Envelope.to"
    assert envelope.to([Recipient(sue)]) == replace(envelope, recipients=(Recipient(sue),))
