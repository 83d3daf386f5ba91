"""BERTScore on a tiny RoBERTa, against what bert-score gives with transformers 4.57; and on a real small model."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_roberta import LAYER, LAYERS, LIMIT, PAIRS, save_tiny_roberta

from localemp.errors import LocalempError, OptionError, UnknownNameError, WeightsError
from localemp.metrics.bertscore import BERT_SCORE_VERSION, DEFAULT_LAYERS, BertScore, split_layer
from localemp.metrics.replies import Replies, Reply
from localemp.models.profiles import load_profile
from localemp.models.weights import find, resolve
from localemp.utils.progress import Progress

# `python tests/tiny_roberta.py` with bert-score 0.3.13 (which calls itself 0.3.12), transformers 4.57.6, torch 2.13.0.
TRANSFORMERS_4 = (
    (0.8193573, 0.8233288, 0.8213382),
    (1.0000000, 1.0000000, 1.0000000),
    (0.7745658, 0.7903169, 0.7823620),
    (0.8981207, 0.8872704, 0.8926626),
    (0.8419175, 0.8564151, 0.8491044),
    (0.8922337, 0.8895215, 0.8908755),
    (0.8691876, 0.8869455, 0.8779768),
    (0.8001646, 0.8510045, 0.8248019),
    (0.9103431, 0.9362369, 0.9231084),
    (0.8334337, 0.7351397, 0.7812070),
    (1.0000000, 1.0000000, 1.0000000),
    (0.8515611, 0.8588645, 0.8551973),
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_roberta(tmp_path_factory.mktemp("model") / "tiny")


def replies(*pairs: tuple[str, str | None], name: str = "system") -> Replies:
    return Replies(name, tuple(Reply(f"d{row}", text, reference) for row, (text, reference) in enumerate(pairs)))


def test_the_scores_are_those_of_bert_score_with_transformers_4(folder: Path):
    found = BertScore(str(folder), LAYER, device="cpu").values([replies(*PAIRS)])
    assert found == pytest.approx(np.array(TRANSFORMERS_4), abs=1e-5)


def test_with_transformers_5_bert_score_itself_gives_other_ones(folder: Path):
    bert_score = pytest.importorskip("bert_score", reason="compared with bert-score: pip install 'localemp[models]'")
    texts, references = zip(*PAIRS, strict=True)
    found = bert_score.score(list(texts), list(references), model_type=str(folder), num_layers=LAYER, device="cpu")[2]
    # The day on which this fails, our own computation is needed no more.
    assert np.abs(found.numpy() - np.array(TRANSFORMERS_4)[:, 2]).max() > 0.1


@pytest.mark.parametrize("batch_tokens", [1, LIMIT, 3 * LIMIT, 10**6])
def test_order_and_batches_make_no_difference(folder: Path, batch_tokens: int):
    bertscore = BertScore(f"{folder}:{LAYER}", device="cpu", batch_tokens=batch_tokens)
    found = bertscore.values([replies(*reversed(PAIRS))])
    assert found[::-1] == pytest.approx(np.array(TRANSFORMERS_4), abs=1e-5)


def test_a_tokenizer_without_a_limit_is_given_the_models(folder: Path, tmp_path: Path):
    unlimited = save_tiny_roberta(tmp_path / "unlimited", limit=False)
    bertscore = BertScore(str(unlimited), LAYER, device="cpu")
    assert bertscore.values([replies(*PAIRS)]) == pytest.approx(np.array(TRANSFORMERS_4), abs=1e-5)
    assert bertscore.settings()["tokens"] == LIMIT


@pytest.mark.parametrize("text", ["", " \n", "\u3000"])
def test_an_empty_reply_scores_0_and_never_reaches_the_model(text: str):
    # There is no such model; nobody asks for it.
    bertscore = BertScore("nobody/nothing", fetch=False)
    assert bertscore.values([replies((text, "I am here"))]).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("reference", ["", " \n"])
def test_an_empty_reference_is_none(reference: str):
    score = BertScore("nobody/nothing", fetch=False).metrics()[2].score(replies(("I am here", reference)))
    assert (score.value, score.reason) == (None, "no reference replies")


def test_empty_texts_among_others_count_as_0(folder: Path):
    bertscore = BertScore(str(folder), LAYER, device="cpu")
    score = bertscore.metrics()[2].score(replies(PAIRS[0], ("", "you"), (" ", "you"), PAIRS[1]))
    assert score.value == pytest.approx((TRANSFORMERS_4[0][2] + 1) / 4, abs=1e-5)


def test_a_text_that_is_all_special_tokens_scores_0(folder: Path):
    bertscore = BertScore(str(folder), LAYER, device="cpu")
    assert bertscore.values([replies(("</s>", "</s>"), ("</s>", "you"))]).tolist() == [[0, 0, 0]] * 2


def test_three_metrics_share_one_computation(folder: Path):
    heard = []
    bertscore = BertScore(
        str(folder), LAYER, device="cpu", on_progress=lambda p: heard.append((p.task, p.done, p.total))
    )
    scores = [metric.score(replies(*PAIRS)) for metric in bertscore.metrics()]
    assert [score.name for score in scores] == ["P_BERT", "R_BERT", "F_BERT"]
    means = np.array(TRANSFORMERS_4).mean(axis=0)
    assert [score.value for score in scores] == pytest.approx(means.tolist(), abs=1e-5)
    # One text is there twice.
    read = [(done, total) for task, done, total in heard if task == "Reading for BERTScore"]
    assert read[0] == (0, 23)
    assert read[-1] == (23, 23)
    assert read.count((23, 23)) == 1


def test_the_references_of_a_second_system_are_not_computed_again(folder: Path):
    heard = []
    bertscore = BertScore(
        str(folder), LAYER, device="cpu", on_progress=lambda p: heard.append((p.task, p.done, p.total))
    )
    first, second = replies(*PAIRS), replies(*(("I am here", reference) for _, reference in PAIRS))
    bertscore.values([first])
    bertscore.values([second])
    assert heard[-1] == ("Reading for BERTScore", 1, 1)
    together = BertScore(str(folder), LAYER, device="cpu").values([first, second])
    assert together == pytest.approx(np.concatenate([bertscore.values([each]) for each in (first, second)]), abs=1e-6)


def test_what_was_computed_before_an_interrupt_is_kept(folder: Path):
    done = []

    def stop(progress: Progress) -> None:
        if progress.task != "Reading for BERTScore":
            return
        done.append(progress.done)
        if progress.done == progress.total - 1:
            raise KeyboardInterrupt

    bertscore = BertScore(str(folder), LAYER, device="cpu", batch_tokens=1, on_progress=stop)
    with pytest.raises(KeyboardInterrupt):
        bertscore.values([replies(*PAIRS)])
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        bertscore.values([replies(*PAIRS)])
    assert done == [0]  # one text is left, and there the test's own progress stops again


def test_rows_of_several_systems_and_their_own_values(folder: Path):
    bertscore = BertScore(str(folder), LAYER, device="cpu")
    statistics = bertscore.metrics()[0].statistics([replies(*PAIRS[:2]), replies(*PAIRS[:2][::-1])])
    own = TRANSFORMERS_4[0][0]
    assert statistics.each(np.array([0, 1, 0])) == pytest.approx(np.array([own, 1, own]), abs=1e-5)
    assert statistics.value(np.array([0, 1])) == pytest.approx((own + 1) / 2, abs=1e-5)
    assert np.isnan(statistics.value(np.array([], dtype=np.intp)))


def test_no_replies_and_no_references_have_no_score_and_no_model_is_asked_for():
    metric = BertScore("nobody/nothing", fetch=False).metrics()[0]
    assert (metric.score(replies()).value, metric.score(replies()).reason) == (None, "no replies")
    score = metric.score(replies(("you", None), ("you", "you")))
    assert (score.value, score.reason) == (None, "1 of 2 dialogues have no reference reply")


def test_the_signature_says_all_that_can_change_a_score(folder: Path):
    score = BertScore(str(folder), LAYER, device="cpu").metrics()[2].score(replies(*PAIRS))
    settings = score.signature.as_dict()
    assert settings["metric"] == "f_bert"
    # The checkpoint is the same wherever it is written.
    assert settings["weights"].startswith("b4266ccc0cb324f2")
    expected = {"model": "tiny", "layer": 3, "idf": False, "rescaled": False, "prefix space": True, "dtype": "float32"}
    assert settings | expected == settings
    assert settings["torch"] == torch.__version__
    assert {"bert-score", "transformers"} <= settings.keys()


def test_the_last_layer_unless_one_is_asked_for(folder: Path, tmp_path: Path):
    assert BertScore(str(folder), device="cpu").settings()["layer"] == LAYERS
    assert BertScore(f"{folder}:2", device="cpu").settings()["layer"] == 2
    # bert-score knows a model of this name.
    named = shutil.copytree(folder, tmp_path / "google" / "t5-small")
    with pytest.raises(OptionError, match="t5-small has 4 layers, so there is no layer 6") as caught:
        BertScore(str(named), device="cpu").values([replies(*PAIRS)])
    assert "MODEL:LAYER" in caught.value.hint


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("roberta-large", ("roberta-large", None)),
        ("roberta-large:17", ("roberta-large", 17)),
        ("org/name:0", ("org/name", 0)),
        ("/some:where/model", ("/some:where/model", None)),
        (":17", (":17", None)),
    ],
)
def test_a_layer_may_stand_behind_a_colon(model: str, expected: tuple[str, int | None]):
    assert split_layer(model) == expected


def test_two_layers_that_contradict_each_other_are_refused():
    with pytest.raises(OptionError, match="says layer 3, the layer given is 4"):
        BertScore("tiny:3", 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 5}, "tiny has 4 layers, so there is no layer 5"),
        ({"dtype": "float16"}, "dtype 'float16' does not exist"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
    ],
)
def test_settings_that_do_not_exist_are_named(folder: Path, settings: dict[str, object], message: str):
    with pytest.raises(OptionError, match=message):
        BertScore(str(folder), **settings).values([replies(*PAIRS)])


def test_a_folder_that_holds_no_whole_model_is_named(folder: Path, tmp_path: Path):
    with pytest.raises(UnknownNameError):
        BertScore(str(tmp_path / "nowhere")).values([replies(*PAIRS)])
    cut = shutil.copytree(folder, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"no model for BERTScore in .*cut"):
        BertScore(str(cut), device="cpu").values([replies(*PAIRS)])
    deeper = shutil.copytree(folder, tmp_path / "deeper")
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps(config | {"num_hidden_layers": LAYERS + 1}))
    with pytest.raises(WeightsError, match="lack 16 tensors"):
        BertScore(str(deeper), device="cpu").values([replies(*PAIRS)])


def test_without_model_and_network_the_scores_say_why_and_the_hub_is_asked_once(tmp_path: Path):
    script = """
from localemp.errors import LocalempError
from localemp.metrics.bertscore import BertScore
from localemp.metrics.replies import Replies, Reply
for metric in BertScore().metrics():
    try:
        metric.score(Replies("one", (Reply("d1", "you", "you"),)))
    except LocalempError as error:
        print(error.message, error.hint, metric.settings()["model"], metric.settings()["weights"], sep=" | ")
"""
    offline = {"HF_HOME": str(tmp_path), "LOCALEMP_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | offline, capture_output=True, text=True, check=True
    )
    said = (
        "cannot fetch the weights of roberta-large: the hub was not contacted because HF_HUB_OFFLINE is set"
        " | check the network, or give a folder of weights: --bertscore-model FOLDER | roberta-large | None\n"
    )
    assert done.stdout == 3 * said


def test_the_model_is_loaded_without_a_word(folder: Path, capfd: pytest.CaptureFixture[str]):
    BertScore(str(folder), LAYER, device="cpu").values([replies(*PAIRS)])
    assert capfd.readouterr() == ("", "")


def test_bfloat16_is_close_and_says_so(folder: Path):
    bertscore = BertScore(str(folder), LAYER, dtype="bfloat16", device="cpu")
    found = bertscore.values([replies(*PAIRS)])
    assert found == pytest.approx(np.array(TRANSFORMERS_4), abs=2e-2)
    assert bertscore.settings()["dtype"] == "bfloat16"


def test_default_layers_are_those_of_bert_score():
    utils = pytest.importorskip("bert_score.utils", reason="compared with bert-score: pip install 'localemp[models]'")
    assert version("bert-score") == BERT_SCORE_VERSION
    assert tomllib.loads(DEFAULT_LAYERS.read_text("utf-8")) == utils.model2layers


def test_a_real_bert_gives_what_bert_score_gives():
    bert_score = pytest.importorskip("bert_score", reason="compared with bert-score: pip install 'localemp[models]'")
    profile = load_profile("all-minilm-l6-v2", "encoder")
    if find(profile) is None:
        try:
            resolve(profile)
        except LocalempError as error:
            pytest.skip(f"no all-minilm-l6-v2: {error.message}")
    weights = resolve(profile, fetch=False)
    texts, references = zip(*PAIRS, strict=True)
    peer = bert_score.score(list(texts), list(references), model_type=str(weights.folder), num_layers=5, device="cpu")
    bertscore = BertScore("all-minilm-l6-v2:5", device="cpu")
    assert bertscore.values([replies(*PAIRS)]) == pytest.approx(torch.stack(peer, 1).double().numpy(), abs=1e-5)
    settings = bertscore.settings()
    assert settings["model"] == "all-minilm-l6-v2"
    assert settings["weights"] == weights.sha256["model.safetensors"]
    assert settings["prefix space"] is False
