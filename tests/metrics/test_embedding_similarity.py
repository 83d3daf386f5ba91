"""EmbSim: cosines of an encoder's vectors, and where it stands in for BERTScore."""

import numpy as np
import pytest
from tiny_encoder import save_tiny_encoder

import localemp
from localemp.errors import OptionError
from localemp.metrics.base import Score, Signature
from localemp.metrics.embedding_similarity import EmbeddingSimilarity
from localemp.metrics.replies import Replies, Reply
from localemp.metrics.scoring import stand_in
from localemp.retrieval.encoder import Encoder

PAIRS = [
    ("my dog died", "the cat died !"),
    ("i got a job", "i got a job"),
    ("", "sad"),
    ("we were happy", "my dog died"),
]


def replies(*pairs, name="system"):
    return Replies(name, tuple(Reply(f"d{row}", text, reference) for row, (text, reference) in enumerate(pairs)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("encoder") / "tiny")


def test_it_is_the_cosine_of_the_encoders_vectors(folder):
    metric = EmbeddingSimilarity(str(folder))
    encoder = Encoder(folder, "float32")
    texts, references = ([pair[side] for pair in PAIRS] for side in (0, 1))
    by_hand = (encoder.encode(texts) * encoder.encode(references)).sum(axis=1) * [1, 1, 0, 1]
    both = [replies(*PAIRS, name="a"), replies(*reversed(PAIRS), name="b")]
    found = metric.statistics(both).each(np.arange(8))
    assert found[:4] == pytest.approx(100 * by_hand, abs=1e-4)
    assert found[4:] == pytest.approx(found[3::-1])
    assert found[1] == pytest.approx(100)
    assert metric.score(both[0]).value == pytest.approx(100 * by_hand.mean(), abs=1e-4)


def test_the_signature_says_how_it_was_made(folder):
    settings = dict(EmbeddingSimilarity(str(folder)).score(replies(*PAIRS)).signature.settings)
    assert (settings["encoder"], settings["dtype"], settings["tokens"]) == ("tiny", "float32", 16)
    assert len(settings["weights"]) == 64
    assert {"sentence-transformers", "transformers", "torch"} <= settings.keys()


def test_without_references_nothing_is_loaded():
    score = EmbeddingSimilarity("/nowhere").score(replies(("Oh.", None)))
    assert (score.value, score.reason) == (None, "no reference replies")


def test_what_is_read_is_told_and_no_text_twice(folder):
    told = []
    metric = EmbeddingSimilarity(str(folder), on_progress=told.append)
    metric.score(replies(*PAIRS, *PAIRS[:2]))
    steps = [(step.done, step.total) for step in told if step.task == "Reading for EmbSim"]
    assert steps == [(3, 6), (6, 6)]
    metric.score(replies(*PAIRS))
    assert len([step for step in told if step.task == "Reading for EmbSim"]) == 2


def scored(name, value, **settings):
    return Score(name, value, Signature(name.lower(), tuple(settings.items()), 1, ""), "" if value else "no hub")


def test_a_note_says_that_it_stands_in():
    ours = scored("EmbSim", 20.0, encoder="all-minilm-l6-v2")
    (note,) = stand_in([scored("F_BERT", None), ours])
    assert note.startswith(
        "EmbSim stands in for BERTScore, whose model could not be had: the cosine of sentence embeddings"
    )
    assert not stand_in([scored("F_BERT", 0.8, model="roberta-large", layer=17), ours])
    assert not stand_in([scored("F_BERT", None, model="roberta-large"), ours]), "there were no references"
    assert not stand_in([ours])


def test_score_has_it_where_bertscore_cannot_be_had_or_it_is_asked_for(folder, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": "d0", "reply": "my dog died", "reference": "the cat died !"}\n')
    imports = [("jsonl", path)]
    told = []

    def names(**options):
        found = localemp.score(imports=imports, on_progress=told.append, **options)
        return {score.name: score for score in found.systems[0].scores}

    assert "EmbSim" not in names(no_bertscore=True)
    missing = names(bertscore_model=str(tmp_path / "none"))
    assert missing["F_BERT"].value is None
    assert "EmbSim" in missing
    assert not [step for step in told if step.task.startswith("Reading for BERTScore")], "there is nothing to read with"
    assert names(no_bertscore=True, embsim_model=str(folder))["EmbSim"].value is not None
    assert names(metric="EmbSim", embsim_model=str(folder)).keys() >= {"EmbSim"}
    with pytest.raises(OptionError):
        localemp.score(imports=imports, metric="F_BERT", no_bertscore=True)
