"""BERTScore against bert-score itself under transformers 4.57, both computed in the same test.

transformers 4.57 is installed from the package index into a folder of its own, in front of the libraries that are here.
roberta-large, the model of the paper's tables, is compared wherever it is in a cache; a small RoBERTa without meaning
and a real BERT show on every machine that the comparison works (slow).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from patience import patience
from tiny_roberta import LAYER, PAIRS, save_tiny_roberta

from localemp.errors import LocalempError
from localemp.metrics.bertscore import BertScore, profile_of
from localemp.metrics.replies import Replies, Reply
from localemp.models import hub
from localemp.models.profiles import HubSource, load_profile
from localemp.models.weights import find, resolve

MODEL, PAPERS_LAYER = "roberta-large", 17
PACKAGES = ("bert-score==0.3.13", "transformers==4.57.*", "huggingface-hub>=0.34,<1", "tokenizers>=0.22,<=0.23.0")
PROGRAM = """
import json, sys
import bert_score, transformers
assert transformers.__version__.startswith("4.57."), transformers.__version__
asked = json.load(sys.stdin)
found = bert_score.score(asked["texts"], asked["references"], model_type=asked["model"], num_layers=asked["layer"],
                         device="cpu", idf=False, rescale_with_baseline=False)
print(json.dumps([side.tolist() for side in found]))
"""

Scores = Callable[[Path, int], np.ndarray]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def roberta_large() -> Path:
    found = find(profile_of(MODEL)) or hub.find_snapshot(HubSource.model_construct(id=MODEL, revision=None))
    if found is None:
        pytest.skip(f"{MODEL} is in no cache: neither in the Hugging Face cache nor in localemp's")
    return found.folder


@pytest.fixture(scope="module")
def bert_score_4() -> Iterator[Scores]:
    """Precision, recall and F1 of `PAIRS`, one row each, by bert-score under transformers 4.57."""
    with tempfile.TemporaryDirectory() as packages:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--target", packages, *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience(300))
        if done.returncode:
            pytest.skip(f"transformers 4.57 cannot be installed: {(done.stderr.splitlines() or ['no reason'])[-1]}")
        environment = {**os.environ, "PYTHONPATH": packages, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

        def scores(model: Path, layer: int) -> np.ndarray:
            texts, references = zip(*PAIRS, strict=True)
            asked = json.dumps({"model": str(model), "layer": layer, "texts": texts, "references": references})
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM],
                env=environment,
                input=asked,
                capture_output=True,
                text=True,
                timeout=patience(300),
            )
            assert done.returncode == 0, done.stderr
            return np.array(json.loads(done.stdout.splitlines()[-1])).T

        yield scores


def ours(model: str, layer: int) -> np.ndarray:
    replies = tuple(Reply(f"d{row}", text, reference) for row, (text, reference) in enumerate(PAIRS))
    return BertScore(model, layer, device="cpu", fetch=False).values([Replies("system", replies)])


def test_roberta_large_gives_what_bert_score_gives(roberta_large: Path, bert_score_4: Scores):
    expected = bert_score_4(roberta_large, PAPERS_LAYER)
    assert ours(MODEL, PAPERS_LAYER) == pytest.approx(expected, abs=1e-4)
    # And it is the layer that is used unless another is asked for.
    assert BertScore(MODEL, device="cpu", fetch=False).settings()["layer"] == PAPERS_LAYER


@pytest.mark.slow
def test_a_tiny_roberta_gives_what_bert_score_gives(tmp_path: Path, bert_score_4: Scores):
    folder = save_tiny_roberta(tmp_path / "tiny")
    assert ours(str(folder), LAYER) == pytest.approx(bert_score_4(folder, LAYER), abs=1e-4)


@pytest.mark.slow
def test_all_minilm_gives_what_bert_score_gives(bert_score_4: Scores):
    try:
        folder = resolve(load_profile("all-minilm-l6-v2", "encoder")).folder
    except LocalempError as error:
        pytest.skip(f"no all-minilm-l6-v2: {error.message}")
    assert ours("all-minilm-l6-v2", 5) == pytest.approx(bert_score_4(folder, 5), abs=1e-4)
