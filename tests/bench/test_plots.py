"""Axes, ticks and lines: what the SVG says of its numbers."""

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localemp.bench.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Curve, Dot, compact, plot


def parsed(markup: object) -> ElementTree.Element:
    return ElementTree.fromstring(str(markup))


def ticks(markup: object) -> list[str]:
    return [text.text or "" for text in parsed(markup).iter("text") if text.get("class") == "tick"]


def curve(*pairs: tuple[float, float], **more) -> Curve:
    return Curve("it", tuple(Dot(x, y, f"{x} {y}") for x, y in pairs), **more)


def test_a_line_has_its_points_tooltips_spread_and_a_title_for_those_who_cannot_see():
    dots = (Dot(1, 5, "five <at> one", 4, 6), Dot(2, 10, "ten", 10, 10, "label"))
    drawn = parsed(plot("Speed & <haste>", Axis("batch", log=True), Axis("1/s"), [Curve("A", dots, "hue2 dashed")]))
    assert drawn.get("role") == "img"
    assert drawn[0].text == "Speed & <haste>; 1/s against batch: A 5 at 1 to 10 at 2"
    circles = list(drawn.iter("circle"))
    assert [circle[0].text for circle in circles] == ["five <at> one", "ten"]
    assert len([line for line in drawn.iter("line") if "spread" in (line.get("class") or "")]) == 1
    assert [path.get("class") for path in drawn.iter("path")] == ["curve hue2 dashed"]
    said = [text.text for text in drawn.iter("text")]
    assert {"Speed & <haste>", "batch, log", "1/s", "label"} <= set(said)


def test_ticks_of_batch_sizes_are_the_batch_sizes_and_of_many_decades_round():
    batches = [(float(2**power), 1.0 + power) for power in range(7)]
    assert ticks(plot("t", Axis("x", log=True), Axis("y"), [curve(*batches)]))[-7:] == [
        "1", "2", "4", "8", "16", "32", "64",
    ]  # fmt: skip
    wide = [(1.5, 1e-3), (777.0, 5.0), (812.0, 1e6)]
    assert {"0.01", "1", "10k", "1M", "100"} <= set(
        ticks(plot("t", Axis("x", log=True), Axis("y", log=True), [curve(*wide)]))
    )


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.25, "0.25"), (999, "999"), (12_500, "12.5k"), (3e6, "3M"), (-1500, "-1.5k")]
)
def test_compact_numbers(value, shown):
    assert compact(value) == shown


values = st.floats(min_value=1e-6, max_value=1e9)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=12), st.booleans(), st.booleans(), st.booleans())
def test_whatever_is_drawn_lies_within_the_axes_with_two_ticks_each(pairs, across, down, zero):
    drawn = parsed(plot("t", Axis("x", log=across), Axis("y", log=down, zero=zero), [curve(*sorted(pairs))]))
    for circle in drawn.iter("circle"):
        assert LEFT - 0.1 <= float(circle.get("cx") or "nan") <= WIDTH - RIGHT + 0.1
        assert TOP - 0.1 <= float(circle.get("cy") or "nan") <= HEIGHT - BOTTOM + 0.1
    places = [text for text in drawn.iter("text") if text.get("class") == "tick"]
    assert sum(text.get("text-anchor") == "middle" for text in places) >= 2
    assert sum(text.get("text-anchor") == "end" for text in places) >= 2
    for text in places:
        if text.get("text-anchor") == "middle":
            assert LEFT - 0.1 <= float(text.get("x") or "nan") <= WIDTH - RIGHT + 0.1
