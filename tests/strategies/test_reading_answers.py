"""How answers of stages are read: labels and JSON, as models write them."""

import pytest

from localemp.engines.base import Completion
from localemp.errors import StillThinkingError
from localemp.prompting.flow import Stage
from localemp.strategies.answers import StageError, answer_schema, find_label, quoted, read_answer

LABELS = ("Question", "Self-disclosure", "Others", "Other people")
SCHEMA = {
    "type": "object",
    "properties": {"cause": {"type": "string"}, "hurts": {"type": "integer"}},
    "required": ["cause"],
}
LABELLED = Stage(name="support", labels=LABELS)
FORM = Stage.model_validate({"name": "appraisal", "schema": SCHEMA})


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"label": "Question"}', "Question"),
        ('{"label": " question "}', "Question"),
        ('"Others"', "Others"),
        ('Sure!\n```json\n{"label": "Others"}\n```\nNot a Question.', "Others"),
        ("Question", "Question"),
        ("I would use QUESTION here.", "Question"),
        ("**Self-disclosure**, not a question", "Self-disclosure"),
        ("Other people, others", "Other people"),
        ("Questions are good.", None),
        ('{"label": 3}', None),
        ('{"label": "Quest', None),
        ("", None),
    ],
)
def test_a_label_is_found_in_what_a_model_says(text, label):
    assert find_label(text, LABELS) == label


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", "2"), ('{"label": "3"}', "3"), ('{"label": 3}', "3"), ("Number 10 of 10.", "10"), ("1st", None)],
)
def test_a_number_is_a_label_too(text, number):
    assert find_label(text, [str(each) for each in range(1, 11)]) == number


@pytest.mark.parametrize("labels", [("STRASSE", "Weg"), ("straße", "Weg")], ids=["written-out", "sharp-s"])
def test_case_is_ignored_in_every_script(labels):
    assert find_label("Ich nehme die Straße.", labels) == labels[0]


def test_no_label_is_an_error_that_names_the_stage_or_the_label_for_that():
    with pytest.raises(StageError, match=r"stage 'support' answered none of its labels: 'Hm\.'") as caught:
        read_answer(LABELLED, Completion("Hm.", "stop"))
    assert "otherwise" in caught.value.hint
    assert read_answer(LABELLED.model_copy(update={"otherwise": "Others"}), Completion("Hm.", "stop")) == "Others"


def test_the_emotions_are_a_list_of_labels():
    stage = Stage(name="feeling", labels="emotions")
    assert read_answer(stage, Completion("She seems Devastated.", "stop")) == "devastated"


@pytest.mark.parametrize(
    "text",
    [
        '{"cause": "a loss", "hurts": 3}',
        '```json\n{"cause": "a loss",\n "hurts": 3}\n```',
        'Here it is: {"cause": "a loss", "hurts": 3} I hope that helps.',
    ],
    ids=["alone", "fenced", "in-a-text"],
)
def test_json_is_read_from_what_stands_around_it(text):
    assert read_answer(FORM, Completion(text, "stop")) == {"cause": "a loss", "hurts": 3}


@pytest.mark.parametrize(
    ("text", "reason", "why", "hint"),
    [
        ('{"cause": "a lo', "length", "did not answer with JSON: it was cut at max_tokens", "larger max_tokens"),
        ("A loss.", "stop", "did not answer with JSON: not valid JSON", "show its form"),
        ('{"hurts": 3}', "stop", "JSON of its schema: the answer: 'cause' is a required property", "every field"),
        ('{"cause": "a", "hurts": "3"}', "stop", "JSON of its schema: hurts: '3' is not of type", "every field"),
        ("[1]", "stop", "JSON of its schema: the answer: [1] is not of type 'object'", "every field"),
    ],
    ids=["cut", "a-text", "a-field-missing", "a-wrong-type", "a-list"],
)
def test_what_is_not_the_json_is_an_error_that_says_why(text, reason, why, hint):
    with pytest.raises(StageError) as caught:
        read_answer(FORM, Completion(text, reason))
    assert "stage 'appraisal'" in str(caught.value) and why in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("stage", [LABELLED, FORM, Stage(name="reply")], ids=["label", "json", "text"])
def test_an_answer_that_is_only_thought_is_an_error_of_its_own(stage):
    with pytest.raises(StillThinkingError):
        read_answer(stage, Completion("", "length", thinking="Question? Hm"))


def test_only_labels_and_json_have_a_schema():
    assert answer_schema(Stage(name="reply")) is None
    assert '"enum": ["Question"' in (answer_schema(LABELLED) or "")
    assert '"hurts"' in (answer_schema(FORM) or "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(" sad ", "sad"), (3, "3"), (0.5, "0.5"), (True, "true"), (None, ""), (["a", "b"], "a, b"), ([], ""),
     ([1, 2], "[1, 2]"), ({"wie": "schön"}, '{"wie": "schön"}')],
)  # fmt: skip
def test_values_are_quoted_as_texts(value, text):
    assert quoted(value) == text


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("NaN", "NaN"),
        ("[-Infinity]", "-Infinity"),
        ("1e999", "out of range"),
        ('{"\\ud800": 1}', "unpaired surrogate"),
        ("[" * 60 + "]" * 60, "more than 50 levels"),
    ],
    ids=["nan", "infinity", "too-large", "surrogate", "deep"],
)
def test_json_that_no_run_could_keep_is_an_error_of_its_dialogue(value, why):
    with pytest.raises(StageError, match=why):
        read_answer(FORM, Completion(f'{{"cause": "x", "more": {value}}}', "stop"))
