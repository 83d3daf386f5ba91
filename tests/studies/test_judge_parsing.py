"""What judges say, and what may be concluded from it; None is an answer that nobody should guess."""

import itertools
import time

import pytest

from localemp.studies.judging.parsing import parse_choice, parse_rating

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
        # other marks, other characters
        ("**A**", "A"),
        ("Verdict: **B**", "B"),
        ("Answer: (B)", "B"),
        ("\u201cA\u201d", "A"),
        ("\u2018B\u2019", "B"),
        ("\uff21", "A"),
        ("Choice\uff1aA", "A"),
        ("Answer: B\ud83d", "B"),
        ("### Verdict\nA", "A"),
        ("\u300cA\u300d\u3002", "A"),
        ("<b>A</b>", "A"),
        ("\x1b[1mA\x1b[0m", "A"),
        ("Final Answer: **A**\n\nReply B is cold.", "A"),
        ("<answer>B</answer>", "B"),
        ("$\\boxed{A}$", "A"),
        ('{"choice": "A",}', "A"),
        ('{"verdict": "B"}', "B"),
        ("{'choice': 'A', 'reason': 'it asks'}", "A"),
        ('{"choice": "A. Actually, B"}', None),
        ('{"choice": "B"}\n\nReply A is good, but reply B is better.', "B"),
        ('{"choice": "A"}\nReply A is better because it asks, whereas reply B does not.', "A"),
        # sentences
        ("I choose B", "B"),
        ("I choose A because it is warm.", "A"),
        ("I'd go with reply B.", "B"),
        ("I prefer A to B.", "A"),
        ("My vote goes to B.", "B"),
        ("Reply A wins.", "A"),
        ("B is the better reply.", "B"),
        ("In terms of empathy, reply A is better.", "A"),
        ("I think that reply A is better.", "A"),
        ("Therefore, A.", "A"),
        ("Reply B, because it asks.", "B"),
        ("A is far better.", "A"),
        ("Clearly A.", "A"),
        ("A - it is warmer", "A"),
        ("B (warmer)", "B"),
        ("Choice: A for empathy", "A"),
        ("Both are equal", "tie"),
        ("Both replies are equally good.", "tie"),
        ("Neither reply is better.", "tie"),
        ("I would call it a tie.", "tie"),
        ("It's a tie!", "tie"),
        ("A tie, since both ask.", "tie"),
        ("Verdict: A. However, B is kind too. It is no tie.", "A"),
        ("Verdict: A. It is warmer than B.", "A"),
        ("Verdict: A\n\nReply A\nnames the feeling.\n\nReply B\ndoes not.", "A"),
        ("Neither", None),
        ("Both are good.", None),
        ("Both are equally long.", None),
        ("A kind reply", None),
        ("Not A.", None),
        ("Anything but A.", None),
        ("A > B", None),
        ("A?", None),
        ("Verdict: A > B", None),
        ("Verdict: A or maybe B", None),
        ("Verdict: A? B?", None),
        ("Answer: neither", None),
        ("Answer: Alpha", None),
        ("It is not a tie.", None),
        ("I would not choose A.", None),
        ("I don't think the better reply is A.", None),
        ("As a model, I cannot pick A or B.", None),
        ("The second one", None),
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
        # other marks, other characters
        ("**Rating: 4/5** (good)", 4),
        ("Rating: **4**/5", 4),
        ("**4** / 5", 4),
        ("__Rating__: 4", 4),
        ("\u201c4\u201d", 4),
        ("\xab4\xbb", 4),
        ("\u20184\u2019", 4),
        ("rating\uff1a4", 4),
        ("\uff14\uff0f\uff15", 4),
        ("\u0664", 4),
        ("Rating: 4\ud83d", 4),
        ("Rating: 4 \u2b50", 4),
        ("4\ufe0f\u20e3", 4),
        ("Rating: [[4]]", 4),
        ("$\\boxed{4}$", 4),
        ("<rating>4</rating>", 4),
        ('{"rating": 4,}', 4),
        ("{'rating': 4}", 4),
        ("{rating: 4}", 4),
        ('{"score": 4}', 4),
        ('```json\n{"rating": 4}\n```', 4),
        ('{"rating": 4} because it is kind.', 4),
        ('{"reason": "Rating: 2 would be harsh", "rating": 4}', 4),
        ('{"rating": "4 - good"}', 4),
        ('{"rating": [4]}', None),
        ('{"rating": "2 - no, 4"}', None),
        # words around it
        ("4 - good", 4),
        ("4 (good)", 4),
        ("4\u2014good", 4),
        ("4/5.", 4),
        ("4,0", 4),
        ("4.0/5.0", 4),
        ("4 of 5", 4),
        ("Rating - 4", 4),
        ("Rating: 4 (good)", 4),
        ("Rating: 4 (out of 5)", 4),
        ("Rating: 4 out of 5 stars", 4),
        ("Rating: 4 on a scale of 1 to 5.", 4),
        ("Rating (1-5): 4", 4),
        ("Rating:\n\n4", 4),
        ("My rating for this reply is 4.", 4),
        ("I would rate this reply a 4 on the scale of 1 to 5 for empathy.", 4),
        ("It deserves a 4.", 4),
        ("I give it 4/5.", 4),
        ("Score: 4. It does not reach 5/5.", 4),
        ("Rating: 4\n\nA rating of 5 would need more. It does not actually ask.", 4),
        ("Rating: 4\n\n1. It is kind.\n2. It is short.", 4),
        ("Rating: 4\n\nIt shows (1) warmth and (2) interest.", 4),
        ("Rating: 3\n\nIt is kind, which makes it a 3 rather than a 4.", 3),
        ("Rating: 2. No empathy is shown. It gives advice instead of warmth.", 2),
        ("10/10", None),
        ("I cannot rate this.", None),
        ("between 3 and 4", None),
        ("3.5", None),
        ("4\xbd", None),
        ("4\xb2", None),
        ("Rating: ~4", None),
        ("Rating: >4", None),
        ("Rating: 4+", None),
        ("Rating: 80%", None),
        ("Rating: 4th", None),
        ("Rating: 4?", None),
        ("Rating: 4 (or 5)", None),
        ("Rating: 4\u20135", None),
        ("Rating: maybe 4", None),
        ("I don't think the rating is 4.", None),
        ("I would not give it a 4.", None),
        ("I'd say 4 or 5.", None),
        ("Word count: 4", None),
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
    assert parse_rating("Rating \u20131", (-2, 2)).value is None, "a minus or a dash?"


FIRST = ("{}", "**{}**", "Verdict: {}", "[[{}]]", '{{"%s": "{}"}}', "{} - good", "Verdict: {} (warm)", "I choose {}")
BACK = (
    *(
        ". Actually, ",
        " - no, ",
        ". No wait, ",
        "... wait, ",
        "; on reflection, ",
        ". Hmm, ",
        ". Correction: ",
        "? No: ",
    ),
    *(
        "\n\nOn second thought, ",
        "\nActually ",
        " (no: ",
        ". I mean ",
        ". Let me revise: ",
        ", or rather ",
        ". Make it ",
    ),
    *(
        ". I take it back. ",
        " \u2192 ",
        " -> ",
        ". Instead: ",
        " but actually ",
        ". I changed my mind: ",
        "\n---\n",
        ", maybe ",
    ),
    *(". Oops, ", ". Edit: ", ". Now I think ", ". I was wrong. It is ", ". To be fair, ", " / ", ". Strike that; "),
)
LAST = ("{}", "**{}**", "{}.", "Verdict: {}", '{{"%s": "{}"}}', "{} it is", "{}, because it asks.", "I'd go with {}.")


@pytest.mark.parametrize(
    ("key", "read", "values"),
    [
        ("choice", parse_choice, ("A", "B")),
        ("choice", parse_choice, ("B", "tie")),
        ("rating", lambda text: parse_rating(text, (1, 5)), (2, 4)),
    ],
)
def test_an_answer_that_is_taken_back_is_never_its_first(key, read, values):
    first, last = values
    told = {}
    for parts in itertools.product(FIRST, BACK, LAST):
        text = "".join((part % key if "%" in part else part) for part in parts).replace("{}", str(first), 1)
        text = text.replace("{}", str(last), 1).replace("{{", "{").replace("}}", "}")
        told[text] = read(text).value
    assert [text for text, value in told.items() if value not in (None, last)] == []
    assert len(told) == len(FIRST) * len(BACK) * len(LAST)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A is better. No wait, B.", None),
        ("Verdict: A. Having looked again, B is the better one.", None),
        ("Verdict: A. The other one is better.", None),
        ("Verdict: A. But overall B is better.", None),
        ("Verdict: A. I actually prefer B.", None),
        ("Verdict: A. B.", None),
        ("Choice: tie? No: A", None),
        ('{"choice": "A"} Actually, {"choice": "B"}', None),
        ("Verdict: A. Hm, on reflection the verdict is B", "B"),
        ("Choice: A. Wait. Choice: B.", "B"),
        ("Verdict: A. I changed my mind. Verdict: B", "B"),
        ('Reply A is better. {"choice": "B"}', "B"),
    ],
)
def test_what_is_stated_after_it_was_taken_back_counts(text, value):
    assert parse_choice(text).value == value


HOSTILE = (
    *("*", "_", "a_", "'", '"', "[", "[[", "(", "{", '{"a":', '{"a":[', '{"rating": 4,}', "{'rating': 4}", "</think>"),
    *("Rating: ", "Rating: 4 ", "rating for a b c ", "rating (", "score of ", "<rating>", "\\boxed{", "4", "4/", "4 4"),
    *(
        "4.",
        "4,",
        "4 - good ",
        "4 (good ",
        "4\n",
        "1. ",
        "(1) ",
        "4 on a scale of 1 to ",
        "-",
        "- ",
        " ",
        "\n",
        "\n ",
        "\r",
    ),
    *(
        "A ",
        "A. ",
        "A\n",
        "A, ",
        "A is better because ",
        "both ",
        "the the ",
        "I take ",
        "on a b ",
        "no, ",
        "not ",
        "or ",
    ),
    *(
        "i would ",
        "so so ",
        "considering x ",
        "\ud83d",
        "\u200b",
        "\x1b[",
        "\x1b[1;",
        "<b>",
        "# ",
        "A is much ",
        "\u201c",
        "\u2026",
        "\u2014",
        "\ufdfa",
        "\u2028",
    ),
)


@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_no_answer_takes_long_to_read(size):
    for unit in HOSTILE:
        text = unit * (size // len(unit))
        began = time.process_time()
        parse_choice(text)
        parse_rating(text, (1, 5))
        assert time.process_time() - began < 2, f"{unit!r} takes about 0.05 s"


def test_of_a_long_answer_the_end_counts():
    reasons = "It names the feeling and asks. " * 40_000
    assert parse_rating(f"{reasons}\nRating: 4", (1, 5)).value == 4
    assert parse_rating(f"Rating: 2\n{reasons}\nRating: 4", (1, 5)).value == 4
    assert parse_rating(f"Rating: 4\n{reasons}", (1, 5)).value is None
    assert parse_rating("9" * 30_000 + "4", (1, 5)).value is None
