"""What is read of an adapter, and what is said of one that is damaged, hostile, of another kind or of another model."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from fake_hub import FakeHub, fill_cache
from tiny_adapter import SIZES, write_adapter, write_model

from localemp.errors import LocalempError, OptionError, WeightsError
from localemp.models.adapter_checks import base_note, check_adapter, check_not_merged
from localemp.models.adapters import RANKS, adapter_name, find_adapter, split_spec
from localemp.models.checksums import digest_of, sha256_file
from localemp.models.profiles import HubSource, Profile, load_profile
from localemp.utils.paths import resource

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def test_an_adapter_is_described_by_its_files(tmp_path, model):
    folder = write_adapter(tmp_path / "my adapter!")
    adapter = find_adapter(str(folder))
    check_adapter(adapter, model)
    assert (adapter.name, adapter.reference, adapter.folder) == ("my-adapter-", str(folder), folder.resolve())
    assert (adapter.rank, adapter.targets, adapter.base) == (4, ("down_proj", "q_proj"), "someone/tiny")
    assert adapter.sha256 == digest_of({path.name: sha256_file(path) for path in folder.iterdir()})
    assert adapter.settings() == {"adapter": "my-adapter-", "adapter_rank": 4, "adapter_sha256": adapter.sha256}


def test_names_and_paths_with_signs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_adapter(tmp_path / "r=4")
    assert split_spec("mine=org/name") == ("mine", "org/name")
    assert split_spec("r=4") == ("", "r=4")
    assert split_spec("a/b=c/d") == ("", "a/b=c/d")
    assert find_adapter("mine=r=4").name == "mine"
    assert find_adapter("r=4").name == adapter_name("r=4") == "r-4"
    assert adapter_name("org/some-lora.v2") == "some-lora.v2"
    assert adapter_name("r=4/../r=4/.") == "r-4"
    for spec in ("=folder", "mi ne=folder", "mine=", "a@b=folder", "a:b=folder", " "):
        with pytest.raises(OptionError):
            split_spec(spec)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA"),
        ({"peft_type": None}, "peft_type is None"),
        ({"r": 0}, "r: "),
        ({"r": 10**6}, "r: "),
        ({"r": 4.5}, "r: "),
        ({"r": "4"}, "r: "),
        ({"r": True}, "r: "),
        ({"r": 8}, "down_proj.lora_A.weight has rank 4, but adapter_config.json says r = 8"),
        ({"lora_alpha": float("nan")}, "lora_alpha: "),
        ({"bias": "all"}, "bias is 'all'; only plain LoRA works"),
        ({"use_dora": True}, "use_dora is True; only plain LoRA works"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head']"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens is [1]"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is [1]"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is [[0, 2]]"),
        ({"rank_pattern": {"q_proj": 4096}}, "the rank is 4096; vLLM takes at most 512"),
        ({"alpha_pattern": {"(a*)*b": 1.0}}, "is no pattern of modules"),
        ({"alpha_pattern": {"(": 1.0}}, "'(' is no pattern of modules"),
        ({"target_modules": None}, "has no target_modules, which vLLM needs"),
    ],
)
def test_what_vllm_cannot_apply_is_refused_in_words(tmp_path, config, said):
    write_adapter(tmp_path / "one")
    path = tmp_path / "one" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(WeightsError) as caught:
        find_adapter(str(tmp_path / "one"))
    assert said in caught.value.message
    assert caught.value.message.startswith(str(tmp_path / "one"))


def test_ranks_of_patterns_and_inits_that_leave_the_model_alone(tmp_path, model):
    wide = {"base_model.model.model.layers.0.mlp.up_proj": (8, 12)}
    tensors = {
        f"{name}.lora_{half}.weight": numpy.zeros((2, size[0]) if half == "A" else (size[1], 2), "float32")
        for name, size in wide.items()
        for half in "AB"
    }
    told = {"rank_pattern": {"up_proj": 2}, "init_lora_weights": "gaussian", "use_rslora": True}
    adapter = find_adapter(str(write_adapter(tmp_path / "one", tensors=tensors, **told)))
    check_adapter(adapter, model)
    assert (adapter.rank, len(adapter.modules)) == (4, 5)
    # vLLM wants room for every rank that the configuration names, whether a module has it or not.
    assert find_adapter(str(write_adapter(tmp_path / "two", rank_pattern={"up_proj": 32}))).rank == 32


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def header(text: bytes, body: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + body


Q = "base_model.model.model.layers.0.self_attn.q_proj"
ONE = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty or cut off"),
        (b"\x00" * 7, "empty or cut off"),
        ((1 << 62).to_bytes(8, "little"), "empty or cut off"),
        (header(b"{"), "header is not JSON"),
        (header(b"[" * 5000), "header is not JSON"),
        (header(b"[]"), "header is not a JSON object"),
        (header(b"{}"), "it has no LoRA matrices"),
        (header(json.dumps({f"{Q}.lora_A.weight": 1}).encode()), "no valid data_offsets"),
        (header(json.dumps({f"{Q}.lora_A.weight": ONE | {"shape": [-1, -4]}}).encode(), b"1234"), "no valid type"),
        (header(json.dumps({f"{Q}.lora_A.weight": ONE | {"shape": [9, 9]}}).encode(), b"1234"), "it needs 324"),
        (header(json.dumps({f"{Q}.lora_A.weight": ONE | {"data_offsets": [4, 8]}}).encode(), b"12345678"), "from 0 on"),
        (header(json.dumps({f"{Q}.lora_A.weight": ONE}).encode(), b"12345"), "tensors have 4 bytes"),
        (header(json.dumps({f"{Q}.lora_A.weight": ONE}).encode(), b"1234"), "has no counterpart lora_B"),
        (header(json.dumps({f"{Q}.weight": ONE}).encode(), b"1234"), "is not a matrix of a LoRA adapter"),
        (header(json.dumps({f"{Q}.lora_A.weight": ONE | {"dtype": "I32"}}).encode(), b"1234"), "has the type I32"),
        (header(json.dumps({f"{Q}.lora_A.weight\x1b[31m": ONE}).encode(), b"1234"), "is not a matrix"),
        (pickle.dumps({"a": 1}), "empty or cut off"),
    ],
)
def test_a_file_that_is_cut_empty_or_hostile(tmp_path, content, said):
    folder = write_adapter(tmp_path / "one")
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        find_adapter(str(folder))
    assert said in caught.value.message
    assert WEIGHTS in caught.value.message
    assert "\x1b" not in caught.value.message


def test_a_file_that_lost_its_end(tmp_path):
    folder = write_adapter(tmp_path / "one")
    cut(folder / WEIGHTS)
    with pytest.raises(WeightsError, match="its tensors have"):
        find_adapter(str(folder))


def test_halves_of_different_ranks(tmp_path):
    name = "base_model.model.model.layers.0.mlp.up_proj"
    tensors = {
        f"{name}.lora_A.weight": numpy.zeros((4, 8), "float32"),
        f"{name}.lora_B.weight": numpy.zeros((12, 2), "float32"),
    }
    with pytest.raises(WeightsError, match=r"has rank 4, but .* has 2"):
        find_adapter(str(write_adapter(tmp_path / "one", tensors=tensors)))


def test_a_folder_that_is_no_adapter(tmp_path, model):
    with pytest.raises(OptionError, match="is not a folder here, and not a Hugging Face id"):
        find_adapter(str(tmp_path / "nowhere"))
    with pytest.raises(OptionError, match="is a file, not a folder"):
        find_adapter(str(model / "config.json"))
    with pytest.raises(WeightsError, match=r"has no adapter_config\.json") as caught:
        find_adapter(str(model))
    assert caught.value.hint == "it is a whole model: name it with --model"
    folder = write_adapter(tmp_path / "old")
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(WeightsError, match=r"has only adapter_model.bin, and such a file can run code") as caught:
        find_adapter(str(folder))
    assert "safe_serialization=True" in caught.value.hint
    (folder / WEIGHTS).symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match=r"no adapter_model|has only"):
        find_adapter(str(folder))


@pytest.mark.parametrize(
    ("adapter", "model", "said"),
    [
        (
            {"modules": {"self_attn.q_proj": (16, 8)}}, {},
            "model.layers.0.self_attn.q_proj has 16 inputs; the model's hidden size is 8",
        ),
        (
            {"modules": {"self_attn.o_proj": (8, 16)}}, {},
            "self_attn.o_proj has 16 outputs; the model's hidden size is 8",
        ),
        ({"modules": {"self_attn.k_proj": (8, 8)}}, {}, "has 8 inputs and 8 outputs; the model's k_proj has 8 inputs"),
        ({"layers": (0, 5)}, {}, "is in layer 5; the model has layers 0 to 1"),
        (
            {"modules": {"self_attn.query": (8, 8)}}, {},
            "changes a module that the model does not have; it has down_proj, embed_tokens",
        ),
        (
            {"tensors": {"base_model.model.model.embed_tokens.base_layer.weight": numpy.zeros((12, 8), "float32")}}, {},
            "it has an embedding of 12 tokens, the model's vocabulary has 10",
        ),
        ({"modules": {"self_attn.q_proj": (16, 8)}}, {"quantization_config": {}}, "the model's hidden size is 8"),
        ({"layers": (0, 5)}, {"text_config": {"num_hidden_layers": 3}}, "the model has layers 0 to 2"),
    ],
    ids=["inputs", "outputs", "k_proj", "layer", "target", "vocabulary", "quantised", "text-config"],
)  # fmt: skip
def test_an_adapter_of_another_model(tmp_path, adapter, model, said):
    found = find_adapter(str(write_adapter(tmp_path / "one", **adapter)))
    with pytest.raises(WeightsError) as caught:
        check_adapter(found, write_model(tmp_path / "model", **model))
    assert said in caught.value.message
    assert caught.value.message.startswith(str(tmp_path / "one" / WEIGHTS))


def test_what_fits_in_other_forms(tmp_path, model):
    every = find_adapter(str(write_adapter(tmp_path / "every", modules=SIZES)))
    check_adapter(every, model)
    (model / "model.safetensors").unlink()  # weights of another kind: the configuration alone counts
    check_adapter(every, model)
    bare = write_adapter(tmp_path / "bare")
    raw = (bare / WEIGHTS).read_bytes()  # without PEFT's prefix, and with another one before the layers
    for name in ("model.layers", "language_model.model.layers"):
        length = int.from_bytes(raw[:8], "little")
        text = raw[8 : 8 + length].replace(b"base_model.model.model.layers", name.encode())
        (bare / WEIGHTS).write_bytes(header(text, raw[8 + length :]))
        check_adapter(find_adapter(str(bare)), write_model(tmp_path / "model"))


def test_another_base_of_the_same_sizes_is_a_note(tmp_path):
    adapter = find_adapter(str(write_adapter(tmp_path / "one", base_model_name_or_path="/home/me/models/Tiny/")))
    other = Profile(name="llama", kind="chat", engine="vllm", hub=HubSource(id="org/llama"))
    assert base_note(adapter, other.model_copy(update={"name": "tiny"}), tmp_path) == ""
    assert base_note(adapter, other.model_copy(update={"hub": HubSource(id="org/tiny")}), tmp_path) == ""
    assert base_note(adapter, other, tmp_path / "tiny") == ""
    assert "was trained on /home/me/models/Tiny/" in base_note(adapter, other, tmp_path)
    unnamed = find_adapter(str(write_adapter(tmp_path / "two", base_model_name_or_path=None)))
    assert base_note(unnamed, other, tmp_path) == ""


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "one was trained on HuggingFaceTB/SmolLM2-135M-Instruct: both are"),
        (None, "one does not say what it was trained on: both are applied now; --model smollm2-plain is the model"),
        ("someone/tiny", "one says that it was trained on someone/tiny; its sizes fit this model"),
        ("/runs/smollm2", ""),
    ],
    ids=["its-base", "unnamed", "another", "itself"],
)
def test_a_model_with_an_adapter_merged_into_it(tmp_path, base, said):
    adapter = find_adapter(str(write_adapter(tmp_path / "one", base_model_name_or_path=base)))
    note = base_note(adapter, load_profile("smollm2"), tmp_path)
    assert said in note
    assert bool(said) == bool(note)
    check_not_merged(adapter, load_profile("smollm2"))


def test_an_adapter_is_not_applied_twice():
    adapter = find_adapter(f"mine={resource('models', 'smollm2-listener')}")
    check_not_merged(adapter, load_profile("smollm2-plain"))
    assert base_note(adapter, load_profile("smollm2-plain"), adapter.folder) == ""
    with pytest.raises(OptionError, match="it is merged into smollm2 already") as caught:
        check_not_merged(adapter, load_profile("smollm2"))
    assert caught.value.hint == "omit it; or name the model without it: --model smollm2-plain"


def test_ranks_are_those_of_vllm():
    told = subprocess.run(
        [sys.executable, "-c", "import importlib.util as u; print(u.find_spec('vllm').origin)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if told.returncode:
        pytest.skip("vLLM is not installed")
    source = (Path(told.stdout.strip()).parent / "config" / "lora.py").read_text()
    assert f"MaxLoRARanks = Literal[{', '.join(map(str, RANKS))}]" in source


# huggingface_hub reads its environment when it is imported, so what is about the hub runs in a process of its own.
RUN = """
import json, sys
from localemp.errors import LocalempError
from localemp.models.adapters import find_adapter
try:
    found = find_adapter(sys.argv[1])
    print(json.dumps([found.name, str(found.folder), sorted(path.name for path in found.folder.iterdir())]))
except LocalempError as error:
    print(json.dumps({"message": error.message, "hint": error.hint}))
"""


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    def ask(spec: str, endpoint: str = "http://127.0.0.1:9") -> Any:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_HOME": str(tmp_path / "hf"), "LOCALEMP_CACHE": str(tmp_path / "cache")}
        environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", RUN, spec], capture_output=True, text=True, check=True, env=environment
        )
        return json.loads(done.stdout)

    return ask


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_only_two_files_come_from_the_hub_and_are_found_again(tmp_path, ask):
    files = files_of(write_adapter(tmp_path / "one")) | {"README.md": b"hi", "adapter_model.bin": b"no"}
    with FakeHub({"someone/listener": files}).running() as hub:
        name, folder, there = ask("someone/listener", hub.url)
        assert (name, there) == ("listener", ["adapter_config.json", WEIGHTS])
        assert set(hub.fetched) == {"adapter_config.json", WEIGHTS}
    assert ask("mine=someone/listener") == ["mine", folder, there]  # without a network


def test_a_damaged_copy_is_fetched_again(tmp_path, ask):
    files = files_of(write_adapter(tmp_path / "one"))
    snapshot = fill_cache(tmp_path / "hf", "someone/listener", files)
    (snapshot / WEIGHTS).resolve().write_bytes(b"damaged")
    with FakeHub({"someone/listener": files}).running() as hub:
        assert ask("someone/listener", hub.url)[0] == "listener"
        assert hub.fetched == [WEIGHTS] or set(hub.fetched) == {WEIGHTS, "adapter_config.json"}
    assert (snapshot / WEIGHTS).read_bytes() == files[WEIGHTS]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"adapter_config.json": b"{}", "adapter_model.bin": b""}, "only in adapter_model.bin, which can run code"),
        ({"adapter_config.json": b"{}"}, f"it has no {WEIGHTS}"),
        ({"config.json": b"{}", "model.safetensors": b""}, "is not an adapter: it has no adapter_config.json"),
    ],
    ids=["pickle", "no-weights", "model"],
)
def test_what_the_hub_has_is_no_adapter(ask, files, said):
    with FakeHub({"someone/listener": files}).running() as hub:
        told = ask("someone/listener", hub.url)
        assert said in told["message"]
        assert told["hint"]
        assert hub.fetched == []
    assert "could not be reached" in ask("someone/listener")["message"]


def test_every_error_is_ours(tmp_path):
    """Whatever a byte of the header becomes, it is an error of ours, or an adapter."""
    folder = write_adapter(tmp_path / "one")
    raw = (folder / WEIGHTS).read_bytes()
    for place in range(0, 400, 7):
        (folder / WEIGHTS).write_bytes(raw[:place] + bytes([raw[place] ^ 0x15]) + raw[place + 1 :])
        try:
            find_adapter(str(folder))
        except LocalempError:
            continue
