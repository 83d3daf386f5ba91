"""From a config to objects: what fits which model, and what goes into the manifest."""

import json
import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest

from localemp.data.sources import load_dialogues
from localemp.dialogue import Dialogue
from localemp.errors import OptionError, UnknownNameError
from localemp.pipeline.config import RunConfig, RunSettings
from localemp.pipeline.pipeline import Pipeline
from localemp.strategies.registry import part_options
from localemp.strategies.shots import exemplar_pool
from localemp.utils.paths import resource

HOSTED = RunConfig(model="gpt-4o-mini")


def settings(config):
    return Pipeline(config).settings(load_dialogues("samples"), "test")


def test_a_server_of_ones_own_may_call_its_model_anything():
    profile = Pipeline(RunConfig(model="my/finetune:v2", base_url="http://127.0.0.1:1/v1")).profile
    assert (profile.engine, profile.model) == ("openai", "my/finetune:v2")
    path = Pipeline(RunConfig(model="/data/My Model", base_url="http://127.0.0.1:1/v1")).profile
    assert (path.name, path.model) == ("data/My-Model", "/data/My Model")
    with pytest.raises(OptionError, match="--model is empty"):
        _ = Pipeline(RunConfig(model=" ", base_url="http://127.0.0.1:1/v1")).profile
    known = Pipeline(RunConfig(model="smollm2", base_url="http://127.0.0.1:1/v1")).profile
    assert (known.engine, known.model, known.context_length, known.price) == ("openai", "smollm2", 8192, None)


def test_without_a_server_an_unknown_model_is_an_error():
    with pytest.raises(UnknownNameError):
        _ = Pipeline(RunConfig(model="my-finetune")).profile


def test_the_layout_fits_the_model():
    assert Pipeline(HOSTED).prompts.layout == "chat"
    assert Pipeline(RunConfig(model="davinci-002")).prompts.layout == "transcript"
    assert Pipeline(replace(HOSTED, layout="transcript")).prompts.layout == "transcript"


def test_sampling_is_the_profiles_unless_the_recipe_says_otherwise():
    assert Pipeline(HOSTED).sampling.temperature == 0
    assert Pipeline(replace(HOSTED, seed=7)).sampling.seed is None, "greedy needs no seed"
    warm = Pipeline(replace(HOSTED, seed=7, temperature=0.7, max_tokens=9)).sampling
    assert (warm.temperature, warm.seed, warm.max_tokens) == (0.7, 7, 9)


def test_exemplars_are_complete_dialogues_or_instances_as_the_variant_says(tmp_path):
    lines = [
        {"id": "a1", "turns": ["One."], "reference": "Two.", "conversation": "a"},
        {"id": "a2", "turns": ["One.", "Two.", "Three."], "reference": "Four.", "conversation": "a"},
        {"id": "b1", "turns": ["Five."], "conversation": "b"},
    ]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = replace(HOSTED, strategy="few-shot", pool=str(path), shots=1)
    assert [dialogue.id for dialogue in exemplar_pool(Pipeline(config).context)] == ["a2"]
    assert [dialogue.id for dialogue in exemplar_pool(Pipeline(replace(config, variant="released")).context)] == [
        "a1",
        "a2",
    ]
    path.write_text('{"turns": ["No reply."]}\n')
    with pytest.raises(OptionError, match="no dialogue has a reply"):
        _ = Pipeline(config).strategy


async def test_without_a_file_the_comet_that_ships_with_localemp_infers():
    pipeline = Pipeline(replace(HOSTED, strategy="knowledge", select="all"))
    draft = await pipeline.strategy.draft(load_dialogues("samples")[0])
    assert list(draft.inferences) == ["xIntent", "xNeed", "xWant", "xEffect", "xReact"]
    assert all(draft.inferences.values())
    assert draft.dropped == {}
    described = pipeline.strategy.describe()
    assert (described["comet"], described["decoder_prompt"]) == ("comet-mini", "[{relation}]")


async def test_the_paper_variant_chooses_among_inferences():
    drafts = [
        await Pipeline(replace(HOSTED, strategy="knowledge", select=select)).strategy.draft(
            load_dialogues("samples")[0]
        )
        for select in (None, "all")
    ]
    chosen, everything = (draft.inferences for draft in drafts)
    assert 0 < sum(map(len, chosen.values())) < sum(map(len, everything.values()))
    for relation, texts in everything.items():
        left_out = [one.text for one in drafts[0].dropped.get(relation, ())]
        assert sorted([*chosen.get(relation, ()), *left_out]) == sorted(texts), "each is chosen, or is said why not"


async def test_a_file_that_lacks_a_dialogue():
    samples = Path(__file__).parents[1] / "samples.knowledge.jsonl"
    strategy = Pipeline(replace(HOSTED, strategy="knowledge", knowledge=samples, select="all")).strategy
    with pytest.raises(OptionError, match="no commonsense inferences for dialogue 'stranger'"):
        await strategy.draft(Dialogue("stranger", ("I found a coin in the snow.",)))


@pytest.mark.parametrize(("variant", "event"), [("paper", "I am sad. Why? It's late."), ("released", "it is late .")])
def test_what_comet_is_asked_about_is_the_variants_business(tmp_path, variant, event):
    own = tmp_path / "own.toml"
    own.write_bytes(resource("prompts", f"{variant}.toml").read_bytes())
    config = replace(HOSTED, strategy="knowledge", variant=str(own))
    (part,) = Pipeline(config).strategy.enrichers
    assert part.event(Dialogue("d", ("I am sad.", "Why?", "It's late."))) == event


def test_the_manifest_holds_what_changes_replies_and_leaves_out_what_does_not():
    base = settings(RunConfig(model="smollm2"))
    assert len(base["weights_sha256"]) == len(base["prompt_sha256"]) == len(base["data_sha256"]) == 64
    faster = settings(RunConfig(model="smollm2", engine_args={"max_num_seqs": 4, "tensor_parallel_size": 2}))
    assert faster == base
    other = settings(RunConfig(model="smollm2", engine_args={"dtype": "float32"}))
    assert other["engine_args"] == {"dtype": "float32"}
    assert settings(RunConfig(model="smollm2", variant="released"))["prompt_sha256"] != base["prompt_sha256"]
    assert json.dumps(base)


def test_few_shot_settings_name_the_rows_and_hash_their_texts():
    first = settings(replace(HOSTED, strategy="few-shot", shots=2, seed=1))
    assert len(first["shot_indices"]) == 2
    assert first["shots_chosen_by"] == "sampled with seed 1"
    named = settings(replace(HOSTED, strategy="few-shot", shot_indices=(3, 1)))
    assert (named["shot_indices"], named["shots"]) == ([3, 1], 2)
    assert named["shots_sha256"] != first["shots_sha256"]


def test_engine_arguments_are_for_vllm():
    with pytest.raises(OptionError, match="--engine-arg applies only to vLLM"):
        Pipeline(replace(HOSTED, engine_args={"max_num_seqs": 4})).engine()


def test_a_varied_assembly_shares_what_is_loaded_and_drops_options_of_other_parts(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps({"id": "a", "turns": ["One."], "reference": "Two."}) + "\n")
    base = Pipeline(replace(HOSTED, pool=str(path), shots=1, list_labels=True, comet="comet-mini", select="all"))
    zero, few, knows = (
        base.vary("zero-shot"),
        base.vary("few-shot"),
        base.vary("knowledge+two-stage", given=("emotion",)),
    )
    assert zero.strategy.describe().keys().isdisjoint({"comet", "list_labels"})
    assert exemplar_pool(few.context) is exemplar_pool(base.context)
    told = knows.strategy.describe()
    assert (told["list_labels"], told["given"], told["comet"], told["select"]) == (
        True,
        ["emotion"],
        "comet-mini",
        "all",
    )
    again = base.vary("knowledge", variant="paper").strategy
    assert again.enrichers[0] is knows.strategy.enrichers[0], "both fill the same batches"
    assert base.vary("knowledge", variant="released").strategy.enrichers[0] is not again.enrichers[0]


def test_type_checkers_know_every_setting_of_a_run():
    named = {field.name for field in fields(RunConfig)} | {option.name for option in part_options()}
    assert set(RunSettings.__annotations__) == named


def test_a_config_reads_what_json_makes_of_it_and_says_what_differs():
    config = RunConfig(strategy="two-stage", shot_indices=[3, 1], knowledge="k.jsonl", given=["emotion"], shots=5)
    assert (config.options["shot_indices"], config.options["knowledge"]) == ((3, 1), Path("k.jsonl"))
    assert RunConfig(**config.changed()) == config
    assert config.changed().keys() == {"strategy", "shot_indices", "knowledge", "given"}
    assert pickle.loads(pickle.dumps(config)) == replace(config, shots=5) == config
    with pytest.raises(OptionError, match="--select: Input should be 'relevant', 'on-topic' or 'all'"):
        RunConfig(select="some")
    with pytest.raises(UnknownNameError, match="unknown setting 'shot'"):
        RunConfig(shot=5)
