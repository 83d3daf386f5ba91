"""How flows run: what each stage is asked, when, with what, and what becomes of its answer."""

import asyncio
import gc

import pytest
from patience import patience
from told_engine import ToldEngine, file_flow

from localemp.dialogue import Dialogue
from localemp.engines.base import Completion
from localemp.engines.planner import Planner
from localemp.errors import EngineError, OptionError, PromptTooLongError, StillThinkingError
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.sampling import Sampling
from localemp.strategies.answers import StageError
from localemp.strategies.base import Draft, Exemplar
from localemp.strategies.strategy import Strategy

DOG = Dialogue("dog", ("My dog died.",), emotion="sad", situation="My dog was old.")
TALK = Dialogue("talk", ("I am upset.", "Why?", "My dog died."))
SHOTS = tuple(Exemplar(Dialogue(f"p{i}", (f"Story {i}.",), reference=f"Reply {i}.")) for i in range(3))

SUPPORT = """
[[stages]]
name = "support"
ask = "Which of: {labels}?"
labels = ["Question", "Others"]
"""
BRANCHED = f"""{SUPPORT}
[[stages]]
name = "reply"
[stages.branch.support]
Question = "Ask something."
Others = "Say something kind, and nothing else."
"""
APPRAISAL = """
[[stages]]
name = "appraisal"
ask = "Appraise."
[stages.schema]
type = "object"
properties = { cause = { type = "string" }, pain = { type = "integer" }, needs = { type = "array" } }
[[stages]]
name = "reply"
ask = "{appraisal.cause}|{appraisal.pain}|{appraisal.needs}"
"""
SKIPPED = """
[[stages]]
name = "talks"
ask = "Does the speaker ask?"
labels = ["yes", "no"]
[[stages]]
name = "about"
ask = "About what?"
labels = ["life", "death"]
when = { talks = ["yes"] }
[[stages]]
name = "details"
ask = "Details?"
when = { about = ["death"] }
schema = { type = "object", properties = { why = { type = "string" } } }
[[stages]]
name = "reply"
ask = "{branch}Known: {about}/{details}/{details.why}."
[stages.branch.about]
life = "Life. "
death = "Death. "
"""
QUOTED_OFTEN = f"""
[[stages]]
name = "one"
ask = "First?"
[[stages]]
name = "reply"
ask = "Then {"{one}" * 50}"
"""
AT_ONCE = """
[[stages]]
name = "one"
ask = "First?"
[[stages]]
name = "two"
ask = "Second?"
[[stages]]
name = "three"
ask = "Third?"
[[stages]]
name = "reply"
ask = "{one} {two} {three}"
"""
BEST = """
[[stages]]
name = "reply"
n = 3
sampling = { temperature = 0.8, seed = 5 }
choose = { ask = "Which is best?\\n{candidates}", task = "You judge." }
"""
VOTED = """
[[stages]]
name = "feeling"
ask = "Which of: {labels}?"
labels = ["sad", "glad"]
n = 4
sampling = { temperature = 1.0 }
choose = "vote"
[[stages]]
name = "reply"
ask = "The speaker is {feeling}."
"""


def strategy(stages, layout="chat", sampling=None, system_role=True, seed=0, **changes):
    prompts = Prompts(load_template("paper"), layout, system_role)
    return Strategy("test", prompts, sampling or Sampling(max_tokens=10), (), file_flow(stages, seed=seed), **changes)


async def respond(stages, answers, dialogue=DOG, **changes):
    engine = ToldEngine(answers)
    return await strategy(stages, **changes).respond(dialogue, engine), engine


async def test_a_label_decides_what_is_asked_next():
    response, engine = await respond(BRANCHED, {"Which of: Question, Others?": '{"label": "question"}'})
    assert engine.calls[1].last == "My dog died.\n\nAsk something."
    assert [(stage.name, stage.answer) for stage in response.stages] == [("support", "Question"), ("reply", None)]
    assert '"enum": ["Question", "Others"]' in engine.calls[0].sampling.schema
    assert engine.calls[1].sampling.schema is None


async def test_an_answer_and_the_fields_of_json_are_quoted():
    said = '{"cause": " a loss ", "pain": 3, "needs": ["time", "a hug"]}'
    response, engine = await respond(APPRAISAL, {"Appraise.": said})
    assert engine.calls[1].last.endswith("a loss|3|time, a hug")
    assert response.stages[0].answer == {"cause": " a loss ", "pain": 3, "needs": ["time", "a hug"]}
    _, engine = await respond(APPRAISAL, {"Appraise.": '{"pain": 3.5}'.replace("3.5", "4")})
    assert engine.calls[1].last.endswith("|4|"), "fields that are missing are quoted as nothing"


async def test_braces_in_an_answer_are_no_placeholders():
    _, engine = await respond(AT_ONCE, {"First?": "{two}", "Second?": "{{x}}", "Third?": "{"})
    assert engine.calls[-1].last.endswith("{two} {{x}} {")


@pytest.mark.parametrize(
    ("talks", "about", "names", "asked"),
    [
        ("no", "", ["talks", "reply"], "Known: //."),
        ("yes", "life", ["talks", "about", "reply"], "Life. Known: life//."),
        ("yes", "death", ["talks", "about", "details", "reply"], 'Death. Known: death/{"why": "age"}/age.'),
    ],
    ids=["two-skipped", "one-skipped", "all"],
)
async def test_a_stage_that_does_not_run_is_quoted_as_nothing(talks, about, names, asked):
    answers = {"speaker ask": talks, "About": about, "Details": '{"why": "age"}'}
    response, engine = await respond(SKIPPED, answers)
    assert [stage.name for stage in response.stages] == names
    assert engine.calls[-1].last == f"My dog died.\n\n{asked}"


async def test_an_answer_that_cannot_be_read_fails_its_dialogue_alone():
    flow = strategy(BRANCHED)
    engine = ToldEngine(lambda asked: "Hm." if "Which" in asked.last and "cat" in asked.text else "Question")
    cat = Dialogue("cat", ("My cat died.",))
    failed, response = await asyncio.gather(
        flow.respond(cat, engine), flow.respond(DOG, engine), return_exceptions=True
    )
    assert isinstance(failed, StageError) and "stage 'support'" in str(failed)
    assert response.reply == "Question"


async def test_stages_that_need_nothing_of_one_another_are_in_flight_together():
    flow, engine = strategy(AT_ONCE), ToldEngine({"First?": "1", "Second?": "2", "Third?": "3"}, waits_for=3)
    response = await asyncio.wait_for(flow.respond(DOG, engine), patience())
    assert engine.most_at_once == 3
    assert [stage.name for stage in response.stages] == ["one", "two", "three", "reply"], "as in the file"
    assert engine.calls[-1].last.endswith("1 2 3")


async def test_a_stage_does_not_wait_for_one_that_it_does_not_need():
    stages = """
[[stages]]
name = "slow"
ask = "Slow?"
[[stages]]
name = "fast"
ask = "Fast?"
[[stages]]
name = "next"
ask = "Next after {fast}?"
[[stages]]
name = "reply"
ask = "{slow} {next}"
"""
    released = asyncio.Event()

    def answer(asked):
        if "Next after" in asked.last:
            released.set()
        return released if "Slow?" in asked.last else "quick"

    response = await asyncio.wait_for(strategy(stages).respond(DOG, ToldEngine(answer)), patience())
    assert [stage.name for stage in response.stages] == ["slow", "fast", "next", "reply"]


async def test_the_failure_of_one_stage_ends_the_others(recwarn):
    never = asyncio.Event()
    engine = ToldEngine({"First?": never, "Second?": EngineError("no luck"), "Third?": never}, waits_for=3)
    with pytest.raises(EngineError, match="no luck"):
        await asyncio.wait_for(strategy(AT_ONCE).respond(DOG, engine), patience())
    assert len(engine.cancelled) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_two_failures_at_once_are_one_error_and_nothing_is_left(caplog):
    failures = {"First?": EngineError("a"), "Second?": EngineError("b"), "Third?": EngineError("c")}
    with pytest.raises(EngineError, match=r"^[abc]$"):
        await strategy(AT_ONCE).respond(DOG, ToldEngine(failures, waits_for=3))
    gc.collect()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("stages", [AT_ONCE, BEST], ids=["stages", "candidates"])
async def test_cancelling_a_dialogue_cancels_all_its_calls(stages, caplog):
    engine = ToldEngine(lambda asked: asyncio.Event(), waits_for=3)
    task = asyncio.create_task(strategy(stages).respond(DOG, engine))
    await engine.enough.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(engine.cancelled) == 3
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_stages_own_sampling_comes_before_the_runs():
    stages = """
[[stages]]
name = "thought"
ask = "Think."
sampling = { max_tokens = 99, temperature = 0.5, top_p = 0.9, stop = ["END"], repetition_penalty = 1.1 }
[[stages]]
name = "again"
ask = "Again: {thought}"
sampling = { temperature = 0.5, seed = 7 }
[[stages]]
name = "reply"
ask = "{again}"
"""
    run = Sampling(max_tokens=10, top_p=0.8, stop=("\n",), thinking_budget=5)
    _, engine = await respond(stages, {}, sampling=run, layout="transcript", seed=3)
    first, again, reply = (asked.sampling for asked in engine.calls)
    given = Prompts(load_template("paper"), "transcript").stop
    assert given and reply == Sampling(10, 0.0, 0.8, None, ("\n", *given), thinking_budget=5)
    wanted = Sampling(99, 0.5, 0.9, 3, ("\n", *given, "END"), repetition_penalty=1.1, thinking_budget=5)
    assert (first, again.seed, again.max_tokens) == (wanted, 7, 10)


@pytest.mark.parametrize(
    ("sees", "has", "lacks"),
    [
        ('["task", "dialogue", "exemplars", "knowledge"]', ["empathetic dialogue task", "Story 0", "FOUND", "My dog"],
         []),
        ('["dialogue"]', ["My dog"], ["empathetic dialogue task", "Story 0", "FOUND"]),
        ('["task"]', ["empathetic dialogue task"], ["Story 0", "FOUND", "My dog"]),
        ('["task", "knowledge"]', ["FOUND"], ["Story 0", "My dog"]),
        ('["exemplars"]', ["Story 0"], ["empathetic dialogue task", "FOUND", "My dog"]),
    ],
    ids=["all", "dialogue", "task", "knowledge", "exemplars"],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["chat", "transcript"])
@pytest.mark.parametrize("system_role", [True, False], ids=["system", "no-system"])
async def test_a_stage_sees_what_it_may(sees, has, lacks, layout, system_role):
    stages = f"""
[[stages]]
name = "thought"
ask = "What now?"
sees = {sees}
[[stages]]
name = "reply"
ask = "{{thought}}"
"""
    engine = ToldEngine({})
    draft = Draft(DOG, SHOTS, additions=("FOUND",))
    await strategy(stages, layout, system_role=system_role).respond(draft, engine)
    first = engine.calls[0]
    assert all(text in first.text for text in [*has, "What now?"])
    assert not any(text in first.text for text in lacks)
    assert (first.messages[0].role == "system") == (layout == "chat" and system_role and sees != '["dialogue"]')
    assert "FOUND" in engine.calls[1].text, "the reply sees everything"


@pytest.mark.parametrize("system_role", [True, False], ids=["system", "no-system"])
async def test_a_clients_instruction_joins_a_stages_own_task(system_role):
    stages = """
[[stages]]
name = "thought"
task = "You are a poet."
ask = "Rhyme."
[[stages]]
name = "reply"
ask = "{thought}"
"""
    engine = ToldEngine({})
    await strategy(stages, system_role=system_role).respond(Draft(TALK, instruction="In German."), engine)
    task = "You are a poet.\n\nIn German."
    begin = engine.calls[0].messages[0].content
    assert begin == task if system_role else begin == f"{task}\n\nI am upset."
    assert engine.calls[0].last == "My dog died.\n\nRhyme."
    assert "In German." in engine.calls[1].messages[0].content


async def test_turns_and_cues_of_a_transcript():
    stages = """
[[stages]]
name = "thought"
ask = "Think."
cue = "Thought:"
[[stages]]
name = "reply"
turns = [{ user = "Think." }, { assistant = "{thought}", cue = "Thought:" }, { user = "Now reply." }]
"""
    _, engine = await respond(stages, {"Think.": " It hurts. "}, TALK, layout="transcript")
    assert engine.calls[0].last.endswith("Speaker: My dog died.\n\nThink.\n\nThought:")
    assert engine.calls[1].last.endswith("Think.\n\nThought: It hurts.\n\nNow reply.\n\nListener:")


async def test_a_stage_without_the_dialogue_can_quote_it():
    stages = """
[[stages]]
name = "summary"
task = "You summarise."
sees = ["task"]
ask = "Summarise:\\n{dialogue}"
[[stages]]
name = "reply"
ask = "{summary} {emotion} {situation}"
"""
    _, engine = await respond(stages, {"Summarise": "Sad."})
    assert [message.content for message in engine.calls[0].messages] == [
        "You summarise.", "Summarise:\nSpeaker: My dog died."
    ]  # fmt: skip
    assert engine.calls[1].last.endswith("Sad. sad My dog was old.")
    with pytest.raises(OptionError, match="'talk' has no emotion"):
        await respond(stages, {}, TALK)


async def test_thinking_is_not_quoted_and_not_read():
    thought = Completion("Others", "stop", thinking="Question? No.")
    response, engine = await respond(BRANCHED, {"Which": thought, "kind": Completion("Oh.", "stop", thinking="T")},
                                     keep_thinking=True)  # fmt: skip
    assert response.stages[0].answer == "Others"
    assert response.reply == "<think>\nT\n</think>\n\nOh."
    assert "Question? No." not in engine.calls[1].text


async def test_a_stage_that_only_thinks_is_an_error():
    with pytest.raises(StillThinkingError):
        await respond(AT_ONCE, {"Second?": Completion("", "length", thinking="Hm")})


async def test_exemplars_are_dropped_in_the_stage_that_is_too_long():
    def answer(asked):
        return PromptTooLongError(9, 9, 9) if "Think" in asked.last and "Story 1" in asked.text else "ok"

    stages = """
[[stages]]
name = "thought"
ask = "Think."
[[stages]]
name = "reply"
ask = "{thought}"
"""
    response = await strategy(stages).respond(Draft(DOG, SHOTS), ToldEngine(answer))
    assert [stage.dropped for stage in response.stages] == [2, 0]


async def test_a_judge_chooses_among_candidates():
    said = ["First.", "Second.", "Third."]
    response, engine = await respond(BEST, {"best": "Number 2, because 1 is short.", "dog": said})
    *candidates, judge = engine.calls
    assert [asked.sampling.seed for asked in candidates] == [5, 6, 7]
    assert judge.messages[0].content == "You judge."
    assert judge.last == "My dog died.\n\nWhich is best?\n1. First.\n2. Second.\n3. Third."
    assert judge.sampling.temperature == 0.0 and '"enum": ["1", "2", "3"]' in judge.sampling.schema
    assert response.reply == "Second."
    assert [(stage.name, stage.completion.text, stage.answer) for stage in response.stages] == [
        ("reply.candidate", "First.", None),
        ("reply.candidate", "Third.", None),
        ("reply.choice", "Number 2, because 1 is short.", "2"),
        ("reply", "Second.", None),
    ]


async def test_a_judge_sees_replies_as_they_would_be_sent():
    said = ["Listener: One.", "Two.\nSpeaker: I go on.", "Speaker: I go on."]
    response, engine = await respond(BEST, {"best": "2", "dog": said})
    assert engine.calls[-1].last.endswith("1. One.\n2. Two.")
    assert (response.reply, response.raw) == ("Two.", "Two.\nSpeaker: I go on.")


async def test_a_judge_that_names_none_takes_the_first_and_says_so():
    response, _ = await respond(BEST, {"best": "All of them.", "dog": ["A.", "B.", "C."]})
    assert response.reply == "A."
    assert response.stages[-2].completion.notes == ("it named no candidate: the first is taken",)


async def test_nothing_is_judged_that_is_the_same_or_empty():
    response, engine = await respond(BEST, {"dog": ["A.", "", "A."]})
    assert (response.reply, len(engine.calls)) == ("A.", 3)
    assert [stage.name for stage in response.stages] == ["reply.candidate", "reply.candidate", "reply"]
    response, engine = await respond(BEST, {"best": "2", "dog": ["", "A.", "B."]})
    assert (response.reply, engine.calls[-1].last[-11:]) == ("B.", "1. A.\n2. B."), "only texts have numbers"


async def test_candidates_that_only_thought_are_an_error_if_all_did():
    thought = Completion("", "length", thinking="Hm")
    response, _ = await respond(BEST, {"dog": [thought, thought, "Oh."]})
    assert response.reply == "Oh."
    with pytest.raises(StillThinkingError):
        await respond(BEST, {"dog": [thought, thought, thought]})


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (["sad", "glad", "glad", "sad"], "sad"),
        (["glad", "Sad!", '{"label": "sad"}', "hm"], "sad"),
        (["hm", "hm", "hm", "glad"], "glad"),
    ],
    ids=["a-tie-is-the-first", "most", "no-label-does-not-count"],
)
async def test_a_vote_takes_the_label_of_most(said, answer):
    response, engine = await respond(VOTED, {"Which": list(said)})
    assert engine.calls[-1].last.endswith(f"The speaker is {answer}.")
    assert [stage.name for stage in response.stages] == [*["feeling.candidate"] * 3, "feeling", "reply"]
    assert response.stages[3].answer == answer


async def test_a_vote_without_any_label_is_an_error():
    with pytest.raises(StageError, match="'feeling' answered none"):
        await respond(VOTED, {"Which": ["hm"] * 4})


MEASURED = {"branch": BRANCHED, "when": SKIPPED, "json": APPRAISAL, "at-once": AT_ONCE, "judge": BEST, "vote": VOTED}


@pytest.mark.parametrize("stages", MEASURED.values(), ids=list(MEASURED))
@pytest.mark.parametrize("layout", ["chat", "transcript"])
async def test_a_dry_run_is_at_least_as_long_as_any_other(stages, layout):
    """Every choice of labels, with answers as long as they can be."""

    def words(messages):
        return " ".join(message.content for message in messages).split()

    planner = Planner(words, 10_000)
    asked = strategy(stages, layout)
    dry = await asked.respond(DOG, planner)
    answers = {
        "Question yes life sad": ['{"cause": "a b c d"}', '{"why": "a b c d e f"}'],
        "Others yes death glad": ['{"needs": ["a b c", "d"]}', '{"why": "a b c"}'],
        "Others no life glad": ['{"pain": 1}', "{}"],
    }
    longest, names = 0, set()
    for labels, forms in answers.items():
        engine = ToldEngine(_long_answers(labels, forms))
        response = await asked.respond(DOG, engine)
        names |= {stage.name for stage in response.stages}
        longest = max(longest, *(len(words(each.messages)) + each.sampling.most_tokens for each in engine.calls))
    assert names == {stage.name for stage in dry.stages}
    assert planner.longest >= longest


def _long_answers(labels, forms):
    numbers = iter(range(100))

    def answer(asked):
        schema = asked.sampling.schema or ""
        if "enum" in schema:
            return labels
        if schema:
            return forms["why" in schema]
        return f"one two three four five six seven eight nine {next(numbers)}"

    return answer


async def test_a_prompt_that_grew_out_of_all_bounds_fails_its_dialogue():
    engine = ToldEngine({"First?": "x" * 100_000, "Then": "Never."})
    flow = strategy(QUOTED_OFTEN)
    with pytest.raises(EngineError, match=r"the prompt of stage 'reply' has 5,00\d,\d{3} characters"):
        await flow.respond(DOG, engine)
    assert len(engine.calls) == 1
