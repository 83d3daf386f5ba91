"""What judges say, and what may be concluded from it; None is an answer that nobody should guess."""

import pytest

from localemp.studies.parsing import parse_choice, parse_rating

THOUGHT = "<think>Reply B is better. Or is it?</think>\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # JSON, alone or somewhere
        ('{"choice": "A"}', "A"),
        ('{"choice":"tie"}', "tie"),
        ('  {"Choice": "b"} ', "B"),
        ('```json\n{"choice": "B"}\n```', "B"),
        ('Reply A is kind. My answer: {"choice": "B", "reason": "it asks {more}"}', "B"),
        ('{"verdict": {"choice": "Reply A"}}', "A"),
        ('{"choice": "A", "type": "json"}\n{"json": {\n "type": "jso', "A"),
        ('{"choice": "A"}\n{"choice": "A"}', "A"),
        ('{"choice": "A"}, {"choice": "B"} or {"choice": "tie"}', None),
        ('{"choice": "C"}', None),
        ('{"choice": null} A', None),
        ('{"choice": ["A"]}', None),
        ('{"choice": "A" | "B" | "tie"}', None),
        ('{"choice": "A"', "A"),
        ('{"choice": "A", "reason": "It shows', "A"),
        ("{'choice': 'tie'}", "tie"),
        ("{" * 5000, None),
        # the bare answer
        ("A", "A"),
        ("b", "B"),
        ("**B**.", "B"),
        ("[[A]]", "A"),
        ("(A)", "A"),
        ("Reply B", "B"),
        ("The response A.", "A"),
        ("Tie", "tie"),
        ("A tie.", "tie"),
        ("A\n\nIt names the feeling.", "A"),
        ("A\nB", None),
        ("A or B", None),
        ("A, B", None),
        ("AB", None),
        ("C", None),
        ("neither", None),
        # a marked answer or a whole sentence
        ("Answer: A", "A"),
        ("**Answer:** Reply B", "B"),
        ("The better reply is A.", "A"),
        ("Final verdict: [[tie]] as both fit.", "tie"),
        ("My choice: B, because it asks.", "B"),
        ("Winner: A - it shows care", "A"),
        ("Both are kind, so my verdict is a tie", "tie"),
        ("Reply A is better.", "A"),
        ("It is close. Reply B is much better than reply A, since it asks. It is also shorter.", "B"),
        ("Reply A is better because it is kind, but reply B asks more.", None),
        ("Reply A is better at grammar and reply B is better at empathy.", None),
        ("Reply A is better.\nReply B is better.", None),
        ("Reply A is better. But overall they are equal.", None),
        ("Reply A is better. On the other hand reply B is warmer, so I would call it a tie.", None),
        ("Reply A is better? No.", None),
        ("Reply A is better. Reply B is more honest.", None),
        ("Reply A is better. Reply B is generic.", "A"),
        ("[[A]] is what some would say, but reply B is better.", None),
        ("[[A]] because it asks.", "A"),
        ("I do not think that reply A is better.", None),
        ("Reply A is not better.", None),
        ("The better reply is not A.", None),
        ("The better reply is a\nkind one", None),
        ("Answer: A or B", None),
        ('Answer: "A", "B" or "tie"', None),
        ("Answer: A\nAnswer: B", None),
        ("A reply should show empathy.", None),
        ("Reply A: I am so sorry to hear that.", None),
        ("Reply A\nI am so sorry to hear that.", None),
        ("I am so sorry to hear that.", None),
        ("", None),
        (" \n", None),
        # thinking aloud before it
        (THOUGHT + "A", "A"),
        (THOUGHT + '{"choice": "tie"}', "tie"),
        (THOUGHT, None),
        ('<think>{"choice": "A"}', None),
    ],
)
def test_choices(text, value):
    parsed = parse_choice(text)
    assert parsed.value == value
    assert bool(parsed.problem) == (value is None), "what cannot be read says why"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"rating": 4}', 4),
        ('{"rating": 4.0}', 4),
        ('{"rating": "4"}', 4),
        ('{"rating": "4/5"}', 4),
        ('Sure! {"rating": 2, "why": "short"}', 2),
        ('{"rating": 4.5}', None),
        ('{"rating": 0}', None),
        ('{"rating": 6}', None),
        ('{"rating": true}', None),
        ('{"rating": NaN}', None),
        ('{"rating": 4} {"rating": 5}', None),
        ('{"rating": number}', None),
        ('{"rating": ' + "9" * 5000 + "}", None),
        ("3", 3),
        ("**3**", 3),
        ("4/5", 4),
        ("4 out of 5.", 4),
        ("[[2]]", 2),
        ("Rating: 4", 4),
        ("Rating: 4/5. It is kind.", 4),
        ("The score is 5, because it asks.", 5),
        ("Rating: 3 - neither good nor bad", 3),
        ("5\n\nThe reply is fluent.", 5),
        ("Rating: 4\nRating: 4", 4),
        ("4/10", None),
        ("4/" + "9" * 5000, None),
        ("8", None),
        ("4.5", None),
        ("-4", None),
        ("3-4", None),
        ("3 or 4", None),
        ("Rating: 3 or 4", None),
        ("Rating: 4-5", None),
        ("Rating: 4.5", None),
        ("Rating: 3\nRating: 4", None),
        ("The 3 sentences are fluent.", None),
        ("1. It is kind.\n2. It is short.", None),
        ("1.\nThe reply is kind.", None),
        ("five", None),
    ],
)
def test_ratings(text, value):
    parsed = parse_rating(text, (1, 5))
    assert parsed.value == value
    assert bool(parsed.problem) == (value is None)


def test_the_scale_decides():
    assert parse_rating("8/10", (1, 10)).value == 8
    assert parse_rating("0", (0, 3)).value == 0
    assert parse_rating("4", (0, 3)).value is None
    for text in ('{"rating": -1}', "-1", "Rating: −1", "[[-1]]"):
        assert parse_rating(text, (-2, 2)).value == -1
    assert parse_rating("-3", (-2, 2)).value is None
    assert parse_rating("1-2", (-2, 2)).value is None
