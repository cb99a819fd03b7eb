"""Tables and bodies with more in them than anybody means: refused before they are looked at, and told in short."""

import http.client
from urllib.parse import urlsplit

from relay.directory.sheet import MOST_ROWS, read_sheet
from tests.pages.full_house import House
from tests.peers.work import counted


def test_a_table_with_too_much_in_it_is_not_read() -> None:
    texts = (
        "name," * 1_500_000,
        "name," + "x," * 5_000,
        "name\n" + "," * 4_000_000,
        "name\n" + '",\n' * 100_000,
        "\n" * 4_000_000,
    )
    for text in texts:
        with counted() as work:
            sheet = read_sheet(text, ["address"])
        assert sheet.faults
        assert not sheet.rows
        assert work.calls < 40 * MOST_ROWS, text[:20]


def test_at_most_a_hundred_faults_are_told(house: House) -> None:
    rows = "".join(f"n{number},nowhere\n" for number in range(300))
    told = house.writer.ask("POST", "/agents.csv", {"text": f"name,address\n{rows}"}).json
    assert len(told["faults"]) == 101
    assert told["faults"][-1]["message"] == "and 200 more"
    unknown = house.writer.ask("POST", "/agents", {f"k{number}": 1 for number in range(150)})
    assert unknown.status == 422
    assert len(unknown.json["errors"]) == 101
    assert unknown.json["detail"].endswith(" more")


def test_a_body_of_many_keys_or_items_is_refused(house: House) -> None:
    for path in ("/agents", "/agents.csv"):
        for body in ({f"k{number}": 1 for number in range(60_000)}, {"aliases": [1] * 10_000}):
            told = house.writer.ask("POST", path, body)
            assert told.status == 413, told.json
            assert "at most" in told.json["detail"]


def test_who_may_change_nothing_sends_no_body(house: House) -> None:
    """The answer comes although the body never does."""
    connection = http.client.HTTPConnection(urlsplit(house.console.url).netloc, timeout=20)
    connection.putrequest("POST", "/api/v1/agents.csv")
    headers = {"Authorization": f"Bearer {house.reader.token}", "Content-Type": "application/json"}
    for name, value in {**headers, "Content-Length": "1000000"}.items():
        connection.putheader(name, value)
    connection.endheaders(b"[[[")
    assert connection.getresponse().status == 403
    connection.close()
