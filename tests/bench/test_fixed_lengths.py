"""benchmarks/fixed_lengths.py: prompts of exact lengths, MFU and MBU in FP8 by hand, and the published figures."""

import json
import sys
from dataclasses import replace

import click
import pytest
from repository import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))

from data_sheets import SHEETS, sheet_of
from fixed_lengths import (
    PUBLISHED,
    Lengths,
    bytes_of_decode,
    exact_prompts,
    largest_batch,
    parse_lengths,
    points_of,
    published,
    rates,
    seconds_of_compute,
    shares,
)

from localemp.bench.offline import Replay
from localemp.bench.roofline.flops import ModelShape
from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.tokens import PromptTokenizer
from localemp.errors import EngineError
from localemp.models.profiles import load_profile
from localemp.models.weights import resolve
from localemp.utils.paths import resource
from localemp.utils.toml_reader import load_toml

H200 = SHEETS["H200"]
SHAPE = ModelShape.from_config(json.loads(resource("models", "shapes", "llama.json").read_text("utf-8")))
FP8 = replace(SHAPE, matrix_bytes=1)
# Llama 3.1 8B by hand: 32 layers of q, k, v, o (4096 x 4096 and x 1024) and three of 4096 x 14336; the output matrix.
MATRICES = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
HEAD = 128_256 * 4096
KV = 2 * 32 * 1024 * 2  # bytes a token in 16 bits


@pytest.fixture(scope="module")
def tokenizer():
    return PromptTokenizer(resolve(load_profile("smollm2-plain")).folder)


@pytest.mark.parametrize(("prompt", "reply"), [(128, 128), (2048, 128)])
def test_mfu_counts_fp8_and_16_bits_apart(prompt, reply):
    computed = prompt + reply - 1
    attended = sum(range(1, computed + 1))  # each token, all before it and itself
    matrices, rest = 2 * MATRICES * computed, 2 * HEAD * reply + 4 * 4096 * 32 * attended
    lengths = Lengths(prompt, reply, 1)
    found = seconds_of_compute(FP8, lengths, H200, fp8=True)
    assert found == pytest.approx(matrices / 1979e12 + rest / 989e12, rel=1e-3)
    assert seconds_of_compute(SHAPE, lengths, H200, fp8=False) == pytest.approx((matrices + rest) / 989e12, rel=1e-3)


def test_decode_reads_the_weights_once_a_step_and_every_key():
    lengths = Lengths(128, 128, 1)
    norms = 65 * 4096 * 2
    steps = 127 * (MATRICES + 2 * HEAD + norms) / 1000  # of a batch of 1,000, FP8 and 16 bits
    keys = sum(KV * (128 + token) for token in range(1, 128))
    assert bytes_of_decode(FP8, lengths, 1000) == pytest.approx(steps + keys, rel=1e-6)
    eight_bits = bytes_of_decode(replace(FP8, kv_bytes=1), lengths, 1000)
    assert eight_bits == pytest.approx(steps + keys / 2, rel=1e-6)


def test_the_published_figures_are_possible():
    for rate in load_toml(PUBLISHED)[0]["rates"]:
        for name in ("H100", "H200"):
            lengths = Lengths(rate["prompt"], rate["reply"], rate["requests"])
            known = published(lengths, SHEETS[name])
            assert known is not None
            assert known.reply_tokens_per_s == rate[name]
            found = shares(FP8, lengths, rate[name] / rate["reply"], SHEETS[name], fp8=True)
            assert list(found) == ["run_mfu"]
            assert 0.1 < found["run_mfu"] < 1, rate


@pytest.mark.parametrize(("prompt", "reply", "rate"), [(128, 128, 27_911), (2048, 128, 3_538)])
def test_what_was_published_for_an_h200(prompt, reply, rate):
    known = published(Lengths(prompt, reply, 1), H200)
    assert known.reply_tokens_per_s == rate
    assert "NVIDIA" in known.note
    assert "another engine version, another day" in known.note
    assert published(Lengths(prompt, reply + 1, 1), H200) is None


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H200, 143771 MiB, 570.86.15", "H200"),
        ("NVIDIA H100 80GB HBM3, 81559 MiB, 550.54; NVIDIA H100 80GB HBM3, 81559 MiB, 550.54", "H100"),
        ("NVIDIA H100 PCIe, 81559 MiB, 550.54", None),
        ("NVIDIA H200 NVL, 143771 MiB, 570.86.15", None),
        ("none", None),
    ],
)
def test_data_sheets_are_of_one_model_of_gpu(device, name):
    sheet = sheet_of(device)
    assert (None if sheet is None else sheet.name) == name


def test_lengths_are_read():
    assert parse_lengths("128/64, 2048/128", "8,4") == [Lengths(128, 64, 8), Lengths(2048, 128, 4)]
    assert parse_lengths("128/64,64/1", "8") == [Lengths(128, 64, 8), Lengths(64, 1, 8)]


@pytest.mark.parametrize(
    ("lengths", "requests"),
    [
        ("128", "8"),
        ("128/0", "8"),
        ("0/8", "8"),
        ("", "8"),
        ("128/8", ""),
        ("128/8", "1,2"),
        ("128/-8", "1"),
        ("1/8", "x"),
    ],
)
def test_wrong_lengths_are_refused(lengths, requests):
    with pytest.raises(click.UsageError):
        parse_lengths(lengths, requests)


def test_prompts_have_exactly_so_many_tokens_and_differ(tokenizer):
    shortest = len(tokenizer.encode([Message("user", "a")]))
    for tokens in (shortest, shortest + 1, 128, 2048):
        prompts = exact_prompts(tokenizer, tokens, 20, seed=1)
        assert {len(tokenizer.encode(prompt)) for prompt in prompts} == {tokens}
        assert tokens < shortest + 2 or len({prompt[0].content for prompt in prompts}) == 20
    assert prompts == exact_prompts(tokenizer, 2048, 20, seed=1)
    with pytest.raises(click.UsageError, match="the shortest has"):
        exact_prompts(tokenizer, shortest - 1, 1, seed=1)


def completions(prompt: int, reply: int, count: int) -> list[Completion]:
    return [Completion("x", "length", prompt, reply, cached_tokens=0, seconds=1.0) for _ in range(count)]


def test_rates_are_of_whole_runs_only():
    found = rates(Replay(completions(128, 16, 4), 2.0), Lengths(128, 16, 4))
    assert found["requests_per_s"] == 2
    assert found["reply_tokens_per_s"] == 32
    assert found["prompt_tokens_per_s"] == 256
    with pytest.raises(EngineError, match="60 of replies, not 512 and 64"):
        rates(Replay(completions(128, 15, 4), 2.0), Lengths(128, 16, 4))


@pytest.mark.parametrize(
    ("blocks", "requests", "batch"),
    [(None, 4096, 1024), (60_000, 4096, 1024), (1_200, 4096, 100), (60_000, 8, 8), (1, 8, 1)],
)
def test_a_batch_is_as_large_as_the_cache_holds(blocks, requests, batch):
    settings = {"block_size": 16} | ({} if blocks is None else {"num_gpu_blocks": blocks})
    assert largest_batch(Lengths(128, 128, requests), 1024, settings) == batch


def test_both_are_in_the_result(tmp_path):
    (tmp_path / "config.json").write_text(resource("models", "shapes", "llama.json").read_text("utf-8"))
    lengths, args = Lengths(128, 128, 4096), {"quantization": "fp8"}
    run = rates(Replay(completions(128, 128, 4096), 20.0), lengths)
    ours, theirs = points_of(lengths, [run], tmp_path, args, batch=1024, sheet=H200, compared=True)
    assert ours.labels == {"engine": "localemp", "prompt tokens": 128, "reply tokens": 128}
    assert ours.median("of_published") == pytest.approx(4096 * 128 / 20 / 27_911)
    assert theirs.labels == ours.labels | {"engine": "TensorRT-LLM 1.0, published"}
    assert theirs.median("reply_tokens_per_s") == 27_911
    assert ours.median("run_mfu") / theirs.median("run_mfu") == pytest.approx(ours.median("of_published"))
    assert 0 < ours.median("run_mbu") < 1
    assert "run_mbu" not in theirs.values  # nobody knows their batches


@pytest.mark.parametrize(
    ("sheet", "compared", "model_type", "why"),
    [
        (None, True, "llama", "the data sheet of this device"),
        (H200, False, "llama", ""),
        (H200, True, "rwkv", "is not counted"),
    ],
)
def test_what_is_not_known_is_left_out(tmp_path, sheet, compared, model_type, why):
    config = json.loads(resource("models", "shapes", "llama.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    lengths = Lengths(128, 128, 64)
    run = rates(Replay(completions(128, 128, 64), 20.0), lengths)
    [ours] = points_of(lengths, [run], tmp_path, {}, batch=64, sheet=sheet, compared=compared)
    assert why in ours.note
    assert ("run_mfu" in ours.values) == (not why)
    assert "of_published" not in ours.values
