"""Strategies against a scripted engine: what is sent, in how many calls, and what is kept."""

import asyncio
import contextlib
import json
import os
from itertools import permutations

import pytest
from stage_prompts import flow_of, prompts_of

from localemp.commonsense.inferences import Beam, EventInferences
from localemp.dialogue import Dialogue
from localemp.engines.base import Completion, Engine
from localemp.engines.planner import MARGIN, Planner
from localemp.engines.scripted import ScriptedEngine
from localemp.errors import EngineError, OptionError, PromptTooLongError, UnknownNameError
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.cleaning import clean_reply
from localemp.strategies.knowledge import Knowledge
from localemp.strategies.registry import PARTS, all_strategies, find_part, parse_strategy
from localemp.strategies.shots import FewShot, choose_shots
from localemp.strategies.strategy import Strategy

DOG = Dialogue("dog", ("My dog died.",), emotion="sad", situation="My dog was old.", conversations=("c-dog",))
POOL = [Dialogue(f"p{i}", (f"Story {i}.",), reference=f"Reply {i}.", conversations=(f"c{i}",)) for i in range(4)]


def strategy(enrichers=(), flow=None, layout="chat"):
    return Strategy("test", Prompts(load_template("paper"), layout), Sampling(max_tokens=10), enrichers, flow)


def script(tmp_path, *entries):
    path = tmp_path / "script.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return ScriptedEngine.from_file(path)


class Narrow(Engine):
    """Holds so many words of prompt; answers with the number of exemplars that it was shown."""

    name = "narrow"

    def __init__(self, words):
        self.words = words

    async def chat(self, messages, sampling):
        text = " ".join(message.content for message in messages)
        if len(text.split()) > self.words:
            raise PromptTooLongError(len(text.split()), sampling.max_tokens, self.words)
        return Completion(str(text.count("\nSpeaker: Story")), "stop")

    def describe(self):
        return {}


async def test_zero_shot_is_one_call(tmp_path):
    engine = script(tmp_path, {"reply": "Listener: I am sorry."})
    response = await strategy().respond(DOG, engine)
    assert (response.reply, response.raw) == ("I am sorry.", "Listener: I am sorry.")
    assert [stage.name for stage in response.stages] == ["reply"]
    assert response.stages[0].messages == tuple(engine.calls[0])


async def test_two_stage_asks_for_the_feeling_then_uses_it(tmp_path):
    engine = script(tmp_path, {"match": "Don't rush", "reply": "The user is sad.", "times": 1}, {"reply": "Poor dog."})
    response = await strategy(flow=flow_of()).respond(DOG, engine)
    assert [stage.name for stage in response.stages] == ["feeling", "reply"]
    assert engine.calls[1][: len(engine.calls[0])] == engine.calls[0]
    assert engine.calls[1][-2].content == "The user is sad."
    assert response.reply == "Poor dog."


@pytest.mark.parametrize(
    ("given", "calls", "thought"),
    [
        (("emotion",), 2, "emotion may be sad. FOUND"),
        (("situation",), 2, "FOUND I think based"),
        (("emotion", "situation"), 1, "situation may be: My dog was old."),
    ],
)
async def test_what_is_given_replaces_what_is_inferred(tmp_path, given, calls, thought):
    engine = script(tmp_path, {"match": "give your response", "reply": "ok"}, {"reply": "FOUND"})
    response = await strategy(flow=flow_of(given=given)).respond(DOG, engine)
    assert len(engine.calls) == calls == len(response.stages)
    assert thought in engine.calls[-1][-2].content


async def test_given_what_the_data_does_not_have_is_an_error_that_names_the_dialogue():
    with pytest.raises(OptionError, match="'bare' has no emotion"):
        await strategy(flow=flow_of(given=["emotion"])).draft(Dialogue("bare", ("Hi.",)))


async def test_few_shot_never_shows_the_dialogues_own_conversation(tmp_path):
    shots = FewShot(POOL, (2, 0), "indices given")
    own = Dialogue("q", ("Story 2 again.",), conversations=("c2",))
    assert [shown.dialogue.id for shown in (await strategy([shots]).draft(DOG)).exemplars] == ["p2", "p0"]
    assert [shown.dialogue.id for shown in (await strategy([shots]).draft(own)).exemplars] == ["p0"]


@pytest.mark.parametrize(("words", "kept"), [(1000, 4), (118, 4), (117, 3), (108, 2), (101, 1)])
async def test_exemplars_are_dropped_last_first_until_the_prompt_fits(words, kept):
    shots = FewShot(POOL, (0, 1, 2, 3), "indices given")
    base = len(" ".join(m.content for m in strategy().prompts.messages(DOG, POOL)).split())
    response = await strategy([shots]).respond(DOG, Narrow(words - 118 + base))
    assert response.reply == str(kept)
    assert response.stages[0].dropped == 4 - kept


async def test_a_dialogue_that_fits_nowhere_is_an_error():
    shots = FewShot(POOL, (0, 1), "indices given")
    with pytest.raises(PromptTooLongError, match="10 tokens do not fit a context of 20"):
        await strategy([shots]).respond(DOG, Narrow(20))


async def test_knowledge_comes_before_the_question(tmp_path):
    class Store:
        def find(self, dialogue):
            return {"xReact": (Beam("sad"),)}

    part = Knowledge(lambda dialogue: dialogue.last_utterance, {}, store=Store())
    engine = script(tmp_path, {"reply": "ok"})
    response = await strategy([part], flow_of()).respond(DOG, engine)
    sent = engine.calls[0][-1].content
    assert sent.startswith("My dog died.\n\nDon't rush to reply, I can provide")
    assert sent.index("x_react: sad") < sent.index("let's think step by step")
    assert response.inferences == {"xReact": ("sad",)}


async def test_what_comet_and_the_choice_cannot_see_is_counted(caplog):
    class Source:
        def infer(self, events):
            return [EventInferences({"xReact": (Beam("sad"),)}, cut=max(0, len(event) - 20)) for event in events]

    part = Knowledge(
        lambda dialogue: dialogue.last_utterance, {}, source=Source(), shorten=lambda texts: [t[-15:] for t in texts]
    )
    asked = strategy([part])
    await asked.draft(DOG)
    assert (asked.notes(), caplog.text) == ({}, "")
    long = Dialogue("long", ("My dog died, and then it rained.",))
    for _ in range(2):
        await asked.draft(long)
    assert asked.notes() == {
        "knowledge events": "knowledge: of 2 of 3 dialogues only the end fits COMET's encoder",
        "knowledge contexts": "knowledge: of 2 of 3 dialogues only the end was compared with inferences",
    }
    assert caplog.text.count("only the end fits COMET's encoder (reported once)") == 1
    assert caplog.text.count("compared with inferences (reported once)") == 1


async def test_no_inferences_and_no_comet_is_an_error_that_says_what_to_give():
    part = Knowledge(lambda dialogue: dialogue.last_utterance, {})
    with pytest.raises(OptionError, match="no commonsense inferences for dialogue 'dog'") as caught:
        await strategy([part]).draft(DOG)
    assert "--comet" in caught.value.hint


async def test_planner_measures_both_stages_with_the_longest_possible_thought():
    planner = Planner(lambda messages: " ".join(m.content for m in messages).split(), 10_000)
    await strategy(flow=flow_of()).respond(DOG, planner)
    first, _ = await asyncio.to_thread(prompts_of, strategy().prompts, DOG)
    words = len(" ".join(m.content for m in first).split())
    reply = len(load_template("paper").two_stage.reply.split())
    assert planner.context_needed == words + 10 + reply + 10 + MARGIN


async def test_planner_never_needs_more_than_the_model_has():
    planner = Planner(lambda messages: range(95), 100)
    with pytest.raises(PromptTooLongError):
        await strategy().respond(DOG, planner)
    planner = Planner(lambda messages: range(90), 100)
    await strategy().respond(DOG, planner)
    assert planner.context_needed == 100


async def test_many_dialogues_at_once_do_not_mix(tmp_path):
    entries = [{"match": f"Story {i}.", "reply": f"answer {i}", "seconds": 0.02 * (4 - i)} for i in range(4)]
    engine = script(tmp_path, *entries)
    responses = await asyncio.gather(*(strategy(flow=flow_of()).respond(d, engine) for d in POOL))
    assert [response.reply for response in responses] == [f"answer {i}" for i in range(4)]


async def test_an_engine_error_is_raised_as_it_is(tmp_path):
    with pytest.raises(EngineError):
        await strategy().respond(DOG, script(tmp_path, {"error": "engine"}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zero-shot", ("zero-shot",)),
        ("two-stage+similar", ("similar", "two-stage")),
        ("two-stage+knowledge+similar", ("similar", "knowledge", "two-stage")),
        ("few-shot+knowledge", ("few-shot", "knowledge")),
    ],
)
def test_names_combine_in_one_order(text, expected):
    assert parse_strategy(text) == expected


@pytest.mark.parametrize("text", ["similar+few-shot", "zero-shot+two-stage", "knowledge+knowledge"])
def test_names_that_exclude_each_other(text):
    with pytest.raises(OptionError, match="exclude"):
        parse_strategy(text)


@pytest.mark.parametrize("text", ["telepathy", "", "similar+", "Similar"])
def test_an_unknown_strategy_lists_the_known_ones(text):
    with pytest.raises(UnknownNameError) as caught:
        parse_strategy(text)
    assert "two-stage" in caught.value.hint


def test_the_list_of_all_strategies_is_complete_and_canonical():
    listed = all_strategies()
    assert all("+".join(parse_strategy(name)) == name for name in listed)
    possible = set()
    offered = [name for name, part in PARTS.items() if part.offered]
    for size in range(1, len(offered) + 1):
        for parts in permutations(offered, size):
            with contextlib.suppress(OptionError):
                possible.add("+".join(parse_strategy("+".join(parts))))
    assert set(listed) == possible
    assert len(listed) == len(possible) == 12
    assert listed[:5] == ("zero-shot", "few-shot", "similar", "knowledge", "two-stage")


def test_shots_are_chosen_by_index_then_by_variant_then_by_seed():
    fixed = load_template("released").exemplars.fixed
    assert choose_shots(40_250, 1, 0, fixed=fixed)[0] == (16974,)
    assert choose_shots(40_250, 5, 0, fixed=fixed)[0] == (19055, 12171, 15109, 9644, 14756)
    assert choose_shots(40_250, 5, 0, given=(1, 2), fixed=fixed)[0] == (1, 2)
    assert choose_shots(100, 5, 0, fixed=fixed) == choose_shots(100, 5, 0)
    assert choose_shots(100, 5, 0)[0] != choose_shots(100, 5, 1)[0]
    assert sorted(choose_shots(4, 4, 7)[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize("shots", [0, 5])
def test_more_shots_than_dialogues_is_an_error(shots):
    with pytest.raises(OptionError, match="4 rows"):
        choose_shots(4, shots, 0)


def test_an_index_outside_the_pool_is_an_error():
    with pytest.raises(OptionError, match="rows 0 to 3"):
        FewShot(POOL, (4,), "indices given")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Oh no.", "Oh no."),
        ("  Listener: Oh no.\n", "Oh no."),
        ("assistant:Oh no.", "Oh no."),
        ("Oh no.\nSpeaker: Yes.\nListener: Why?", "Oh no."),
        ("Oh no.\n\nuser: Yes.", "Oh no."),
        ("Oh no.\nThe speaker: a fine one.", "Oh no.\nThe speaker: a fine one."),
        ("Listener: Listener: twice", "Listener: twice"),
        ("Speaker: I go on", ""),
        ("", ""),
    ],
)
def test_a_reply_is_cleaned(raw, clean):
    assert clean_reply(raw) == clean


def test_a_file_of_the_same_name_and_time_in_another_folder_is_read(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "mine.toml"
        file.write_text(f'about = "folder {name}"\n[[stages]]\nname = "reply"\n')
        os.utime(file, ns=(0, 0))
    abouts = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        abouts.append(find_part("mine.toml").about)
    assert abouts == ["folder one", "folder two"]
