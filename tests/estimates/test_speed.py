"""Seconds of a run, from results of `bench engine` on this machine and from the roofline."""

import os

import pytest

from localemp.bench.result import Point, Recording
from localemp.bench.roofline.hardware import Hardware
from localemp.errors import LocalempError
from localemp.estimates.bench_results import is_of_engine, results_in
from localemp.estimates.cache_rules import cache_rules
from localemp.estimates.speed import Work, find_speed
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(RunConfig(model="smollm2"))


def record(path, pipeline, **changes):
    """A result as `bench engine` writes it: 1,000 prompt tokens/s, and a step of 20 ms + 1 ms for each request."""
    settings = {"model": "smollm2", "weights_sha256": pipeline.weights.digest, "engine_args": {}, **changes}
    settings["engine"] = {"configured": {"max_num_seqs": 256}}
    with Recording(path, "engine", "smollm2, zero-shot", settings, command=["bench", "engine"]) as recording:
        # 10 dialogues of 300 prompt tokens, of which 100 are cached, and 50 reply tokens.
        whole = {
            "seconds": (5.0,),
            "replies_per_s": (2.0,),
            "prompt_tokens_per_s": (600.0,),
            "reply_tokens_per_s": (100.0,),
            "prefix_hits": (1 / 3,),
            "start_s": (30.0,),
            "tokens_per_reply": (50.0,),
        }
        recording.add(Point(part="hardware", labels={}, values={"copy_gb_per_s": (20.0,), "matrix_tflops": (1.0,)}))
        recording.add(Point(part="throughput", labels={"strategy": "zero-shot"}, values=whole))
        for batch in (1, 8, 32):
            values = {"prefill_tokens_per_s": (1000.0,), "step_ms": (20.0 + batch,)}
            recording.add(Point(part="batch size", labels={"concurrency": batch}, values=values))
    return recording.result


def test_the_benchmarks_own_dialogues_take_as_long_as_they_took(tmp_path, pipeline):
    record(tmp_path / "one.json", pipeline)
    speed, how = find_speed(pipeline, results=tmp_path)
    assert (speed.prefill, speed.start_seconds) == (1000.0, 30.0)
    assert speed.step == pytest.approx((0.020, 0.001))
    own = Work(prompt_tokens=2000, reply_tokens=500, at_once=10)
    # 2 s of prefill, and 50 steps of 30 ms are 1.5 s: together 3.5 s, where 5 s were measured.
    assert speed.factor == pytest.approx(5 / 3.5)
    assert speed.seconds(own) == pytest.approx(5.0)
    larger = Work(prompt_tokens=4000, reply_tokens=4000, at_once=40)
    assert speed.seconds(larger) == pytest.approx((4 + 100 * 0.060) * 5 / 3.5)
    assert "one.json" in how


def test_a_result_of_the_same_strategy_counts_before_a_newer_one(tmp_path, pipeline):
    record(tmp_path / "staged.json", pipeline, strategy="two-stage")
    record(tmp_path / "newest.json", pipeline, strategy="zero-shot")
    os.utime(tmp_path / "staged.json", (1, 1))
    for strategy, name in (("two-stage", "staged"), ("zero-shot", "newest"), ("few-shot", "newest")):
        assert f"{name}.json" in find_speed(pipeline.vary(strategy), results=tmp_path)[1]


@pytest.mark.parametrize(
    ("changes", "engine_args"),
    [
        ({"weights_sha256": "0" * 64}, {}),
        ({"model": "llama"}, {}),
        ({"engine_args": {"dtype": "float32"}}, {}),
        ({}, {"tensor_parallel_size": 2}),
    ],
    ids=["other weights", "other model", "other type", "more devices"],
)
def test_results_of_another_engine_do_not_count(tmp_path, pipeline, changes, engine_args):
    result = record(tmp_path / "one.json", pipeline, **changes)
    other = Pipeline(RunConfig(model="smollm2", engine_args=engine_args))
    assert not is_of_engine(result, other)
    _, how = find_speed(other, results=tmp_path)
    assert "from the roofline, at 50% of this device's 20.0 GB/s and 1 TFLOP/s" in how, "its peaks hold all the same"


def test_whatever_else_lies_among_the_results_does_not_hide_them(tmp_path, pipeline):
    record(tmp_path / "mine.json", pipeline)
    (tmp_path / "nowhere.json").symlink_to("gone")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "other.json").write_text("[[[")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**32)
    assert [path.name for path, _ in results_in(tmp_path)] == ["mine.json"]


def test_results_of_another_machine_do_not_count(tmp_path, pipeline):
    path = tmp_path / "one.json"
    result = record(path, pipeline)
    path.write_text(result.model_copy(update={"machine": {**result.machine, "cores": "512"}}).model_dump_json())
    speed, how = find_speed(pipeline, results=tmp_path)
    assert (speed, "bench engine" in how) == (None, True)


def test_the_roofline_without_any_result(tmp_path, pipeline):
    (tmp_path / "other.json").write_text("{}")
    peaks = Hardware("CPU", (20.0,), (1.0,), "bfloat16")
    speed, how = find_speed(pipeline, lambda: peaks, tmp_path)
    assert "from the roofline" in how
    one, many = (speed.seconds(Work(0, 1000, batch)) for batch in (1, 100))
    weights = 2 * 134.5e6 / 10e9  # seconds for one reading at half of 20 GB/s
    assert one == pytest.approx(1000 * weights, rel=0.1)
    assert many < one / 10
    assert 0 < speed.seconds(Work(1000, 0, 1)) < 2 * 1000 * 134.5e6 / 0.5e12 * 1.5

    def fails():
        raise LocalempError("no device")

    assert find_speed(pipeline, fails, tmp_path)[1].startswith("unknown: no device")
    assert find_speed(pipeline, None, tmp_path)[0] is None


def test_a_line_never_falls(tmp_path, pipeline):
    path = tmp_path / "one.json"
    result = record(path, pipeline)
    points = [point for point in result.points if point.part != "batch size"]
    for batch, step in ((1, 50.0), (8, 40.0), (32, 30.0)):
        values = {"prefill_tokens_per_s": (1000.0,), "step_ms": (step,)}
        points.append(Point(part="batch size", labels={"concurrency": batch}, values=values))
    path.write_text(result.model_copy(update={"points": points}).model_dump_json(by_alias=True))
    speed, _ = find_speed(pipeline, results=tmp_path)
    assert speed.step == pytest.approx((0.040, 0.0))


@pytest.mark.parametrize(
    ("engine_args", "block", "capacity"),
    [
        ({"kv_cache_memory_bytes": 2**30}, 128, 364),
        ({"kv_cache_memory_bytes": 2**30, "block_size": 32}, 32, 1456),
        ({"num_gpu_blocks_override": 7}, 128, 7),
        ({"enable_prefix_caching": False}, 0, None),
        ({"block_size": "many", "max_num_seqs": -1, "num_gpu_blocks_override": 7}, 128, 7),
    ],
    ids=["memory", "blocks", "override", "off", "nonsense"],
)
def test_rules_of_vllm_on_a_cpu(tmp_path, monkeypatch, engine_args, block, capacity):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # without nvidia-smi there is no GPU
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    rules, how = cache_rules(Pipeline(RunConfig(model="smollm2", engine_args=engine_args)))
    assert (rules.block, rules.capacity, rules.at_once, rules.concurrency) == (block, capacity, 256, 512)
    assert how
