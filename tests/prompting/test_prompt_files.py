"""Files of prompts that change some keys of another file, and what `prompts list|export|check` make of files."""

import hashlib

import pytest

from localemp.commands.prompts import check_prompts, export_prompts, list_prompts
from localemp.errors import PromptError, UnknownNameError
from localemp.prompting.template import load_template
from localemp.studies.judging.prompts import JudgePrompts
from localemp.studies.questionnaire import load_questionnaire

ONE_LINE = 'extends = "paper"\n[task]\nguideline = "Reply as a friend would."\n'


def test_a_variant_may_change_one_line_of_another(tmp_path):
    path = tmp_path / "friend.toml"
    path.write_text(ONE_LINE, "utf-8")
    paper, mine = load_template("paper"), load_template(str(path))
    assert mine.task.guideline == "Reply as a friend would."
    assert mine.name == "friend" and mine.description == "paper, except task.guideline"
    own = {"name", "description", "sha256", "task"}
    assert mine.model_dump(exclude=own) == paper.model_dump(exclude=own)
    assert mine.task.definition == paper.task.definition


def test_the_hash_is_of_a_file_and_of_all_that_it_extends(tmp_path):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(ONE_LINE, "utf-8")
    second.write_text('extends = "first.toml"\n[context]\ncue = "Friend:"\n', "utf-8")
    before = load_template(str(second))
    assert (before.task.guideline, before.context.cue) == ("Reply as a friend would.", "Friend:")
    first.write_text(ONE_LINE.replace("a friend", "a sister"), "utf-8")
    assert load_template(str(second)).sha256 != before.sha256
    content = export_prompts("paper")
    assert load_template("paper").sha256 == hashlib.sha256(content).hexdigest()  # as manifests always had it


def test_prompts_of_judges_and_questionnaires_extend_others_too(tmp_path):
    judge, asked = tmp_path / "strict.toml", tmp_path / "asked.toml"
    judge.write_text('extends = "g-eval"\nmax_tokens = 7\n', "utf-8")
    asked.write_text('extends = "study"\ninstructions = "Read first."\n', "utf-8")
    assert JudgePrompts.read(judge).max_tokens == 7
    assert JudgePrompts.read(judge).ab == JudgePrompts.read("g-eval").ab
    assert load_questionnaire(asked).aspect == load_questionnaire().aspect
    assert [check_prompts(file).kind for file in (judge, asked)] == ["prompts for a judge", "questionnaire"]


@pytest.mark.parametrize(
    ("files", "kind", "said"),
    [
        ({"a.toml": 'extends = "a.toml"'}, PromptError, "a.toml extends .*a.toml: in a circle"),
        ({"a.toml": 'extends = "b.toml"', "b.toml": 'extends = "a.toml"'}, PromptError, "in a circle"),
        (
            {f"{n}.toml": f'extends = "{m}.toml"' for n, m in zip("abcdefghij", "bcdefghijk", strict=True)},
            PromptError,
            "a chain of more than 8",
        ),
        ({"a.toml": 'extends = "papr"'}, UnknownNameError, "'papr': .*a.toml extends it"),
        ({"a.toml": 'extends = "gone.toml"'}, PromptError, "gone.toml: no such file"),
        ({"a.toml": "extends = 3"}, PromptError, "extends: not a name"),
        ({"a.toml": 'extends = ""'}, PromptError, "extends: not a name"),
        ({"a.toml": 'extends = "a\\u0000b"'}, PromptError, "extends: not a name"),
        ({"a.toml": 'extends = "paper"\n[task]\nguidline = "x"'}, PromptError, "a.toml: task.guidline: unknown key"),
        ({"a.toml": 'extends = "paper"\ntask = "x"'}, PromptError, "a.toml: task: "),
        ({"a.toml": 'extends = "g-eval"\n[task]\nguideline = "x"'}, UnknownNameError, "prompt variant 'g-eval'"),
        ({"a.toml": 'kind = "chat"\nname = "x"'}, PromptError, "none of its keys"),
        ({"a.toml": "="}, PromptError, "a.toml: not valid TOML"),
        ({}, PromptError, "a.toml: no such file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, files, kind, said):
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(kind, match=said):
        check_prompts(tmp_path / "a.toml")


def test_every_listed_file_can_be_exported_and_is_valid(tmp_path):
    for each in list_prompts():
        copy = tmp_path / each.path.name
        copy.write_bytes(export_prompts(each.name))
        assert check_prompts(copy).kind == each.kind
    with pytest.raises(UnknownNameError, match="'epitome': several have it"):
        export_prompts("epitome")


def test_a_check_shows_what_was_changed_and_goes_on_after_a_wrong_file(localemp, tmp_path):
    good, wrong = tmp_path / "good.toml", tmp_path / "wrong.toml"
    good.write_text(ONE_LINE + 'joint = "\\n"\n', "utf-8")
    wrong.write_text("tusk = 1", "utf-8")
    done = localemp("prompts", "check", wrong, good)
    assert done.returncode == 2
    assert "task.guideline" in done.stdout and "here: 'Reply as a friend would.'" in done.stdout
    assert "task.joint is the same" in done.stdout
    assert "wrong.toml: none of its keys" in done.stderr
