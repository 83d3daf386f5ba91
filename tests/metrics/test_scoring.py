import json
from dataclasses import replace

import pytest

from localemp.errors import DataError, OptionError, UnknownNameError, WeightsError
from localemp.metrics.base import Metric, Score, Signature
from localemp.metrics.registry import METRICS, by_group, metric, metrics
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.scoring import (
    is_lower_cased,
    on_common,
    other_bertscore,
    read_scores,
    score_all,
    scores_path,
    write_scores,
)


def replies(*texts, name="system", first=0):
    items = (Reply(str(first + n), text, "I am so sorry to hear that.") for n, text in enumerate(texts))
    return Replies(name, tuple(items), {"run": "runs/x"}, ("not finished: 2 of 9 dialogues",))


class Away(Metric):
    """One of BERTScore, whose model cannot be had."""

    def __init__(self, name):
        self.name = name

    def settings(self):
        raise WeightsError("roberta-large cannot be fetched", "give --bertscore-model a folder")

    def statistics(self, systems):
        raise AssertionError


def with_bertscore_away():
    """All metrics."""
    return [Away(each.name) if METRICS[each.name].needs_model else each for each in metrics()]


def test_all_metrics_in_the_order_of_the_papers_tables():
    scored = score_all(replies("I am so sorry.", "Oh no!"))
    assert [score.name for score in scored.scores] == [
        name for name, entry in METRICS.items() if not entry.needs_model and not entry.on_request
    ]
    shown = by_group(score.name for score in scored.scores if not score.hidden)
    assert shown["paper"] == ["Dist-1", "Dist-2", "B-2", "B-4", "Acc"]
    assert shown["overlap"] == ["ROUGE-L", "CIDEr"]
    assert shown["diversity"] == ["Dist-3", "EAD-1", "EAD-2", "Self-BLEU"]
    assert shown["form"] == ["Length", "Question rate", "Repetition", "Context"]
    assert scored.score("Dist-1").value == pytest.approx(100 * 8 / 8)
    assert scored.score("Acc").value is None
    assert scored.notes == ("not finished: 2 of 9 dialogues",)


def test_without_its_model_bertscore_says_why_and_the_others_are_given():
    scored = score_all(replies("I am so sorry."), with_bertscore_away())
    assert scored.score("Dist-1").value == 100
    for name in ("P_BERT", "R_BERT", "F_BERT"):
        score = scored.score(name)
        assert score.value is None
        assert score.reason == "roberta-large cannot be fetched (give --bertscore-model a folder)"


def test_replies_in_lower_case_are_noted():
    assert is_lower_cased(replies("oh no .", "i see"))
    assert not is_lower_cased(replies("oh no .", "I see"))
    assert not is_lower_cased(replies("", ""))
    assert any("lower case" in note for note in score_all(replies("oh no .")).notes)


def test_scores_are_written_and_read_again(tmp_path):
    scored = score_all(replies("I am so sorry.", ""), with_bertscore_away())
    path = scores_path(tmp_path)
    write_scores(path, scored)
    assert path == tmp_path / "scores.json"
    assert read_scores(path) == scored
    kept = json.loads(path.read_text("utf-8"))
    assert (kept["format"], kept["name"]) == (1, "system")
    assert {"localemp", "sacrebleu"} <= set(kept["versions"])
    assert kept["scores"][0]["signature"]["order"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_had_now_is_kept_from_before(tmp_path):
    """BERTScore of a machine that has the model outlives `score` on one that has not, for the same replies only."""
    path, both = tmp_path / "scores.json", replies("I am so sorry.", "Oh.")
    before = score_all(both)
    known = Score("F_BERT", 0.5, Signature.of("f_bert", both, {"model": "roberta-large"}))
    write_scores(path, replace(before, scores=(*before.scores, known)))
    write_scores(path, score_all(both, with_bertscore_away()))
    assert read_scores(path).score("F_BERT") == known
    assert read_scores(path).score("P_BERT").value is None
    write_scores(path, score_all(both))
    assert read_scores(path).score("F_BERT") == known
    write_scores(path, score_all(replies("I am so sorry.", "Ah.")))
    assert read_scores(path).score("F_BERT") is None, "the same dialogues, another reply"


def test_bertscore_of_another_model_is_noted():
    both = replies("I am so sorry.")

    def noted(model, layer, value=0.5):
        return other_bertscore([Score("F_BERT", value, Signature.of("f_bert", both, {"model": model, "layer": layer}))])

    assert noted("roberta-large", 17) == noted("tiny", 2, None) == []
    assert "BERTScore uses roberta-large, layer 10: not comparable" in noted("roberta-large", 10)[0]


def test_scores_of_a_file_lie_beside_it(tmp_path):
    assert scores_path(tmp_path / "out.txt.gz") == tmp_path / "out.txt.gz.scores.json"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "scores": [{}]}', "\xff"])
def test_what_holds_no_scores_is_an_error(tmp_path, text):
    path = tmp_path / "scores.json"
    path.write_text(text, "latin-1")
    with pytest.raises(DataError, match="scores"):
        read_scores(path)


def test_a_place_that_cannot_be_read_or_written_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be written"):
        write_scores(tmp_path / "none" / "scores.json", score_all(replies("a")))


def test_common_items_in_one_order():
    a, b = replies("a", "b", "c"), replies("C", "D", name="other", first=2)
    ours, theirs = on_common([a, Replies("b", b.items[::-1])])
    assert (ours.ids, theirs.ids) == (("2",), ("2",))
    assert (ours.texts, theirs.texts) == (("c",), ("C",))
    assert "on the 1 dialogues that all systems answered, of its 3" in ours.notes[-1]
    with pytest.raises(OptionError, match="no dialogue"):
        on_common([a, replies("x", first=7)])


def test_a_metric_by_name():
    assert all(metric(name).name == name for name in METRICS)
    with pytest.raises(UnknownNameError, match="unknown metric 'B-3'"):
        metric("B-3")


def test_an_empty_set_has_no_value_and_every_reason():
    scored = score_all(Replies("nothing", ()))
    assert all(score.value is None and score.reason for score in scored.scores)
