"""Groups of metrics: tables and families of their own; the values that a run keeps of metrics with a model."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from localemp.metrics.base import MeanOfReplies, Metric, Setting, Statistics
from localemp.metrics.kept_values import read_values, write_values
from localemp.metrics.registry import GROUPS, METRICS, by_group, group_of, metrics, register_metric
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.significance import compare, holm
from localemp.utils.option import Option


class Characters(Metric):
    """The mean number of characters."""

    def __init__(self, name: str, group: str = "paper", hidden: bool = False) -> None:
        self.name, self.group, self.hidden = name, group, hidden

    def settings(self) -> Mapping[str, Setting]:
        return {"of": "replies"}

    def statistics(self, systems: Sequence[Replies]) -> Statistics:
        return MeanOfReplies(np.array([len(text) for each in systems for text in each.texts], np.float64))


@pytest.fixture(autouse=True)
def registry():
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


def replies(name: str, *texts: str) -> Replies:
    return Replies(name, tuple(Reply(f"d{number}", text, "Oh no!", "sad") for number, text in enumerate(texts)))


def test_every_metric_belongs_to_a_known_group() -> None:
    assert {each.group for each in metrics()} <= set(GROUPS)
    assert by_group(["B-4", "Dist-1"]) == {"paper": ["B-4", "Dist-1"]}
    assert group_of("no such metric") == "paper"


def test_p_values_are_corrected_within_a_table() -> None:
    a, b = replies("a", *["Oh."] * 12), replies("b", *["Oh dear me."] * 12)
    made = [
        Characters("one"), Characters("two"), Characters("form", "form"), Characters("secondary", hidden=True)
    ]  # fmt: skip
    found = {one.name: one for one in compare(a, b, made, samples=100)}
    p = found["one"].p
    assert found["one"].p_holm == holm([p, p])[0] == pytest.approx(2 * p)
    assert found["form"].p_holm == found["secondary"].p_holm == p


def test_values_kept_of_other_metrics_stay_with_their_options(tmp_path) -> None:
    for name in ("first", "second"):
        options = [Option(name=f"{name}_model", default="small", metavar="MODEL", help="A model.")]
        register_metric(name, lambda _, name=name: Characters(name), options=options, needs_model=True)
    system = replies("run", "Oh.", "I see.")
    write_values(tmp_path, system, [Characters("first")], {"first_model": "large", "second_model": "huge"})
    turned = Replies("run", system.items[::-1])
    write_values(tmp_path, turned, [Characters("second")], {"second_model": "tiny"})
    kept = read_values(tmp_path, system)
    assert kept.options == {"first_model": "large", "second_model": "tiny"}
    assert kept.values == {name: {"d0": 3, "d1": 6} for name in ("first", "second")}
    other = replies("run", "Oh.", "I hear you.")
    write_values(tmp_path, other, [Characters("second")], {})
    assert set(read_values(tmp_path, other).values) == {"second"}
