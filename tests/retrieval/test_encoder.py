"""The encoder on a tiny BERT of random weights: the vectors mean nothing, the machinery is the real one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

from localemp.errors import OptionError, WeightsError
from localemp.retrieval.encoder import Encoder
from localemp.retrieval.index import Index

WORDS = "i my dog died got a new job and we were very happy lost it again today the cat sad . !"
TEXTS = ["my dog died .", "i got a new job today and we were very happy !", "sad", "", "the cat lost it again"]
LIMIT = 16


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved sentence-transformers model with the modules of all-mpnet-base-v2."""
    torch.manual_seed(5)
    base = tmp_path_factory.mktemp("bert")
    vocabulary = base / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]))
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(base)
    config = BertConfig(
        vocab_size=5 + len(WORDS.split()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        # Ten times the usual spread, or all texts would look the same.
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(base)
    transformer = Transformer(str(base), max_seq_length=LIMIT)
    saved = tmp_path_factory.mktemp("encoder")
    SentenceTransformer(modules=[transformer, Pooling(32), Normalize()], device="cpu").save(str(saved))
    return saved


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
    with pytest.raises(WeightsError, match=r"no sentence encoder in .*broken"):
        Encoder(broken, device="cpu")
