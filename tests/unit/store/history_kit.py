"""A store with a long history, made by SQL: one message a minute, backwards from NOW."""

import asyncio
import sqlite3
from pathlib import Path

from relay.store.db.tables import microseconds
from tests.unit.store.store_kit import NOW, history, new_message, open_queue

_FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO messages
SELECT {columns} FROM n, (SELECT * FROM messages WHERE id = 'pattern') AS pattern ORDER BY i DESC
"""
_OVERRIDDEN = {
    "id": "printf('h%08d', i)",
    "created": ":now - i * 60000000",
    "profile": "'agent' || (i % 200)",
    "sender": "'agent' || (i % 200) || '@acmejets.example'",
    "sender_key": "'agent' || (i % 200) || '@acmejets.example'",
    "message_id": "'<' || i || '@acmejets.example>'",
    "subject": "'Flight ' || i",
    "state": "CASE i % 10 WHEN 0 THEN 'failed' WHEN 1 THEN 'held' ELSE 'delivered' END",
}
_FILL_RECIPIENTS = """
INSERT INTO recipients
SELECT messages.id, 0, 'R' || messages.rowid || '@There.example', 'r' || messages.rowid || '@there.example', notify,
       original_type, original, messages.state, pattern.reply, meaning, changed
FROM messages, (SELECT * FROM recipients WHERE message = 'pattern') AS pattern WHERE messages.id != 'pattern'
"""


def fill_history(path: Path, count: int) -> None:
    """Make a store with so many messages that are over: of 200 agents by turns, "h00000001" the newest."""

    async def make_pattern() -> None:
        async with open_queue(path) as queue:
            await queue.record([history(new_message("pattern", state="delivered"))])

    asyncio.run(make_pattern())
    connection = sqlite3.connect(path)
    names = [row[1] for row in connection.execute("PRAGMA table_info(messages)")]
    columns = ", ".join(_OVERRIDDEN.get(name, name) for name in names)
    connection.execute(_FILL.format(columns=columns), {"count": count, "now": microseconds(NOW)})
    connection.execute(_FILL_RECIPIENTS)
    connection.execute("DELETE FROM messages WHERE id = 'pattern'")
    connection.execute("DELETE FROM recipients WHERE message = 'pattern'")
    connection.commit()
    connection.close()
