import hashlib
import json
import re
from dataclasses import asdict, replace

import pytest
from repository import REPOSITORY
from stage_prompts import prompts_of

from localemp.dialogue import Dialogue, Message
from localemp.errors import PromptError, UnknownNameError
from localemp.prompting.render import Prompts
from localemp.prompting.template import load_template
from localemp.utils.paths import resource

DOG = Dialogue("q", ("My dog died.", "Oh no. What happened?", "He was old."))
CAKE = Dialogue("a", ("I baked a cake.",), reference="What kind?")
CAR = Dialogue("b", ("My car broke.", "Again?", "Yes."), reference="What a pain.")


KNOWN = replace(DOG, emotion="sad", situation="a dog")


def question(prompts, given=(), labels=None):
    """Return what stage 1 of two-stage asks."""
    first, *_ = prompts_of(prompts, KNOWN, given=given, list_labels=labels)
    return first[-1].content.removeprefix(f"{KNOWN.last_utterance}\n\n")


def thought(given):
    """Return what stage 2 of two-stage takes as the answer of stage 1."""
    *_, last = prompts_of(paper(), KNOWN, answer=" He is sad.\n", given=given)
    return last[-2].content


def paper(layout="chat", **options):
    return Prompts(load_template("paper"), layout, **options)


def released(layout="chat"):
    return Prompts(load_template("released"), layout)


def test_chat_layout_is_the_task_then_the_turns():
    messages = paper().messages(DOG)
    task = load_template("paper").task
    assert messages == [
        Message("system", f"{task.definition}\n{task.guideline}"),
        Message("user", "My dog died."),
        Message("assistant", "Oh no. What happened?"),
        Message("user", "He was old."),
    ]


def test_exemplars_follow_the_task_so_that_the_prefix_is_shared():
    shared = paper().messages(DOG, [CAKE, CAR])[0].content
    assert shared == paper().messages(CAKE, [CAKE, CAR])[0].content
    assert shared.endswith(
        "The following is the existing dialogue context:\n\n"
        "Instance 1:\nSpeaker: I baked a cake.\nListener: What kind?\n\n"
        "Instance 2:\nSpeaker: My car broke.\nListener: Again?\nSpeaker: Yes.\nListener: What a pain."
    )


def test_one_exemplar_is_instance_1_in_the_paper_and_has_a_heading_in_the_scripts():
    (task, *_), (scripts, *_) = paper().messages(DOG, [CAKE]), released().messages(DOG, [CAKE])
    assert "The following is the existing dialogue context:\n\nInstance 1:\nSpeaker: I baked" in task.content
    assert "The following is an instance:\n\nInstance:\nassistant: I baked" in scripts.content


def test_transcript_layout_is_one_text_that_ends_where_the_listener_speaks():
    (message,) = paper("transcript").messages(DOG, [CAKE])
    dialogue = "Speaker: My dog died.\nListener: Oh no. What happened?\nSpeaker: He was old.\nListener:"
    assert message.role == "user"
    assert message.content.endswith(f"Listener: What kind?\n\n{dialogue}")
    assert message.content.count("The following is the existing dialogue context:") == 1, "before the exemplars"
    (alone,) = paper("transcript").messages(DOG)
    assert alone.content.endswith(f"of Listener.\n\nThe following is the existing dialogue context:\n\n{dialogue}")


def test_transcript_of_two_stages_asks_then_continues():
    (first,), (second,) = prompts_of(paper("transcript"), DOG)
    assert first.content.endswith("when he feels this way?\n\nAnswer:")
    assert second.content.startswith(first.content), "stage 2 must reuse stage 1's prefix"
    assert second.content.endswith(
        " He is sad.\n\n"
        "Now combine your thoughts with the existing dialogue context and give your response.\n\nListener:"
    )


def test_chat_of_two_stages_keeps_stage_one_as_prefix():
    first, second = prompts_of(paper(), DOG, additions=["KNOWLEDGE"])
    assert first[-1].content.startswith("He was old.\n\nKNOWLEDGE\n\nDon't rush to reply yet")
    assert second[: len(first)] == first
    assert [message.role for message in second[len(first) :]] == ["assistant", "user"]


def test_without_a_system_role_the_task_opens_the_first_user_turn():
    messages = paper(system_role=False).messages(DOG)
    assert [message.role for message in messages] == ["user", "assistant", "user"]
    assert messages[0].content.startswith("This is an empathetic dialogue task")
    assert messages[0].content.endswith("\n\nMy dog died.")


def test_released_swaps_roles_inside_exemplars_and_joins_as_the_scripts_do():
    system = released().messages(DOG, [CAKE, CAR])[0].content
    assert "as much as possible.Now you play" in system
    assert system.endswith(
        "The following is some instances:\n\nInstance 1:\nassistant: I baked a cake.\nuser: What kind?\n"
        "Instance 2:\nassistant: My car broke.\nuser: Again?\nassistant: Yes.\nuser: What a pain.\n"
    )
    assert "as much as possible.  Now you play" in released().messages(DOG)[0].content
    (text,) = released("transcript").messages(DOG, [CAKE])
    assert "Listener: I baked a cake.\nSpeaker: What kind?\n\nThe following is the existing context:" in text.content


@pytest.mark.parametrize(
    ("given", "labels", "expected"),
    [
        ((), None, "Based on the existing dialogue, what may be the user's emotion, and according to his description"),
        ((), True, "the user's emotion (One of these 32 emotions (guilty, caring, "),
        (("situation",), None, "what may be the user's emotion?"),
        (("emotion",), True, "according to the user's description, what may be the situation"),
    ],
)
def test_question_asks_for_what_is_not_given(given, labels, expected):
    assert expected in question(paper(), given, labels)


@pytest.mark.parametrize("given", [(), ("emotion",), ("situation",)])
def test_the_papers_questions_and_the_scripts_differ_in_what_they_call_the_dialogue(given):
    scripts = question(released(), given, labels=False)
    assert question(paper(), given).replace("the existing dialogue", "the above conversation") == scripts


def test_no_question_when_all_is_given():
    (only,) = prompts_of(paper(), KNOWN, given=("emotion", "situation"))
    assert [message.role for message in only[-3:]] == ["user", "assistant", "user"]
    assert only[-3].content == KNOWN.last_utterance


def test_released_lists_the_labels_unless_told_otherwise():
    assert "prepared, afraid).)" in question(released())
    assert "(" not in question(released(), labels=False)


def test_thought_puts_what_is_given_in_the_place_of_what_was_inferred():
    assert thought(()) == "He is sad."
    both = thought(("emotion", "situation"))
    assert both.startswith(
        "I think based on the above conversation, it is predicted that the user's emotion may be sad."
    )
    assert both.endswith("situation may be: a dog")
    assert thought(("emotion",)).endswith("may be sad. He is sad.")
    assert thought(("situation",)).startswith("He is sad. I think based on")


def test_knowledge_block_names_relations_in_order_and_leaves_out_empty_ones():
    text = paper().knowledge({"xReact": ("sad", "lonely"), "xIntent": ("to mourn",), "xNeed": ()})
    assert text.endswith("x_intent: to mourn\nx_react: sad, lonely")
    assert "x_need:" not in text
    assert text.count("represents") == 5
    assert released().knowledge({"xReact": ("sad",)}).endswith("\nx_react:sad\n")
    assert paper().knowledge({}) is None
    assert paper().knowledge({"xWant": ()}) is None


def write_variant(tmp_path, change):
    text = resource("prompts", "paper.toml").read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(change(text), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda text: text.replace("[task]", "[task]\ntone = 'warm'"), ["task.tone", "unknown key"]),
        (lambda text: text.replace('cue = "Listener:"\n', ""), ["context.cue", "missing key"]),
        (lambda text: text.replace("emotion may be {emotion}.", "emotion may be."), ["given_emotion", "{emotion}"]),
        (lambda text: text.replace("Instance {number}:", "Instance {count}:"), ["title_many", "{number}"]),
        (lambda text: text.replace('unit = "dialogue"', 'unit = "book"'), ["exemplars.unit"]),
        (lambda text: text.replace('keep = "relevant"', 'keep = "best"'), ["knowledge.select.keep"]),
        (lambda text: text.replace("max_per_relation = 3", "max_per_relation = 0"), ["select.max_per_relation"]),
        (lambda text: text.replace(", other = ", ", xMood = "), ["knowledge.select.min_score", "xMood"]),
        (lambda text: text + "[[", ["not valid TOML"]),
    ],
)
def test_a_broken_prompt_file_is_an_error_by_name(tmp_path, change, names):
    with pytest.raises(PromptError) as caught:
        load_template(write_variant(tmp_path, change))
    assert all(name in caught.value.message for name in [*names, "mine.toml"])


def test_a_prompt_file_of_ones_own_works_and_has_another_hash(tmp_path):
    mine = load_template(write_variant(tmp_path, lambda text: text.replace("You only need", "You must only")))
    assert "You must only" in Prompts(mine).messages(DOG)[0].content
    assert mine.sha256 != load_template("paper").sha256


def test_unknown_variant_lists_the_known_ones():
    with pytest.raises(UnknownNameError) as caught:
        load_template("nope")
    assert caught.value.known == ("paper", "released")


def test_what_is_described_goes_into_a_manifest():
    assert json.dumps(paper("transcript").describe())
    assert paper("transcript").stop == ("\nSpeaker:",)
    assert paper().stop == ()


# Where the comment above a line of prompts/paper.toml says that it comes from.
SOURCES = ("Table 7", "section ", "not the paper's: ")


def commented_lines():
    """Key, text and the comment that holds for it, of every line of prompts/paper.toml that has a value."""
    comment, above = "", False
    for line in resource("prompts", "paper.toml").read_text("utf-8").splitlines():
        if line.startswith("#"):
            comment, above = f"{comment} {line[2:]}" if above else line[2:], True
            continue
        above = False
        if line.startswith("["):
            comment = ""
        elif line:
            key, _, text = line.partition(" = ")
            yield key, text, comment


def test_every_line_of_the_paper_variant_has_its_place_in_the_paper_or_a_reason():
    lines = list(commented_lines())
    assert len(lines) > 40
    assert [key for key, _, comment in lines if not comment.startswith(SOURCES)] == []
    assert all(len(comment) > 30 for *_, comment in lines if comment.startswith(SOURCES[2])), "a reason"


def test_what_is_said_to_be_the_papers_is_in_the_paper():
    path = REPOSITORY.parent / "shared" / "paper" / "paper.txt"
    if not path.exists():
        pytest.skip(f"the paper is not here: {path} (put its text there to compare with it)")
    printed = " ".join(path.read_text("utf-8").split())
    checked = []
    for key, text, comment in commented_lines():
        if comment.startswith(SOURCES[:2]) and text.startswith('"') and key not in ("unit", "similarity", "event"):
            asked = json.loads(text).replace("{labels}", "").replace("{number}", "1")
            assert " ".join(asked.split()) in printed, key
            checked.append(key)
    assert checked == [
        "definition", "guideline", "joint", "joint_before_exemplars", "heading_one", "heading_many", "title_one",
        "title_many", "heading", "heading_after_exemplars", "ask_both", "reply",
    ]  # fmt: skip


def every_prompt(variant):
    """Prompts of all strategies, in both layouts, with no, one and two exemplars."""
    for layout in ("chat", "transcript"):
        prompts = Prompts(load_template(variant), layout)
        known = prompts.knowledge({"xReact": ("sad", "lonely"), "xIntent": ("to mourn",)})
        for exemplars in ((), (CAKE,), (CAKE, CAR)):
            yield prompts.messages(DOG, exemplars)
            yield prompts.messages(DOG, exemplars, [known])
            for given in ((), ("emotion",), ("situation",)):
                for added in ((), (known,)):
                    yield from prompts_of(prompts, KNOWN, exemplars=exemplars, additions=added, given=given)


def test_the_released_variant_stays_as_the_scripts_have_it():
    """Whoever repeats the paper's runs needs the very same bytes: change this only with a difference to the scripts."""
    prompts = [[asdict(message) for message in messages] for messages in every_prompt("released")]
    sent = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
    assert load_template("released").sha256 == "4d7c46fe7db6d6baa7e5e1595abdb9ff4d491ade95d26b78b4fffed2d10439be"
    assert sent == "82c2b8fefab2e3b82e88507db8bef4827aed114818319bdd0caec3d89f346038"


def test_neither_variant_leaves_a_slot_or_a_gap():
    for variant in ("paper", "released"):
        for messages in every_prompt(variant):
            text = "\n".join(message.content for message in messages)
            assert not re.search(r"\{\w*\}|\n{4,}", text)
