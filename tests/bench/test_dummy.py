"""Models without weights: where their configurations come from, and what is made of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import FakeHub, fill_cache

from localemp.bench.dummy import dummy_config, dummy_notes, shipped_shapes
from localemp.bench.roofline.flops import read_shape
from localemp.dialogue import Message
from localemp.errors import OptionError
from localemp.pipeline.config import RunConfig
from localemp.pipeline.pipeline import Pipeline

LLAMA = json.loads(shipped_shapes()["llama"].read_text("utf-8"))
OTHER = LLAMA | {"num_hidden_layers": 3, "_name_or_path": "somewhere/else"}

# huggingface_hub reads its environment when it is imported, so whatever is about the hub runs in a process of its own.
RUN = """
import sys
from pathlib import Path
from localemp.bench.dummy import dummy_notes, dummy_config
from localemp.bench.roofline.flops import read_shape
from localemp.errors import LocalempError
from localemp.pipeline.config import RunConfig
try:
    run_config = dummy_config(RunConfig(model=sys.argv[1]), Path(sys.argv[2]))
    print(len(read_shape(Path(run_config.model), {}).windows), *dummy_notes(run_config))
except LocalempError as error:
    print(error.message, error.hint)
"""


def with_hub(model: str, folder: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {"HF_HOME": str(folder / "home"), "HF_ENDPOINT": "http://127.0.0.1:1"} | environment
    command = [sys.executable, "-c", RUN, model, str(folder)]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True).stdout


def test_a_file_becomes_a_model_that_prompts_can_be_planned_for(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(OTHER))
    run_config = dummy_config(RunConfig(model=str(tmp_path / "mine.json"), engine_args={"dtype": "bfloat16"}), tmp_path)
    assert run_config.engine_args == {"dtype": "bfloat16", "load_format": "dummy"}
    pipeline = Pipeline(run_config)
    assert pipeline.profile.name == "mine-dummy"
    assert pipeline.context_length == 131_072
    assert pipeline.prompts.layout == "chat"
    assert 1 < max(pipeline.tokenizer.encode([Message("user", "I passed!")])) < OTHER["vocab_size"]
    assert dummy_notes(run_config) == [f"dummy weights: configuration from {tmp_path / 'mine.json'}"]
    shape = read_shape(Path(run_config.model), run_config.engine_args)
    assert shape is not None
    assert len(shape.windows) == 3


def test_a_folder_and_weights_that_are_here_come_first(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(OTHER))
    run_config = dummy_config(RunConfig(model=str(tmp_path)), tmp_path)
    assert dummy_notes(run_config) == [f"dummy weights: configuration from {tmp_path}"]
    run_config = dummy_config(RunConfig(model="smollm2"), tmp_path)
    assert Path(run_config.model).name == "smollm2-dummy"
    assert dummy_notes(RunConfig(model="smollm2")) == []


def test_cache_before_hub_before_what_ships(tmp_path):
    name = "meta-llama/Llama-3.1-8B-Instruct"
    files = {"config.json": json.dumps(OTHER).encode(), "model.safetensors": b"weights"}
    with FakeHub({name: files}).running() as hub:
        for model in ("llama", name):
            told = with_hub(model, tmp_path / model.replace("/", "-"), HF_ENDPOINT=hub.url)
            assert told == f"3 dummy weights: configuration from the Hugging Face hub, {name}\n"
        assert hub.fetched == ["config.json"] * 2
    cached = {"config.json": json.dumps(OTHER | {"num_hidden_layers": 4}).encode()}
    fill_cache(tmp_path / "home", name, cached)
    assert with_hub("llama", tmp_path).startswith("4 ")
    with FakeHub({name: files}, gated=(name,)).running() as hub:
        told = with_hub(name, tmp_path / "gated", HF_ENDPOINT=hub.url)
        assert told == f"32 dummy weights: configuration of {name} as published, which ships with localemp\n"
    told = with_hub("org/unknown", tmp_path)
    assert "no configuration of org/unknown found: the hub could not be reached" in told


def test_a_vocabulary_too_small_for_the_tokenizer_grows_and_it_says_so(tmp_path):
    run_config = dummy_config(RunConfig(model=str(shipped_shapes()["mistral-7b-v0.3"])), tmp_path)
    assert "its vocabulary of 32,768 made 49,152 for the tokenizer of smollm2" in dummy_notes(run_config)[0]
    assert json.loads((Path(run_config.model) / "config.json").read_text())["vocab_size"] == 49_152


def test_a_language_model_is_taken_out_of_one_of_several_modes(tmp_path):
    inner = {key: value for key, value in OTHER.items() if key != "architectures"} | {"model_type": "ministral3"}
    config = {"architectures": ["Mistral3ForConditionalGeneration"], "text_config": inner, "vision_config": {"x": 1}}
    (tmp_path / "both.json").write_text(json.dumps(config))
    run_config = dummy_config(RunConfig(model=str(tmp_path / "both.json")), tmp_path)
    made = json.loads((Path(run_config.model) / "config.json").read_text())
    assert (made["architectures"], "vision_config" in made) == (["MistralForCausalLM"], False)


@pytest.mark.parametrize(
    ("model", "text", "said"),
    [
        ("nothing-like-it", None, "there is no model 'nothing-like-it'"),
        ("gpt-4o", None, "answers on a server"),
        ("broken.json", "{", "no readable configuration"),
        ("other.json", "{}", "names no architectures"),
        ("both.json", '{"architectures": ["X"], "text_config": {"model_type": "x"}}', "inside another"),
    ],
)
def test_what_cannot_be_made_up(tmp_path, model, text, said):
    if text is not None:
        (tmp_path / model).write_text(text)
        model = str(tmp_path / model)
    with pytest.raises(OptionError, match=said) as caught:
        dummy_config(RunConfig(model=model), tmp_path)
    assert "config.json" in caught.value.hint


def test_a_configuration_with_a_wrong_value_is_named_with_its_field(localemp):
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": "x"}
    (localemp.folder / "config.json").write_text(json.dumps(config))
    done = localemp("bench", "engine", "--load-format", "dummy", "--model", "config.json", "--dialogues", 4)
    assert done.returncode == 1
    assert "'hidden_size'" in done.stderr
    assert "Traceback" not in done.stderr
