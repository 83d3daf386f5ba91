"""The encoder on a tiny BERT of random weights: the vectors mean nothing, the machinery is the real one."""

import contextlib
import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny_encoder import LIMIT, save_tiny_encoder

from localemp.errors import OptionError, WeightsError
from localemp.retrieval.encoder import Encoder
from localemp.retrieval.index import Index

TEXTS = ["my dog died .", "i got a new job today and we were very happy !", "sad", "", "the cat lost it again"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("encoder"))


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_vectors_have_length_one(folder: Path, dtype: str):
    vectors = Encoder(folder, dtype, device="cpu").encode(TEXTS)
    assert vectors.shape == (5, 32)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


def test_float32_is_what_sentence_transformers_gives(folder: Path):
    peer = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert Encoder(folder, "float32", "cpu").encode(TEXTS) == pytest.approx(peer, abs=1e-5)


def test_bfloat16_is_close_to_float32_but_not_the_same(folder: Path):
    exact = Encoder(folder, "float32", "cpu").encode(TEXTS)
    fast = Encoder(folder, "bfloat16", "cpu").encode(TEXTS)
    assert (exact * fast).sum(axis=1) == pytest.approx(np.ones(5), abs=1e-3)
    assert not np.array_equal(exact, fast)


def test_the_order_and_company_of_texts_make_no_difference(folder: Path):
    encoder = Encoder(folder, "float32", "cpu")
    many = [text for text in TEXTS for _ in range(9)]
    vectors = encoder.encode(many)
    assert vectors[::-1] == pytest.approx(encoder.encode(many[::-1]), abs=1e-5)
    assert vectors[::9] == pytest.approx(encoder.encode(TEXTS), abs=1e-5)
    assert vectors[9:10] == pytest.approx(encoder.encode(TEXTS[1:2]), abs=1e-5)


def test_what_is_behind_the_last_token_that_fits_is_not_seen(folder: Path):
    encoder = Encoder(folder, "float32", "cpu")
    assert encoder.max_seq_length == LIMIT
    room = LIMIT - 2  # [CLS] and [SEP]
    cut, longer, shorter = encoder.encode(["dog " * room, "dog " * room + "cat sad", "dog " * (room - 1) + "cat sad"])
    assert longer == pytest.approx(cut, abs=1e-5)
    assert np.abs(shorter - cut).max() > 1e-3


def test_what_has_to_go_for_the_end_to_be_seen(folder: Path):
    encoder = Encoder(folder, "float32", "cpu")
    room = LIMIT - 2  # [CLS] and [SEP]
    fits, long = "dog " * room, "my dog died . " + "cat " * (room - 1) + "sad"
    assert encoder.too_long([fits, long, "dog", "", "é" * 20]) == [False, True, False, False, False]
    # The last sentence stays whole; one that alone is too long is cut at a token.
    assert long[encoder.newest(long) :] == "cat " * (room - 1) + "sad"
    endless = "cat " * 100 + "sad"
    assert endless[encoder.newest(endless) :] == "cat " * (room - 1) + "sad"
    assert encoder.ends([fits, long]) == [fits, "cat " * (room - 1) + "sad"]
    assert encoder.encode(encoder.ends([long])) == pytest.approx(encoder.encode(["cat " * (room - 1) + "sad"]))


@pytest.mark.parametrize("text", ["dog " * 250_000, "." * 1_000_000, " " * 999_999 + "a", "é" * 1_000_000])
def test_a_text_of_a_megabyte_takes_no_longer_than_what_is_seen_of_it(folder: Path, text: str):
    encoder = Encoder(folder, "float32", "cpu")
    started = time.process_time()
    (end,) = encoder.ends([text])
    encoder.encode([text, end])
    assert encoder.count_tokens([text]) <= LIMIT
    assert len(end) <= LIMIT * 128
    assert time.process_time() - started < 1  # 0.02 on a laptop; 3 where all of it is tokenised


def test_no_texts(folder: Path):
    assert Encoder(folder, device="cpu").encode([]).shape == (0, 32)


def test_key_and_versions(folder: Path):
    encoder = Encoder(folder, "bfloat16", "cpu")
    assert encoder.key == {"dtype": "bfloat16", "dim": "32", "max_seq_length": "16"}
    assert encoder.versions["torch"] == torch.__version__
    assert encoder.versions["device"] == "cpu"


def test_auto_is_one_of_the_two_and_the_same_every_time(folder: Path):
    first, second = (Encoder(folder, "auto", "cpu").dtype for _ in range(2))
    assert first == second
    assert first in {"bfloat16", "float32"}


def test_the_model_is_loaded_without_a_word(folder: Path, capfd: pytest.CaptureFixture[str]):
    Encoder(folder, device="cpu").encode(TEXTS)
    assert capfd.readouterr() == ("", "")


def test_a_text_finds_itself(folder: Path, tmp_path: Path):
    encoder = Encoder(folder, "auto", "cpu")
    index = Index.build_or_load(TEXTS, encoder, {"weights": "random"}, tmp_path)
    rows, scores = index.search(encoder.encode(TEXTS), 2)
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert scores[:, 0] == pytest.approx(np.ones(5), abs=1e-3)
    assert (scores[:, 1] < scores[:, 0]).all()


def test_unknown_precision_and_device_are_refused(folder: Path):
    with pytest.raises(OptionError, match="'float16'") as caught:
        Encoder(folder, "float16")
    assert "bfloat16" in caught.value.hint
    with pytest.raises(OptionError, match="device 'abacus' cannot be used"):
        Encoder(folder, device="abacus")


def test_a_folder_without_a_model_is_named(folder: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"nowhere has no modules\.json") as caught:
        Encoder(tmp_path / "nowhere", device="cpu")
    assert "localemp models pull" in caught.value.hint
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (weights,) = broken.rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"cannot load the sentence encoder in .*broken"):
        Encoder(broken, device="cpu")


def copied(folder: Path, where: Path) -> Path:
    shutil.copytree(folder, where)
    return where


MODULE = """
import pathlib, torch
pathlib.Path({mark!r}).touch()
class Mine(torch.nn.Module):
    def __init__(self, *a, **k): super().__init__()
    @classmethod
    def load(cls, *a, **k): return cls()
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "mine.Mine"}, "'mine.Mine' is not a module of sentence-transformers"),
        ({"type": "sentence_transformers_evil.Mine"}, "is not a module of sentence-transformers"),
        ({"type": 7}, "'7' is not a module of sentence-transformers"),
        ({"path": "../outside"}, "lies outside the folder"),
        ({"path": "/etc"}, "lies outside the folder"),
        ({"path": ["a"]}, "lies outside the folder"),
    ],
)
def test_a_folder_that_brings_code_is_refused_and_the_code_does_not_run(
    folder: Path, tmp_path: Path, change, said: str
):
    evil = copied(folder, tmp_path / "evil")
    modules = json.loads((evil / "modules.json").read_text())
    modules[-1] |= change
    (evil / "modules.json").write_text(json.dumps(modules))
    (evil / "mine.py").write_text(MODULE.format(mark=str(tmp_path / "ran")))
    with pytest.raises(WeightsError, match=said) as caught:
        Encoder(evil, device="cpu")
    assert "does not run code from weights" in caught.value.hint
    assert not (tmp_path / "ran").exists()


def test_an_auto_map_is_refused_wherever_it_stands(folder: Path, tmp_path: Path):
    for name in ("config.json", "tokenizer_config.json", "1_Pooling/config.json"):
        evil = copied(folder, tmp_path / name.replace("/", "-"))
        settings = json.loads((evil / name).read_text()) if (evil / name).is_file() else {}
        (evil / name).write_text(json.dumps(settings | {"inner": {"auto_map": {"AutoModel": "mine.Mine"}}}))
        (evil / "mine.py").write_text(MODULE.format(mark=str(tmp_path / "ran")))
        with pytest.raises(WeightsError, match='"auto_map" names custom Python code'):
            Encoder(evil, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["modules.json", "config.json", "sentence_bert_config.json"])
def test_no_mutant_of_a_setting_ends_in_a_traceback(folder: Path, tmp_path: Path, name: str):
    content, chance = (folder / name).read_bytes(), random.Random(name)
    evil = copied(folder, tmp_path / "evil")
    for _ in range(25):
        broken = bytearray(content)
        start = chance.randrange(len(content))
        broken[start : start + chance.randrange(12)] = chance.choice(
            [b"", b"[" * 500, b"null", b"7", b'"x"', b"\xff", b"{"]
        )
        (evil / name).write_bytes(broken)
        with contextlib.suppress(WeightsError):
            assert Encoder(evil, device="cpu").dim > 0
