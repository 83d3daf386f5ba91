"""`bench engine` and `bench strategies` as far as they need no started engine; tests/real has the rest."""

import os
from dataclasses import replace

import psutil
import pytest
from processes import command_line
from whole_flow import write_flow

from localemp.bench.offline import Batch, Replay, Workload, look_up
from localemp.bench.peers.vllm_throughput import prompt_text, run_throughput
from localemp.bench.roofline.flops import ModelShape
from localemp.bench.roofline.hardware import Hardware
from localemp.bench.roofline.roofline import Roofline, Work, unlike_threads
from localemp.bench.strategies import merge_engine_seconds, own_seconds, split_seconds
from localemp.bench.strategy_spec import parse_specs
from localemp.cli.bench.strategies import DEFAULT
from localemp.data.sources import load_dialogues
from localemp.dialogue import Message
from localemp.engines.base import Completion
from localemp.engines.scripted import ScriptedEngine
from localemp.engines.tokens import PromptTokenizer
from localemp.engines.vllm.process import known_cause
from localemp.errors import EngineError, OptionError, UnknownNameError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.generate import answer_all
from localemp.pipeline.pipeline import Pipeline
from localemp.runs.run import Run, read_records
from localemp.sampling import Sampling

CONFIG = {
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "intermediate_size": 16, "vocab_size": 32,
}  # fmt: skip


def test_strategies_are_chosen_by_name_and_number_of_exemplars():
    chosen = parse_specs("zero-shot, few-shot:1,two-stage+similar:3,similar")
    assert [(each.strategy, each.shots) for each in chosen] == [
        ("zero-shot", None), ("few-shot", 1), ("similar+two-stage", 3), ("similar", None),
    ]  # fmt: skip
    assert [each.name for each in chosen] == ["zero-shot", "few-shot:1", "similar:3+two-stage", "similar"]
    assert [each.name for each in parse_specs(DEFAULT)] == DEFAULT.split(",")


def test_flows_are_files_and_called_by_their_stems(tmp_path):
    write_flow(tmp_path)
    chosen = parse_specs(f"zero-shot,{tmp_path / 'mine.toml'},similar:2+{tmp_path / 'mine.toml'}")
    assert [each.name for each in chosen] == ["zero-shot", "mine", "similar:2+mine"]
    assert chosen[2].strategy == f"similar+{tmp_path / 'mine.toml'}"
    (tmp_path / "b").mkdir()
    write_flow(tmp_path / "b")
    with pytest.raises(OptionError, match="mine is there twice"):
        parse_specs(f"{tmp_path / 'mine.toml'},{tmp_path / 'b' / 'mine.toml'}")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("zero-shot,warm", UnknownNameError, "unknown strategy 'warm'"),
        ("few-shot:0", OptionError, "'0' is not a number of exemplars"),
        ("few-shot:", OptionError, "'' is not a number of exemplars"),
        ("two-stage:2", OptionError, "two-stage shows no exemplars"),
        ("few-shot+similar", OptionError, "exclude each other"),
        ("similar:2,similar:2", OptionError, "similar:2 is there twice"),
        (" , ", OptionError, "none is named"),
    ],
)
def test_strategies_that_cannot_be_chosen(text, error, said):
    with pytest.raises(error, match=said):
        parse_specs(text)


@pytest.fixture
def scripted(tmp_path):
    """A two-stage pipeline and an engine that answers it."""
    script = tmp_path / "script.jsonl"
    script.write_text('{"reply": ["They feel sad.", "I am sorry."]}\n')
    return Pipeline(RunConfig(script=script, strategy="two-stage")), ScriptedEngine.from_file(script)


async def test_own_code_repeats_a_batch_without_its_engine(scripted, tmp_path):
    pipeline, engine = scripted
    engine.concurrency = 2
    workload = await look_up(pipeline, load_dialogues("samples", limit=3))
    with Run.open(tmp_path / "run", {}) as run:
        tally = await answer_all(pipeline.strategy, workload.drafts, engine, run)
    batch = Batch(tally, 0, read_records(tmp_path / "run"))
    first, second = batch.prompts[:3], batch.prompts[3:]
    assert sorted(map(str, batch.prompts)) == sorted(str(list(call)) for call in engine.calls)
    assert [len(prompt) + 2 for prompt in first] == [len(prompt) for prompt in second], "second stages come last"
    calls = len(engine.calls)
    assert 0 < await own_seconds(workload, batch) < 1
    assert len(engine.calls) == calls == 6


def test_the_parts_of_the_time_add_up_and_none_is_below_zero(scripted):
    workload = Workload(scripted[0], [], 100, seconds=3.0, encoder_seconds=1.0, comet_seconds=1.5)
    parts, note = split_seconds(workload, answering=10.0, prefill=2.0, own=0.25)
    assert parts == {
        "seconds": 13.0, "encoder_s": 1.0, "comet_s": 1.5, "prefill_s": 2.0, "decode_s": 7.75, "own_s": 0.75,
    }  # fmt: skip
    assert note == ""
    both = replace(workload, comet_seconds=5.0)
    parts, note = split_seconds(both, answering=10.0, prefill=10.5, own=0.5)
    assert parts["decode_s"] == -1.0, "one token each took longer than the whole: nobody can tell the two apart"
    parts = merge_engine_seconds(parts)
    assert parts.pop("seconds") == pytest.approx(sum(parts.values())) == 13.0
    assert min(parts.values()) >= 0
    assert (parts["comet_s"], parts["engine_s"]) == (pytest.approx(2.5), 9.5)
    assert {"prefill_s", "decode_s"}.isdisjoint(parts)
    assert "at the same time for 3.00 s" in note


def test_the_roofline_counts_what_was_computed():
    shape = ModelShape.from_config(CONFIG)
    assert shape.matrices == 2 * (2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 16)
    roofline = Roofline(shape, bytes_per_s=1e6, flops_per_s=1e9, devices=2, note="")
    answers = [Completion("", "length", prompt_tokens=prompt, cached_tokens=4) for prompt in (10, 20)]
    work = roofline.prefill([Replay(answers, 0.5)])
    assert work is not None
    attention = 4 * 2 * 8 * sum((prompt - 4) * (prompt + 5) / 2 for prompt in (10, 20))
    assert work.operations == 22 * 2 * shape.matrices + 2 * 2 * 32 * 8 + attention
    assert roofline.mfu(work) == {"mfu": work.operations / 0.5 / 2e9}
    step = roofline.decode(3, 20.0, 0.01)
    assert step is not None
    assert step.bytes == shape.bytes_per_step(3, 20.0)
    assert roofline.mbu(step) == {"mbu": step.bytes / 0.01 / 2e6}
    assert roofline.place(Work(8e12, 2e12, 2.0)) == {"flops_per_byte": 4.0, "tflops": 2.0}


def test_every_replica_reads_the_weights():
    shape = ModelShape.from_config(CONFIG)
    one, two = (Roofline(shape, 1e6, 1e9, 2, "", replicas=replicas).decode(4, 20.0, 0.01) for replicas in (1, 2))
    assert one is not None and two is not None
    assert two.bytes - one.bytes == shape.bytes_per_step(1, 0)
    assert two.operations == one.operations


def test_the_range_of_a_roof_is_that_of_the_share_under_it():
    measured = Hardware("CPU", (20.0, 25.0, 40.0), (1.0, 1.0, 1.0), "bfloat16", {"threads": 2})
    roofline = Roofline(None, 25e9, 1e12, 1, "", measured)
    (said,) = roofline.between([{"mbu": 0.4, "mfu": 0.5}, {"mbu": 0.48, "mfu": 0.5}])
    assert said == "the peak was measured from 20 to 40 GB/s, so MBU is between 25.0% and 60.0%"
    assert roofline.between([{}]) == []
    assert unlike_threads(measured, 2) == unlike_threads(measured, None) == unlike_threads(None, 2) == []
    assert "with 2 threads, the engine computes with 1" in unlike_threads(measured, 1)[0]


def test_without_a_roof_its_note_says_why(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    unknown = Roofline.of(tmp_path, {"speculative_config": {}}, None)
    assert "mamba" in unknown.note
    assert "was not measured" in unknown.note
    assert unknown.mfu(unknown.prefill([])) == unknown.mbu(Work(1, 1, 1)) == {}
    known = Roofline.of(
        tmp_path, {"speculative_config": {"method": "ngram"}}, Hardware("CPU", (10, 30), (1,), "float32")
    )
    assert (known.bytes_per_s, known.flops_per_s, known.devices) == (20e9, 1e12, 1)
    assert "speculative decoding" in known.note


@pytest.mark.parametrize("template", ["<s>{{ messages[0].content }}", "{{ messages[0].content }}", None])
def test_vllm_makes_the_same_tokens_of_a_prompts_text(tmp_path, template):
    """It adds a beginning by itself; what the chat template wrote must not come twice."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<s>": 0, "?": 1, "hello": 2, "you": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="?")
    fast.chat_template = template
    fast.save_pretrained(tmp_path)
    tokenizer = PromptTokenizer(tmp_path)
    messages = [Message("user", "hello you")]
    text = prompt_text(tokenizer, messages)
    as_vllm = tokenizer.tokenizer(text)["input_ids"]
    assert as_vllm == [0, 2, 3]
    assert (as_vllm == tokenizer.encode(messages)) == (template != "{{ messages[0].content }}")


async def test_vllms_benchmark_is_ended_when_it_takes_too_long(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCALEMP_CACHE", str(tmp_path))
    with pytest.raises(EngineError, match="took longer than 1 s") as caught:
        await run_throughput(tmp_path, ["hello"], 4, engine_args={}, sampling=Sampling(), limit=1)
    assert str(tmp_path) in caught.value.hint
    running = [command_line(process) for process in psutil.Process(os.getpid()).children(recursive=True)]
    assert not [words for words in running if any("vllm.benchmarks" in word for word in words)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("strategies", "--price-per-hour", "cheap"), "'cheap' is not a price"),
        (("strategies", "--price-per-hour", "-1"), "-1 is not a price"),
        (("strategies", "--price-prompt", "1"), "give --price-prompt and --price-reply"),
        (("engine", "--batch-sizes", "4,none"), "'none' is not a whole number above 0"),
        (("engine", "--batch-sizes", "1,16", "--dialogues", 4), "--batch-sizes 16: a batch needs as many dialogues"),
        (("engine", "--strategy", "none"), "unknown strategy 'none'"),
        (("engine", "--model", "llama-70b"), "add --load-format dummy"),
        (("strategies", "--strategies", "few-shot:x"), "'x' is not a number of exemplars"),
        (("strategies", "--out", "file/x/r.json"), "it is not a folder"),
        (("engine", "--engine-arg", "device=cuda"), "vLLM takes no device, it chooses"),
    ],
)
def test_mistakes_are_told_before_anything_starts(localemp, words, said):
    (localemp.folder / "file").touch()
    done = localemp("bench", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_build_without_its_gpu_is_told_apart():
    said = "RuntimeError: Failed to infer device type, please set the environment variable"
    known = known_cause(said, lambda name: f"--{name}")
    assert known is not None
    assert "no usable GPU" in known[0]
    assert "CPU build" in known[1]


def test_a_gpu_that_others_use_is_told_in_numbers():
    said = (
        "ValueError: Free memory on device cuda:0 (61.5/79.19 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 72.85 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
    )
    told, hint = known_cause(said, lambda name: f"--{name}") or ("", "")
    assert told == "not enough GPU memory: 72.85 GiB requested (a share of 0.92), 61.5 of 79.19 GiB free"
    assert "--gpu_memory_utilization" in hint


@pytest.mark.skipif(psutil.virtual_memory().total > 100 * 2**30, reason="a model of 70B fits this machine")
def test_too_little_memory_says_how_much_is_missing(localemp):
    words = ("--load-format", "dummy", "--model", "llama-70b", "--dialogues", 4, "--reply-tokens", 8)
    done = localemp("bench", "engine", *words)
    assert done.returncode == 2
    assert "not enough memory: 131.4 GiB of weights" in done.stderr, done.stderr
    assert "are missing" in done.stderr
    assert "hardware" not in done.stdout, "nothing is measured in vain"
