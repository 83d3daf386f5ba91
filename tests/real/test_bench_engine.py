"""`bench engine` and `bench strategies` on the real engine: what they measure hangs together. Each starts vLLM once."""

from pathlib import Path

import pytest

from localemp.bench.engine import measure_engine
from localemp.bench.result import Recording, read_result
from localemp.bench.roofline.hardware import Hardware
from localemp.bench.strategies import Price, measure_strategies
from localemp.data.sources import load_dialogues
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.engine

RECIPE = RunConfig(max_tokens=8, engine_args={"kv_cache_memory_bytes": 2**30})


async def test_engine_and_strategies(tmp_path: Path):
    pipeline, dialogues, said = Pipeline(RECIPE), load_dialogues("samples", limit=4), []
    roofs = Hardware("CPU", copy_gb_per_s=(20.0,), matrix_tflops=(0.5,), dtype="bfloat16")
    with Recording(tmp_path / "engine.json", "engine", "engine", {}) as recording:
        await measure_engine(
            pipeline, dialogues, recording, batch_sizes=[1, 4], repeats=2, tokens=12, hardware=lambda: roofs,
            peer=False, on_progress=said.append,
        )  # fmt: skip
    engine = read_result(tmp_path / "engine.json")
    assert list(engine.parts) == ["hardware", "throughput", "batch size", "roofline"]
    computes = engine.settings["engine"]
    assert (computes["concurrency"], computes["configured"]["enable_prefix_caching"]) == (512, True)
    assert 1 <= computes["threads"] <= engine.settings["usable_cores"]
    throughput = engine.parts["throughput"][0]
    assert throughput.median("tokens_per_reply") <= 8
    assert throughput.values["start_s"] > (1,)
    assert throughput.values["peak_memory_gib"] > (0.5,)
    assert len(engine.series[0].values) == len(engine.series[0].seconds) > 0
    for point, size in zip(engine.parts["batch size"], (1, 4), strict=True):
        assert (point.labels["concurrency"], len(point.values["replies_per_s"])) == (size, 2)
        for replies, tokens in zip(point.values["replies_per_s"], point.values["reply_tokens_per_s"], strict=True):
            assert tokens == pytest.approx(12 * replies), "every text has exactly 12 tokens"
        assert point.values["mfu"] > (0,)
    assert engine.parts["batch size"][0].median("prefix_hits") == 0, "every round begins with an empty cache"
    assert said[-1].task == "batches of 4, repeat 2 of 2"

    similar = pipeline.vary("similar+two-stage", encoder="all-minilm-l6-v2")
    pipelines = [(each.config.strategy, each) for each in (pipeline, similar, pipeline.vary("knowledge"))]
    with Recording(tmp_path / "strategies.json", "strategies", "strategies", {}) as recording:
        await measure_strategies(
            pipelines, dialogues, recording, repeats=1, price=Price(per_hour=3.6), on_progress=said.append
        )
    strategies = read_result(tmp_path / "strategies.json")
    times = {str(point.labels["strategy"]): point.values for point in strategies.parts["time"]}
    costs = {str(point.labels["strategy"]): point.values for point in strategies.parts["strategies"]}
    assert list(times) == list(costs) == ["zero-shot", "similar+two-stage", "knowledge"]
    for name, parts in times.items():
        (whole,) = parts.pop("seconds")
        assert sum(each[0] for each in parts.values()) == pytest.approx(whole)
        assert min(each[0] for each in parts.values()) >= 0
        assert costs[name]["seconds_per_1000"][0] == pytest.approx(250 * whole)
        assert costs[name]["usd_per_1000"][0] == pytest.approx(0.25 * whole)
        assert (parts["encoder_s"][0] > 0) == (name != "zero-shot"), "knowledge chooses by an encoder"
        assert (parts["comet_s"][0] > 0) == (name == "knowledge"), "nothing is remembered"
    assert costs["similar+two-stage"]["prompt_tokens_per_reply"] > costs["zero-shot"]["prompt_tokens_per_reply"]
