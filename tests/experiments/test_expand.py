"""From a plan to rows: grids, names, models, and which setting counts."""

import pytest

from localemp.errors import LocalempError, OptionError, PlanError, UnknownNameError
from localemp.experiments.expand import expand
from localemp.experiments.plan import Plan, read_plan
from localemp.strategies.parts import Part
from localemp.strategies.registry import PARTS, register_part
from localemp.utils.option import Option


def names(*rows, **more):
    return [row.name for row in expand(Plan(rows=rows, **more))]


def test_a_grid_is_the_product_of_its_lists_in_order():
    rows = expand(Plan(rows=[{"strategy": ["few-shot", "similar"], "shots": [1, 2], "variant": "released"}]))
    assert [(row.config.strategy, row.config.shots, row.config.variant) for row in rows] == [
        ("few-shot", 1, "released"),
        ("few-shot", 2, "released"),
        ("similar", 1, "released"),
        ("similar", 2, "released"),
    ]


def test_a_strategy_with_0_exemplars_is_zero_shot_and_there_once():
    grid = {"strategy": ["zero-shot", "few-shot"], "shots": [0, 1, 2, 5, 10]}
    assert names(grid) == ["zero-shot", *(f"few-shot, shots={shots}" for shots in (1, 2, 5, 10))]
    named = {"name": "{strategy}, {shots}-shot", "strategy": ["few-shot", "similar"], "shots": [0, 5]}
    assert names(named) == ["zero-shot, 0-shot", "few-shot, 5-shot", "similar, 5-shot"]
    joined = expand(Plan(rows=[{"strategy": "similar+two-stage", "shots": [0, 1]}]))
    assert [row.config.strategy for row in joined] == ["two-stage", "similar+two-stage"]
    assert expand(Plan(rows=[{"shots": 0}]))[0].config.strategy == "zero-shot"


def test_what_a_strategy_of_a_grid_does_not_have_is_left_out_for_it():
    grid = {"strategy": ["similar", "two-stage"], "given": [[], ["emotion"]]}
    rows = expand(Plan(rows=[grid]))
    assert [(row.config.strategy, row.config.given) for row in rows] == [
        ("similar", ()),
        ("two-stage", ()),
        ("two-stage", ("emotion",)),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"strategy": "zero-shot", "given": ["emotion"]}, "given: it applies to two-stage, but the strategy is zero"),
        ({"strategy": "zero-shot", "shots": 5}, "shots: it applies to few-shot and similar, but"),
        ({"given": ["emotion"]}, "given: it applies to two-stage"),
        ({"strategy": ["zero-shot", "few-shot"], "given": ["emotion"]}, "given: no strategy of this row has it"),
        ({"strategy": "zero-shot", "shots": [1, 2]}, "shots: no strategy of this row has it"),
        ({"strategy": ["zero-shot", "two-stage"], "shots": 5}, "shots: no strategy of this row has it"),
        ({"strategy": "few-shot", "shots": -1}, "shots: -1 is not a number of exemplars"),
        ({"name": "{seed}", "strategy": "few-shot"}, "name: the row does not set 'seed'"),
        ({"name": "{shot}", "shots": 0}, "name: unknown key 'shot'"),
        ({"name": "{shots", "shots": 0}, "name: expected '}' before end of string"),
        ({"name": "a{shots:>9}", "shots": 0}, "name: {shots} must be a plain name, without ! and :"),
        ({"name": "{strategy}", "strategy": "few-shot", "shots": [1, 2]}, "name: 2 rows are called 'few-shot'"),
        ({"name": "{{", "shots": 0}, "a name needs a letter or a digit"),
        ({"strategy": "few-shot", "seed": list(range(1001))}, "its grids make 1,001 rows, which are more than 1,000"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value.split(",")[0][:40],
)
def test_a_row_that_cannot_be_is_refused_by_its_place(row, message):
    with pytest.raises(PlanError) as refused:
        expand(Plan(rows=[row]))
    assert message in refused.value.message


def test_a_huge_product_is_refused_before_it_is_made():
    row = {"strategy": "few-shot"} | {name: list(range(1, 1000)) for name in ("shots", "seed", "max_tokens")}
    with pytest.raises(PlanError, match="make 997,002,999 rows"):
        expand(Plan(rows=[row]))
    with pytest.raises(PlanError, match="600 rows for 2 models are more than 1,000"):
        expand(Plan(rows=[{"seed": list(range(600))}], models=["llama", "qwen"]))


def test_options_that_have_several_values_are_a_grid_as_a_list_of_lists():
    rows = expand(Plan(rows=[{"name": "a", "strategy": "few-shot", "shot_indices": [3, 14]}]))
    assert [row.config.shot_indices for row in rows] == [(3, 14)]
    rows = expand(Plan(rows=[{"strategy": "few-shot", "shot_indices": [[3, 14], [15]]}]))
    assert [(row.name, row.config.shot_indices) for row in rows] == [
        ("few-shot, shot_indices=3+14", (3, 14)),
        ("few-shot, shot_indices=15", (15,)),
    ]


def test_names_are_made_of_settings_where_the_plan_has_none():
    assert names({}) == ["zero-shot"]
    assert names({"strategy": "few-shot", "shots": 2, "temperature": 0.5}) == ["few-shot, shots=2, temperature=0.5"]
    assert names({"name": "mine", "temperature": [0.5, 1.0]}) == ["mine, temperature=0.5", "mine, temperature=1"]
    assert names({"name": "mine", "strategy": ["zero-shot", "two-stage"]}) == ["mine, zero-shot", "mine, two-stage"]
    assert names({"name": "{{{strategy}}}", "strategy": "two-stage"}) == ["{two-stage}"]
    assert names({"name": "{list_labels}", "strategy": "two-stage", "list_labels": [True, False]}) == ["yes", "no"]
    assert names({"name": "a {variant}", "variant": ["paper", "released"]}) == ["a paper", "a released"]


def test_names_are_normalised():
    assert names({"name": " cafe\u0301 "}) == ["caf\u00e9"]


def test_two_rows_may_have_the_same_settings_but_not_the_same_name():
    assert names({"name": "a"}, {"name": "b"}) == ["a", "b"]
    with pytest.raises(PlanError, match=r"row 2 \(a\), name: 2 rows are called 'a'"):
        names({"name": "a"}, {"name": "a", "strategy": "two-stage"})


def test_the_order_of_a_strategys_parts_is_its_own():
    assert expand(Plan(rows=[{"strategy": "two-stage+similar"}]))[0].config.strategy == "similar+two-stage"


def test_rows_are_named_by_model_if_there_are_several():
    models = ["llama", {"model": "Qwen/Qwen2.5-7B-Instruct"}, {"model": "llama", "name": "hot", "temperature": 0.7}]
    rows = expand(Plan(rows=[{"name": "a"}, {"name": "b", "temperature": 0.1}], models=models))
    assert [(row.name, row.row, row.model, row.config.model, row.config.temperature) for row in rows] == [
        ("llama a", "a", "llama", "llama", None),
        ("llama b", "b", "llama", "llama", 0.1),
        ("Qwen2.5-7B-Instruct a", "a", "Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", None),
        ("Qwen2.5-7B-Instruct b", "b", "Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", 0.1),
        ("hot a", "a", "hot", "llama", 0.7),
        ("hot b", "b", "hot", "llama", 0.1),
    ]


def test_models_that_are_given_replace_the_plans_and_keep_their_tables():
    plan = Plan(rows=[{}], models=["llama", {"model": "qwen", "temperature": 0.7}, {"model": "gpt-4", "name": "big"}])
    rows = expand(plan, ["qwen", "mistral", "big"])
    assert [(row.model, row.config.model, row.config.temperature) for row in rows] == [
        ("qwen", "qwen", 0.7),
        ("mistral", "mistral", None),
        ("big", "gpt-4", None),
    ]
    assert expand(plan, "qwen")[0].name == "zero-shot"
    assert expand(plan, {"model": "qwen", "seed": 1})[0].config.seed == 1
    with pytest.raises(UnknownNameError, match="unknown model 'nix'"):
        expand(plan, "nix")
    with pytest.raises(PlanError, match="--model: two models are called 'llama'"):
        expand(plan, ["llama", "llama"])
    with pytest.raises(PlanError, match="unknown key 'sed'"):
        expand(plan, {"model": "qwen", "sed": 1})
    assert expand(Plan(rows=[{}]))[0].config.model == "smollm2"
    served = expand(Plan(rows=[{}], models=[{"model": "anything", "base_url": "http://localhost:1/v1"}]))
    assert served[0].config.base_url == "http://localhost:1/v1"


def test_a_row_counts_first_then_command_line_model_and_defaults():
    plan = Plan(
        defaults={"max_tokens": 1, "temperature": 0.1, "top_p": 0.1, "layout": "chat"},
        models=[{"model": "llama", "max_tokens": 2, "temperature": 0.2, "top_p": 0.2}],
        rows=[{"name": "a", "max_tokens": 4}, {"name": "b"}],
    )
    row, other = expand(plan, settings={"max_tokens": 3, "temperature": 0.3})
    config = row.config
    assert (config.max_tokens, config.temperature, config.top_p, config.layout) == (4, 0.3, 0.2, "chat")
    assert (config.seed, other.config.max_tokens) == (0, 3)


def test_engine_arguments_are_joined():
    plan = Plan(
        defaults={"engine_args": {"a": 1, "b": 1}}, models=[{"model": "llama", "engine_args": {"b": 2}}], rows=[{}]
    )
    assert expand(plan, settings={"engine_args": {"c": 3}})[0].config.engine_args == {"a": 1, "b": 2, "c": 3}


def test_data_split_and_limit_are_the_plans_unless_they_are_given():
    plan = Plan(rows=[{}], data="bundled", split="valid", limit=5)
    (row,) = expand(plan)
    assert (row.config.data, row.split, row.subset.limit) == ("bundled", "valid", 5)
    (row,) = expand(plan, data="samples", split="test", limit=1)
    assert (row.config.data, row.split, row.subset.limit) == ("samples", "test", 1)
    (row,) = expand(Plan(rows=[{}]))
    assert (row.config.data, row.split, row.subset.limit) == ("samples", "test", None)


def test_an_option_of_the_command_line_reaches_the_rows_whose_strategy_has_it():
    rows = expand(read_plan("paper"), settings={"comet": "comet-bart", "encoder": "all-minilm-l6-v2"})
    assert [row.name for row in rows if row.config.comet == "comet-bart"] == ["knowledge"]
    assert [row.name for row in rows if row.config.encoder == "all-minilm-l6-v2"] == ["similar"]
    with pytest.raises(OptionError, match="--shots changes no row of paper"):
        expand(read_plan("paper"), settings={"shots": 3})
    with pytest.raises(OptionError, match="--strategy changes no row of paper"):
        expand(read_plan("paper"), settings={"strategy": "similar"})
    with pytest.raises(OptionError, match="--comet changes no row of smoke"):
        expand(read_plan("smoke"), settings={"comet": "comet-bart"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shot": 1}, "unknown setting 'shot'"),
        ({"temperature": -1}, "--temperature -1: too small"),
        ({"seed": "1"}, "settings, seed: Input should be a valid integer"),
        ({"strategy": "zero"}, "unknown strategy 'zero'"),
        ({"model": "llama"}, "'model' is not a setting of all rows"),
        ({"data": "samples"}, "'data' is not a setting of all rows"),
        ({"variant": "papper"}, "unknown prompt variant 'papper'"),
        ({"options": {"shot": 1}}, "unknown setting 'shot'"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_a_wrong_setting_of_the_command_line_is_refused(settings, message):
    with pytest.raises(LocalempError) as refused:
        expand(Plan(rows=[{}]), settings=settings)
    assert refused.value.message.startswith(message)


def test_an_option_of_a_part_from_outside_is_a_setting_of_plans():
    loudness = Option(name="loudness", type=int, default=1)
    register_part("loud", Part(about="", place="loud", options=(loudness,), make=lambda _: None))
    try:
        rows = expand(Plan(rows=[{"strategy": "loud", "loudness": [1, 2]}]))
        assert [row.config.loudness for row in rows] == [1, 2]
        with pytest.raises(PlanError, match="loudness: it applies to loud, but the strategy is similar"):
            expand(Plan(rows=[{"strategy": "similar", "loudness": 1}]))
    finally:
        del PARTS["loud"]


def test_engine_arguments_of_all_rows_are_for_the_models_that_run_here():
    hosted = {"model": "gpt-4o-mini", "name": "hosted"}
    plan = Plan(defaults={"engine_args": {"a": 1}}, models=["llama", hosted], rows=[{}])
    rows = expand(plan, settings={"engine_args": {"b": 2}})
    assert [row.config.engine_args for row in rows] == [{"a": 1, "b": 2}, {}]
    plan = Plan(models=["llama", {**hosted, "engine_args": {"c": 3}}], rows=[{}])
    assert expand(plan)[1].config.engine_args == {"c": 3}, "what is said of the model itself is refused later"
    plan = Plan(models=[hosted], rows=[{}])
    assert expand(plan, settings={"engine_args": {"b": 2}})[0].config.engine_args == {"b": 2}, "likewise"
