"""Charts: what is drawn is what was counted, and nothing that it is told becomes markup."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest

from relay.web.kit.charts import HEIGHT, Bar, Chart, Series, bars_of, first_moment, nice_top

SVG = "{*}"
SERIES = (Series("delivered", "Delivered", "s1"), Series("failed", "Failed", "s2"))


def _chart(*values: tuple[int, int], label: str = "9:00") -> Chart:
    return Chart(id="c", title="Messages", series=SERIES, bars=[Bar(label=label, values=one) for one in values])


def _rects(chart: Chart, look: str) -> list[ET.Element]:
    return [one for one in ET.fromstring(chart.svg).iter("rect") if one.get("class") == look]


def test_bars_stand_on_each_other_as_high_as_their_values() -> None:
    chart = _chart((6, 2), (0, 0), (1, 0))
    assert chart.top == 8
    delivered, failed = _rects(chart, "s1"), _rects(chart, "s2")
    assert [(one.get("y"), one.get("height")) for one in delivered] == [("25.00", "75.00"), ("87.50", "12.50")]
    assert [(one.get("y"), one.get("height")) for one in failed] == [("0.00", "25.00")]


def test_one_among_many_is_seen() -> None:
    assert float(_rects(_chart((10_000, 1)), "s2")[0].get("height") or 0) >= 1


def test_no_bar_leaves_the_picture() -> None:
    for one in ET.fromstring(_chart((39_999, 1), (40_000, 0)).svg).iter("rect"):
        assert 0 <= float(one.get("y") or 0) <= HEIGHT


def test_a_picture_says_in_words_what_it_shows() -> None:
    svg = ET.fromstring(_chart((1200, 3)).svg)
    assert svg.get("role") == "img"
    names = {one.get("id"): one.text for one in svg if one.get("id")}
    assert names == {"c-title": "Messages", "c-words": "1,200 delivered, 3 failed, from 9:00 to 9:00."}
    assert [one.text for one in svg.iter("title")][1:] == ["9:00: 1,200 delivered, 3 failed"]
    assert not [one for one in svg.iter() if one.get("style")]


def test_nothing_becomes_markup() -> None:
    chart = Chart(id='"><b>', title="<script>", series=[Series("x", "<i>", "s1")], bars=[Bar(label="&<u>", values=[1])])
    tags = {one.tag for one in ET.fromstring(chart.svg).iter()}
    assert tags == {"svg", "title", "desc", "line", "g", "rect"}


def test_nothing_to_draw_is_a_picture_too() -> None:
    assert _chart().is_empty
    assert _chart((0, 0)).is_empty
    ET.fromstring(_chart().svg)
    assert _chart().times == []


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 4), (1, 4), (4, 4), (5, 8), (9, 20), (21, 40), (41, 80), (400, 400), (401, 800)]
)
def test_the_upper_edge_is_a_number_that_four_lines_divide(highest: int, top: int) -> None:
    assert nice_top(highest) == top
    assert top % 4 == 0


@pytest.mark.parametrize(("bars", "times"), [(24, 4), (28, 4), (30, 5), (1, 1), (11, 1), (0, 0)])
def test_a_narrow_window_has_room_for_the_times(bars: int, times: int) -> None:
    assert len(_chart(*[(1, 0)] * bars).times) == times


def test_records_are_counted_together() -> None:
    records = [{"at": f"2025-11-24T{hour:02}:00:00Z", "delivered": hour, "failed": 1} for hour in range(7)]
    bars = bars_of(records, SERIES, 3, "%H:%M")
    assert [(bar.label, list(bar.values)) for bar in bars] == [
        ("00:00", [3, 3]),
        ("03:00", [12, 3]),
        ("06:00", [6, 1]),
    ]


def test_the_last_step_is_the_one_of_now() -> None:
    now = datetime(2025, 11, 24, 10, 35, tzinfo=UTC)
    assert first_moment(now, timedelta(hours=6), 28) == datetime(2025, 11, 17, 12, tzinfo=UTC)
    assert first_moment(now, timedelta(days=1), 1) == datetime(2025, 11, 24, tzinfo=UTC)
