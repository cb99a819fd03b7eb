"""What came back of messages, and how far mailboxes are read."""

from dataclasses import replace
from datetime import timedelta

from relay.store.queue.messages import ReturnRow
from tests.unit.store.store_kit import NOW, StorePlace, history, new_message, open_queue

ROW = ReturnRow(number=1, found=NOW, status="5.1.1", words="550 5.1.1 no\0", reporter="mx.there.example")


async def test_the_first_report_about_a_recipient_counts(place: StorePlace) -> None:
    async with open_queue(place) as queue:
        message = new_message(state="delivered", to=("ann@there.example", "bob@there.example"))
        await queue.add(history(message))
        assert await queue.returns(message.id) == ()
        assert await queue.add_return(message.id, ROW)
        assert not await queue.add_return(message.id, replace(ROW, status="5.2.2"))
        assert await queue.add_return(message.id, replace(ROW, number=0))
        assert await queue.returns(message.id) == (
            replace(ROW, number=0, words="550 5.1.1 no?"),
            replace(ROW, words="550 5.1.1 no?"),
        )


async def test_what_came_back_goes_with_its_message(place: StorePlace) -> None:
    async with open_queue(place) as queue:
        message = new_message(state="delivered")
        await queue.add(history(message))
        await queue.add_return(message.id, replace(ROW, number=0))
        assert await queue.purge(NOW + timedelta(days=36500)) == 1
        assert await queue.returns(message.id) == ()


async def test_a_mailbox_is_read_from_where_it_was(place: StorePlace) -> None:
    async with open_queue(place) as queue:
        assert await queue.position("incoming/support") is None
        await queue.put_position("incoming/support", "1 5")
        await queue.put_position("incoming/support", "1 6")
        await queue.put_position("incoming/sales", "")
    async with open_queue(place) as queue:
        assert await queue.position("incoming/support") == "1 6"
        assert await queue.position("incoming/sales") == ""
