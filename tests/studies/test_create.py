"""Studies from runs and from files of items: what is in them, what is hidden, what is refused."""

import json
import stat

import pytest
from small_runs import make_run
from small_study import small_study

import localemp
from localemp.errors import DataError, OptionError, PromptError, RunError
from localemp.metrics.replies import Replies, Reply
from localemp.studies.create import create_study, replies_of_items
from localemp.studies.questionnaire import load_questionnaire
from localemp.studies.study import ITEMS, KEY, Study

ASKED = load_questionnaire()


def system(name: str, count: int = 8, turns: str = "I failed test {}.") -> Replies:
    items = tuple(Reply(f"d{n}", f"{name} says {n}", turns=(turns.format(n),)) for n in range(count))
    return Replies(name, items, {"run": name})


def test_an_ab_study_has_every_pair_of_every_drawn_dialogue_and_tells_no_system(tmp_path):
    systems = [system("zebra"), system("yak"), system("xerus", count=6)]
    study, notes = create_study(tmp_path / "s", systems, "ab", ASKED, sample=4, seed=3)
    assert len(study.items) == 4 * 3
    assert {len(item.replies) for item in study.items} == {2}
    assert [aspect.name for aspect in study.manifest.aspects] == ["Empathy", "Coherence", "Informativity"]
    assert study.manifest.scale is None
    for item in study.items:
        said = {study.key.systems[reply.key]: reply.text for reply in item.replies}
        number = study.key.dialogues[item.id].removeprefix("d")
        assert len(said) == 2
        assert all(text == f"{name} says {number}" for name, text in said.items())
    texts = json.dumps([{**json.loads(line), "replies": []} for line in (tmp_path / "s" / ITEMS).open()])
    assert not any(name in texts + (tmp_path / "s" / "study.json").read_text() for name in ("zebra", "yak", "xerus"))
    assert '"d' not in texts
    assert stat.S_IMODE((tmp_path / "s" / KEY).stat().st_mode) == 0o600
    assert notes == []


def drawn(study: Study) -> set[str]:
    return set(study.key.dialogues.values())


def names(study: Study) -> set[str]:
    return {item.id for item in study.items} | {reply.key for item in study.items for reply in item.replies}


def test_both_places_go_to_both_systems_and_a_seed_repeats_the_dialogues(tmp_path):
    systems = [system("a", 60), system("b", 60)]
    study, _ = create_study(tmp_path / "1", systems, "ab", ASKED, sample=40)
    first = [study.key.systems[item.replies[0].key] for item in study.items]
    assert 5 < first.count("a") < 35
    again, _ = create_study(tmp_path / "2", systems, "ab", ASKED, sample=40)
    other, _ = create_study(tmp_path / "3", systems, "ab", ASKED, sample=40, seed=1)
    assert drawn(again) == drawn(study) != drawn(other)
    assert not names(again) & names(study), "nobody can repeat what blinds a study"
    assert all(name[0].isalpha() for name in names(study))
    assert again.manifest.shuffle != study.manifest.shuffle
    assert len(study.key.secret) == 32 and study.key.secret not in (tmp_path / "1" / "study.json").read_text()
    ann, ben = study.shown_to("ann"), study.shown_to("ben")
    assert study.shown_to("ann") == ann
    assert [item.id for item in ann] != [item.id for item in ben]
    assert {item.id for item in ann} == {item.id for item in ben} == set(study.by_id)
    assert any(item.replies != study.by_id[item.id].replies for item in ann)


def test_a_rating_study_shows_all_systems_at_once_and_checks_lie_outside_the_sample(tmp_path):
    study, notes = create_study(tmp_path / "s", [system("a"), system("b")], "rating", ASKED, sample=6, checks=2)
    rated = [item for item in study.items if item.id not in study.key.checks]
    assert (len(rated), len(study.key.checks), study.manifest.scale) == (6, 2, (1, 5))
    assert all(len(item.replies) == 2 for item in rated)
    sampled = {study.key.dialogues[item.id] for item in rated}
    assert not sampled & {study.key.dialogues[name] for name in study.key.checks}
    for name, expected in study.key.checks.items():
        assert [reply.text for reply in study.by_id[name].replies] == [ASKED.check_rating]
        assert expected == {name: [1] for name in ("Empathy", "Coherence", "Informativity", "Fluency")}
    assert notes == []


def test_a_check_shows_replies_of_any_system(tmp_path):
    study, notes = create_study(tmp_path / "s", [system("a"), system("b")], "ab", ASKED, sample=2, checks=40)
    real = [
        reply.text for name in study.key.checks for reply in study.by_id[name].replies if reply.text != ASKED.check_ab
    ]
    assert (len(real), {text.split()[0] for text in real}) == (40, {"a", "b"})
    assert "40 checks, and 6 dialogues outside the sample" in notes[0]


def test_an_owner_hears_of_small_samples_empty_and_equal_replies(tmp_path):
    one = Replies("one", (Reply("a", "", turns=("Hi.",)), Reply("b", "So.", turns=("Ho.",))))
    two = Replies("two", (Reply("a", "x", turns=("Hi.",)), Reply("b", "So.", turns=("Ho.",))))
    study, notes = create_study(tmp_path / "s", [one, two], "rating", ASKED)
    assert study.manifest.title == "How good are these replies?"
    _, told = create_study(tmp_path / "t", [one, two], "ab", ASKED, title="Is one-shot Two better?")
    assert told[-1] == "raters read the title 'Is one-shot Two better?', which names one and two"
    assert notes == [
        "only 2 of the 100 dialogues wanted are in every run: the study has these",
        "1 reply is empty; raters see that",
        "in 1 of 2 items all replies are the same",
    ]


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ([system("a")], "compares two or more"),
        ([system("a"), system("Neither")], "a system called 'Neither' could not be told from a tie"),
        ([system("a"), system("a")], "two systems are called a"),
        ([system("a"), Replies("b", (Reply("x", "y", turns=("z",)),))], "no dialogue is in every run: a has 8 ids"),
        ([system("a"), system("b", turns="Quite another {}.")], "no dialogue is in every run"),
        ([system("a"), Replies("b", (Reply("d1", "y"),))], "b has replies without their dialogues"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, systems, message):
    with pytest.raises(OptionError, match=message):
        create_study(tmp_path / "s", systems, "ab", ASKED)
    assert not (tmp_path / "s").exists()


def test_a_changed_study_is_refused(tmp_path):
    study = small_study(tmp_path / "s")
    assert Study.read(tmp_path / "s") == study
    with pytest.raises(RunError, match="holds a study already"):
        small_study(tmp_path / "s")
    (tmp_path / "s" / KEY).write_text("{}")
    with pytest.raises(RunError, match="not the key that the study was made with"):
        _ = Study.read(tmp_path / "s").key
    items = tmp_path / "s" / ITEMS
    items.write_text(items.read_text().replace("Reply 1 to 0.", "Better."))
    with pytest.raises(RunError, match="was changed after the study was made"):
        Study.read(tmp_path / "s")
    with pytest.raises(RunError, match="no study here"):
        Study.read(tmp_path / "nowhere")


def test_items_of_a_file_become_systems_and_its_mistakes_have_a_line(tmp_path):
    file = tmp_path / "items.jsonl"
    lines = [{"id": n, "turns": ["Hi."], "replies": {"a": "1", "b": "2"}, "own": 3} for n in (1, 2)]
    file.write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    assert [(system.name, system.ids) for system in replies_of_items(file)] == [("a", ("1", "2")), ("b", ("1", "2"))]
    for wrong, message in (
        ("{", "line 5: not valid JSON"),
        ("[" * 5000, "line 5: it is nested"),
        ('{"id": ' + "9" * 5000 + "}", "line 5: it has a number with too many digits"),
        ("null", "line 5: "),
        ('{"id": "x", "turns": [], "replies": {"a": "1"}}', "line 5: turns"),
        ('{"id": "2", "turns": ["Hi."], "replies": {"a": "1"}}', "line 5: id '2' is there twice"),
    ):
        file.write_text("".join(json.dumps(line) + "\n\n" for line in lines) + wrong)
        with pytest.raises(DataError, match=message):
            replies_of_items(file)


def test_halves_of_characters_in_items_are_replaced(tmp_path):
    (file := tmp_path / "items.jsonl").write_text(
        '{"id": "d\\ud83d", "turns": ["Hi\\ude00."], "replies": {"a": "1\\ud83d", "b": "\\ud83d\\ude00"}}'
    )
    study, _ = create_study(tmp_path / "s", replies_of_items(file), "ab", load_questionnaire(), title="A title\udc80")
    again = Study.read(tmp_path / "s")
    assert again == study
    assert again.manifest.title == "A title\ufffd"
    assert again.items[0].turns == ("Hi\ufffd.",)
    assert {reply.text for reply in again.items[0].replies} == {"1\ufffd", "\U0001f600"}


def test_what_is_asked_may_be_ones_own(tmp_path):
    file = tmp_path / "asked.toml"
    texts = "".join(f'{name}="x"\n' for name in ("instructions", "ab", "rating", "check_ab", "check_rating"))
    text = texts + 'scale=[0, 100]\nscale_words=["no", "yes"]\n'
    file.write_text(text + '[[aspect]]\nname="Warmth"\nabout="warm"\n')
    asked = load_questionnaire(file)
    assert (asked.scale, [aspect.name for aspect in asked.aspects("ab")]) == ((0, 100), ["Warmth"])
    file.write_text(text.replace("[0, 100]", "[5, 1]") + '[[aspect]]\nname="Warmth"\nabout="warm"\n')
    with pytest.raises(PromptError, match="lowest rating comes first"):
        load_questionnaire(file)
    file.write_text(text.replace("[0, 100]", "[0, 1000000000]") + '[[aspect]]\nname="Warmth"\nabout="warm"\n')
    with pytest.raises(PromptError, match="scale"):
        load_questionnaire(file)
    file.write_text(text + '[[aspect]]\nname="Warmth"\nabout="warm"\nkinds=["ab"]\n')
    with pytest.raises(PromptError, match=r"asked\.toml: no aspect is asked in studies of kind 'rating'"):
        load_questionnaire(file, "rating")
    file.write_text(text + '[[aspect]]\nname="Item"\nabout="x"\n')
    with pytest.raises(PromptError, match="'Item' is a column of files of ratings"):
        load_questionnaire(file)
    with pytest.raises(PromptError, match="no such file"):
        load_questionnaire(tmp_path / "none.toml")


def test_the_command_makes_a_study_and_says_what_is_wrong(localemp, tmp_path):
    lines = [{"id": n, "turns": ["Hi."], "replies": {"a": f"a{n}", "b": f"b{n}"}} for n in range(5)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = localemp("study", "create", "--items", "items.jsonl", "--sample", "3", "--checks", "1", "--out", "s")
    assert done.returncode == 0, done.stderr
    assert "3 items and 1 attention check, 8 replies, seed 0; asked: Empathy, Coherence, Informativity" in done.stdout
    again = localemp("study", "create", "--items", "items.jsonl", "--out", "s")
    assert (again.returncode, "holds a study already" in again.stderr) == (1, True)
    nothing = localemp("study", "create", "--out", "t")
    assert (nothing.returncode, "name runs or --items FILE" in nothing.stderr) == (2, True)


def test_what_an_interrupted_creation_left_is_replaced(tmp_path):
    left = small_study(tmp_path / "study")
    (left.folder / "study.json").unlink()  # the file that is written last
    assert small_study(tmp_path / "study").items


def test_what_is_no_run_with_replies_is_left_out_and_named(tmp_path, caplog):
    replies = {name: f"Reply {name}." for name in "abcd"}
    runs = [make_run(tmp_path / name, replies) for name in ("one", "two")]
    runs += [make_run(tmp_path / "empty", {}, failed="a"), tmp_path / "notes"]
    (tmp_path / "notes").mkdir()
    made = localemp.study.create(runs, out=tmp_path / "study")
    assert set(made.study.key.systems.values()) == {"one", "two"}
    empty, notes = made.left_out
    assert "empty: no replies yet" in empty and "notes is not a run" in notes
    assert all(line in caplog.messages for line in made.left_out)
    with pytest.raises(RunError, match="none is not a run"):
        localemp.study.create([*runs, tmp_path / "none"], out=tmp_path / "other")
