"""The protocols of the field that judges can be asked by: MT-Bench, G-Eval and EPITOME; the engine is scripted."""

import hashlib
import json

import pytest
from small_study import small_study

from localemp.errors import JudgeError, OptionError, PromptError, UnknownNameError
from localemp.runs.journal import newest, read_lines, read_manifest
from localemp.runs.judge_answers import VOTES
from localemp.sampling import Sampling
from localemp.studies.judging.judge import Judge, questions
from localemp.studies.judging.parsing import parse_verdict
from localemp.studies.judging.prompts import JudgePrompts, bundled_prompts
from localemp.studies.judging.verdicts import read_judge, read_stats
from localemp.studies.questionnaire import bundled_questionnaires, load_questionnaire
from localemp.studies.study import Study
from localemp.utils.paths import resource

MECHANISMS = ("Emotional reactions", "Interpretations", "Explorations")
LETTERS = {"A": "A", "B": "B", "C": "tie"}
EXPLAINED = "Assistant A is warmer, but Assistant B asks. Assistant B is better at that. My final verdict is: "
FACTORS = "factors such as the helpfulness, relevance, accuracy, depth, creativity, and level of detail of "


def script(folder, *entries):
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def asked(kind, prompts, folder, **options):
    """The first prompt of a small study."""
    study = small_study(folder / "study", kind, items=1, **options)
    judge = Judge(study, JudgePrompts.read(prompts), Sampling())
    return judge.messages(questions(study)[0])[0].content


# MT-Bench


def test_mt_bench_is_quoted_word_for_word():
    """The hashes are of `pair-v2` (system prompt and template, joined as for Claude) and `single-v1` of FastChat."""
    mine = JudgePrompts.read("mt-bench")
    sentence = "one aspect alone, {aspect}: {about}"
    pair = mine.ab.strip().replace(sentence, f"{FACTORS}their responses.").replace("{conversation}", "{question}")
    pair = pair.replace("{a}", "{answer_a}").replace("{b}", "{answer_b}")
    single = mine.rating.strip().replace(sentence, f"{FACTORS}the response.").replace("{conversation}", "{question}")
    single = single.replace("{reply}", "{answer}").replace("{low}", "1").replace("{high}", "10")
    single = single.replace("{middle}", str((1 + 10) // 2))
    assert [hashlib.sha256(text.encode()).hexdigest() for text in (pair, single)] == [
        "2fa8aab5e761bba418d9f063faba79d403574bc7b4c452822f02919f12023604",
        "0935c7ff79f38d3f9b135e14b2cf3bc05ddfbcb96cfd4094b1681a8044e9ccd0",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (EXPLAINED + "[[A]]", "A"),
        ("[[B]]", "B"),
        ("[[ c ]]", "tie"),
        ("Both [[A]] and [[B]] could be argued for. [[C]]", "tie"),
        ("[[A]]. No wait, I reconsider. [[B]]\n\nI hope this helps. A is warmer.", "B"),
        ("**[[A]]**", "A"),
        ("<think>[[A]]</think>It asks more. [[B]]", "B"),
        ("[[A]] or rather [[D]]", None),
        ("[A]", None),
        ("Verdict: A", None),
        ("Assistant A is better. [[A", None),
        ("<think>[[A]]", None),
        ("", None),
    ],
)
def test_the_last_verdict_counts_and_nothing_else(text, value):
    found = parse_verdict(text, "[[{answer}]]", LETTERS)
    assert (found.value, bool(found.problem)) == (value, value is None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is warm, a 4 or a 5. Rating: [[4]]", 4),
        ("Rating: [[5.0]]", 5),
        ("Rating: [[2]]. On reflection, Rating: [[3]]", 3),
        ("Rating: [[3.5]]", None),
        ("Rating: [[10]]", None),
        ("Rating: [[4/5]]", None),
        ("Rating: 4", None),
    ],
)
def test_a_rating_is_read_of_its_verdict(text, value):
    assert parse_verdict(text, "[[{answer}]]", {str(number): number for number in range(1, 6)}).value == value


def test_mt_bench_judges_pairs(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    sure = [{"match": "Answer]\nReply 0 to 3.\n[The End of Assistant A's", "reply": EXPLAINED + "[[A]]"}]
    lost = {"match": "for the 5th time", "reply": EXPLAINED + "A"}
    tied = {"match": "for the 4th time", "reply": EXPLAINED + "[[C]]"}
    path = script(tmp_path, lost, tied, *sure, {"reply": EXPLAINED + "[[B]]"})
    done = localemp("study", "judge", "study", "--script", path, "--prompts", "mt-bench")
    assert done.returncode == 0, done.stderr
    assert "36 answers, 6 unparsable (16.7%); 15 votes, 3 missing" in done.stdout
    votes = {vote.item: vote.value for vote in read_judge(study.folder / "judges" / "scripted")}
    assert (votes["i3"], votes["i4"], votes["i0"]) == ("k3-0", "tie", "tie")
    lines = newest(read_lines(study.folder / "judges" / "scripted" / VOTES))
    assert {line["problem"] for line in lines if line["answer"] is None} == {"it has no verdict in the form [[...]]"}
    settings = read_manifest(study.folder / "judges" / "scripted")["settings"]
    assert (settings["prompts"], settings["verdict"]) == ("mt-bench", "[[{answer}]]")
    assert settings["sampling"]["max_tokens"] == JudgePrompts.read("mt-bench").max_tokens == 1024
    assert "schema" not in settings["sampling"]
    assert "User: I lost my job, for the 0th time.\n\n[The Start of" in lines[0]["messages"][0]["content"]
    shorter = ("--max-tokens", 99, "--name", "shorter", "--limit", 1)
    assert localemp("study", "judge", "study", "--script", path, "--prompts", "mt-bench", *shorter).returncode == 0
    settings = read_manifest(study.folder / "judges" / "shorter")["settings"]
    assert settings["sampling"]["max_tokens"] == 99, "what the user says counts"
    assert localemp("study", "report", "study").returncode == 0


def test_mt_bench_rates_on_the_scale_of_the_study(localemp, tmp_path):
    study = small_study(tmp_path / "study", "rating")
    path = script(tmp_path, {"match": "Reply 0", "reply": "Kind. Rating: [[4]]"}, {"reply": "Cold. Rating: [[1]]"})
    done = localemp("study", "judge", "study", "--script", path, "--prompts", "mt-bench")
    assert done.returncode == 0, done.stderr
    assert {vote.reply[-1]: vote.value for vote in read_judge(study.folder / "judges" / "scripted")} == {"0": 4, "1": 1}
    line = newest(read_lines(study.folder / "judges" / "scripted" / VOTES))[0]
    assert (
        'on a scale of 1 to 5 by strictly following this format: "[[rating]]", for example: "Rating: [[3]]"'
        in (line["messages"][0]["content"])
    )


def test_a_verdict_that_is_cut_off_is_said_with_what_to_do(localemp, tmp_path):
    small_study(tmp_path / "study", items=40)
    path = script(tmp_path, {"reply": "Assistant A is warmer, and"})
    done = localemp("study", "judge", "study", "--script", path, "--prompts", "mt-bench")
    assert done.returncode == JudgeError.exit_code
    assert "more --max-tokens if the verdict is cut off" in done.stderr


# G-Eval


def test_g_eval_weights_scores_by_their_probabilities(localemp, tmp_path):
    study = small_study(tmp_path / "study", "rating")
    likely = {"match": "Reply 0", "choices": {"4": 0.6, "5": 0.2}}
    path = script(tmp_path, likely, {"choices": {"1": 0.5, "2": 0.5}})
    done = localemp("study", "judge", "study", "--script", path, "--prompts", "g-eval")
    assert done.returncode == 0, done.stderr
    votes = {vote.reply[-1]: vote.value for vote in read_judge(study.folder / "judges" / "scripted")}
    assert votes == {"0": pytest.approx(4.25), "1": pytest.approx(1.5)}
    prompt = newest(read_lines(study.folder / "judges" / "scripted" / VOTES))[0]["messages"][0]["content"]
    assert "Empathy (1-5; 1: not at all, 5: fully) - What Empathy means." in prompt
    assert "2. Read the reply. In it: check whether it takes up how the speaker feels and why" in prompt
    assert prompt.endswith("Evaluation Form (scores ONLY):\n\n- Empathy:")


def test_g_eval_compares_pairs_in_both_orders(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    sure = {"match": "Reply A:\n\nReply 0", "choices": {"A": 0.7, "B": 0.1}}
    path = script(tmp_path, sure, {"choices": {"A": 0.2, "B": 0.5, "C": 0.1}})
    done = localemp("study", "judge", "study", "--script", path, "--prompts", "g-eval")
    assert done.returncode == 0, done.stderr
    folder = study.folder / "judges" / "scripted"
    assert {vote.value[-1] for vote in read_judge(folder)} == {"0"}
    assert (read_stats(folder).measured, read_stats(folder).flips) == (36, 0)


def test_an_aspect_without_steps_of_its_own_has_the_general_ones(tmp_path):
    text = asked("ab", "g-eval", tmp_path, aspects=("Warmth",))
    assert "In each of them: find what speaks for it under the Evaluation Criteria" in text
    assert text.endswith("Evaluation Form (A, B or C ONLY):\n\n- Warmth:")


# EPITOME


@pytest.fixture
def epitome(localemp, tmp_path):
    """A study of EPITOME's mechanisms."""
    lines = [{"id": n, "turns": ["I lost my job."], "replies": {"a": f"Sad {n}", "b": "Why?"}} for n in range(3)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    create = ("study", "create", "--items", "items.jsonl", "--aspects", "epitome", "--checks", 1, "--out", "study")
    done = localemp(*create)
    assert done.returncode == 0, done.stderr
    assert "asked: Emotional reactions, Interpretations, Explorations" in done.stdout
    return Study.read(tmp_path / "study")


def test_epitome_is_a_study_of_three_levels_and_a_rubric(localemp, tmp_path, epitome):
    assert (epitome.manifest.kind, epitome.manifest.scale) == ("rating", (0, 2))
    assert epitome.manifest.words == {0: "not at all", 1: "weakly", 2: "strongly"}
    feeling = {"match": "The mechanism: Emotional", "choices": {"2": 0.75, "1": 0.25}}
    path = script(tmp_path, feeling, {"choices": {"0": 1.0}})
    done = localemp("study", "judge", "study", "--script", path, "--prompts", "epitome")
    assert done.returncode == 0, done.stderr
    votes = read_judge(epitome.folder / "judges" / "scripted")
    assert {vote.aspect: vote.value for vote in votes} == {MECHANISMS[0]: 1.75, MECHANISMS[1]: 0, MECHANISMS[2]: 0}
    shown = [
        line["messages"][0]["content"]
        for line in newest(read_lines(epitome.folder / "judges" / "scripted" / VOTES))[:3]
    ]
    for text, level in zip(shown, ("worried about you", "You must have been terrified", "since she"), strict=True):
        assert "The levels (0: not at all, 1: weakly, 2: strongly):\n\n0: " in text
        assert level in text.partition("The levels")[2]
        assert text.endswith("Answer with one whole number from 0 to 2, and nothing else.")
    table = json.loads(localemp("study", "report", "study", "--json").stdout)
    assert {mean["aspect"] for mean in table["opinions"][0]["means"]} == set(MECHANISMS)


def test_our_own_prompts_can_judge_epitomes_aspects(localemp, tmp_path, epitome):
    path = script(tmp_path, {"reply": '{"rating": 2}'})
    done = localemp("study", "judge", "study", "--script", path, "--prompts", "judge")
    assert done.returncode == 0, done.stderr
    assert {vote.value for vote in read_judge(epitome.folder / "judges" / "scripted")} == {2}


def test_a_kind_that_is_asked_for_is_kept_to(localemp, tmp_path, epitome):
    create = ("study", "create", "--items", "items.jsonl", "--aspects", "epitome", "--out", "other")
    done = localemp(*create, "--kind", "ab")
    assert done.returncode == PromptError.exit_code
    assert "no aspect is asked in studies of kind 'ab'" in done.stderr


# What is wrong


def test_unknown_names_list_the_known_ones(localemp, tmp_path):
    small_study(tmp_path / "study")
    done = localemp("study", "judge", "study", "--script", script(tmp_path, {"reply": "A"}), "--prompts", "mtbench")
    assert done.returncode == UnknownNameError.exit_code
    assert "unknown prompts for a judge 'mtbench'" in done.stderr
    assert "did you mean 'mt-bench'?" in done.stderr
    assert "known: judge, judge-letters, epitome, g-eval, mt-bench" in done.stderr
    (tmp_path / "items.jsonl").write_text('{"id": 1, "turns": ["Hi."], "replies": {"a": "x", "b": "y"}}\n')
    done = localemp("study", "create", "--items", "items.jsonl", "--aspects", "epitone", "--out", "other")
    assert (done.returncode, "unknown questionnaire 'epitone'" in done.stderr) == (UnknownNameError.exit_code, True)
    assert list(bundled_prompts()) == ["judge", "judge-letters", "epitome", "g-eval", "mt-bench"]
    assert "epitome" in bundled_questionnaires()


def test_a_file_is_a_file_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = resource("prompts", "judge.toml").read_text("utf-8").replace('name = "judge"', 'name = "mine"')
    for name in ("mine", "mt-bench"):
        (tmp_path / name).write_text(text)
    assert JudgePrompts.read("mine").name == JudgePrompts.read("./mt-bench").name == "mine"
    assert JudgePrompts.read("mt-bench").name == "mt-bench"
    with pytest.raises(PromptError, match=r"none\.toml: no such file"):
        JudgePrompts.read("none.toml")
    with pytest.raises(PromptError, match="no such file"):
        load_questionnaire("folder/none")


def test_prompts_without_a_text_for_the_study_are_refused(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    command = ("study", "judge", "study", "--script", script(tmp_path, {"reply": "A"}), "--prompts", "epitome")
    done = localemp(*command)
    assert done.returncode == OptionError.exit_code
    assert "the prompts 'epitome' have no text for a study of kind 'ab'" in done.stderr
    assert "judge a study of kind 'rating'" in done.stderr
    assert not (study.folder / "judges").exists()
    small_study(tmp_path / "rated", "rating")
    done = localemp("study", "judge", "rated", *command[3:])
    assert done.returncode == OptionError.exit_code
    assert "no rubric for Empathy, Coherence, Informativity" in done.stderr
    assert "one for Emotional reactions, Interpretations, Explorations" in done.stderr


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("mt-bench", ("[[{answer}]]", "[[answer]]"), "verdict: the placeholder {answer} is missing"),
        ("mt-bench", ("[[{answer}]]", "Verdict: {answer}"), "something has to stand before and after"),
        ("mt-bench", ("constrained = false", "constrained = true"), "verdict: it is read of answers that are written"),
        ("mt-bench", ("letters =", "# letters ="), "letters: an A/B test that asks for a letter needs them"),
        ("mt-bench", ("max_tokens = 1024", "max_tokens = 0"), "max_tokens"),
        ("g-eval", ("{rubric}", ""), "rubrics: they belong to a text with {rubric}"),
        ("epitome", ("[rubrics]", "[unknown]"), "unknown"),
        ("epitome", ("rating = ", "ab = "), "ab: the placeholder {a} is missing"),
    ],
)
def test_what_does_not_belong_together_is_named(tmp_path, name, change, told):
    path = tmp_path / "mine.toml"
    path.write_text(resource("prompts", "judges", f"{name}.toml").read_text("utf-8").replace(*change))
    with pytest.raises(PromptError) as caught:
        JudgePrompts.read(path)
    assert told in caught.value.message


def test_a_file_without_any_text_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "x"\ndescription = "x"\nconstrained = false\n[lines]\nspeaker = "{text}"\nlistener = "{text}"\n'
    )
    with pytest.raises(PromptError, match="neither it nor rating is there"):
        JudgePrompts.read(path)
