"""Several judges in one command, and judges of the same family as a system."""

import sys
from pathlib import Path

import pytest
from small_study import small_study

from localemp import study as studies
from localemp.errors import JudgeError, OptionError
from localemp.runs.judge_answers import VOTES
from localemp.studies.judging.verdicts import read_judge, read_stats
from localemp.studies.own_family import families_of_system, family_note, own_family
from localemp.studies.study import Key, Study

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from fake_server import Answer, FakeServer, completion, error

TRUST = {"gpt-4o": "A", "tiny": "B"}  # the reply of system 0, of system 1


def serve(request):
    """Models of one server: one prefers system 0, one system 1, one says nothing that can be read, one has no place."""
    prompt, model = request.body["messages"][0]["content"], request.body["model"]
    if "logprobs" in request.body:
        return error(403, "You are not allowed to request logprobs from this model")
    if model == "gone":
        return error(401, "Incorrect API key provided")
    if model not in TRUST:
        return Answer(body=completion(message={"content": "Both have merits."}))
    letter = TRUST[model] if "Reply A: Reply 0" in prompt else {"A": "B", "B": "A"}[TRUST[model]]
    return Answer(body=completion(message={"content": letter}))


def server_of():
    names = ("gpt-4o", "tiny", "talker", "gone")
    return FakeServer(rule=serve, models=Answer(body={"object": "list", "data": [{"id": name} for name in names]}))


def command(server, *judges, study="study"):
    return (
        "study",
        "judge",
        study,
        "--base-url",
        server.url,
        *(word for judge in judges for word in ("--judge", judge)),
    )


def test_several_judges_are_asked_one_after_another(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    with server_of() as server:
        done = localemp(*command(server, "gpt-4o", "tiny"))
        asked = [request.body["model"] for request in server.requests]
        again = localemp(*command(server, "gpt-4o", "tiny"))
        assert len(server.requests) == len(asked), "what is answered is not asked again"
    assert done.returncode == again.returncode == 0, done.stderr
    assert asked == sorted(asked), "one after another"
    assert done.stdout.index("\ngpt-4o:") < done.stdout.index("\ntiny:")
    assert done.stdout.count("36 answers, 0 unparsable") == 2
    assert "gpt-4o: Answering" in done.stderr
    assert "tiny: Answering" in done.stderr
    assert "resuming: 36 of 36 answers" in again.stderr
    for judge, system in (("gpt-4o", "0"), ("tiny", "1")):
        assert {vote.value[-1] for vote in read_judge(study.folder / "judges" / judge)} == {system}


def test_a_judge_that_fails_is_named_and_the_others_are_asked(localemp, tmp_path):
    study = small_study(tmp_path / "study", items=20)
    with server_of() as server:
        words = command(server, "gone", "talker", "gpt-4o")
        done = localemp(*words, "--concurrency", 1, env={"OPENAI_API_KEY": "sk-of-a-test"})
    assert done.returncode == 1
    assert "error: gone: " in done.stderr
    assert "Incorrect API key provided" in done.stderr
    assert "stopped: 0 of 120 answers saved" in done.stderr
    assert "error: talker: " in done.stderr
    assert "answers cannot be read" in done.stderr
    assert "120 answers, 0 unparsable" in done.stdout
    assert read_stats(study.folder / "judges" / "gpt-4o").votes == 60
    assert "localemp study report" not in done.stdout, "the hint is for when all is done"


def test_python_returns_results_and_errors_by_name(tmp_path):
    small_study(tmp_path / "study", items=20)
    told = []
    with server_of() as server:
        outcomes = studies.judge_all(
            tmp_path / "study",
            ["talker", "gpt-4o"],
            base_url=server.url,
            on_progress=lambda each: told.append(each.task),
        )
    assert list(outcomes) == ["talker", "gpt-4o"]
    assert isinstance(outcomes["talker"], JudgeError)
    assert outcomes["gpt-4o"].stats.answers == 120
    assert {task.partition(": ")[0] for task in told} == {"talker", "gpt-4o"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--judge", "a", "--judge", "a"), "two judges are called a"),
        (("--judge", "org/a", "--judge", "org-a"), "two judges are called org-a"),
        (("--judge", "a", "--model", "b"), "--model and --judge"),
        (("--judge", "a", "--judge", "b", "--name", "mine"), "--name is for one judge"),
        (("--judge", "a", "--judge", "b", "--prompts", "epitome"), "no text for a study of kind 'ab'"),
        (("--judge", "a", "--judge", "b", "--prompts", "none"), "unknown prompts for a judge 'none'"),
        (("--judge", "a", "--judge", ""), "it is empty"),
    ],
    ids=["same", "same-folder", "model", "name", "kind", "unknown", "empty"],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(localemp, tmp_path, words, told):
    study = small_study(tmp_path / "study")
    with server_of() as server:
        done = localemp("study", "judge", "study", "--base-url", server.url, *words)
        assert not server.requests
    assert done.returncode == OptionError.exit_code
    assert told in done.stderr
    assert not (study.folder / "judges").exists()


def test_one_judge_is_the_model(localemp, tmp_path):
    study = small_study(tmp_path / "study")
    with server_of() as server:
        done = localemp(*command(server, "tiny"), "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert read_stats(study.folder / "judges" / "mine").answers == 36


# The family of a judge


def of_families(folder, **sources):
    """A small study whose systems have these sources."""
    study = small_study(folder, systems=tuple(sources))
    key = study.key.model_copy(update={"sources": sources})
    items, manifest = study.items, study.manifest.model_dump(exclude={"items_sha256", "key_sha256"})
    for name in ("study.json", "items.jsonl", "key.json"):
        (folder / name).unlink()
    return Study.write(folder, items, Key.model_validate(key.model_dump()), **manifest)


RUN = {"run": "runs/x", "settings": {"model": "gpt-3.5-turbo", "served_model": "gpt-3.5-turbo"}}


def test_a_judge_of_a_systems_family_is_warned_of_on_the_screen_alone(localemp, tmp_path):
    study = of_families(tmp_path / "study", ours=RUN, theirs={"run": "runs/y", "settings": {"model": "qwen"}})
    with server_of() as server:
        done = localemp(*command(server, "gpt-4o", "tiny"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("of the same family") == 1
    assert "warning: gpt-4o is of the same family as ours (OpenAI): judges may prefer" in done.stderr
    assert done.stderr.index("of the same family") < done.stderr.index("gpt-4o: Answering")
    for path in (study.folder / "judges").rglob("*.json*"):
        text = path.read_text("utf-8")
        assert not any(word in text for word in ("family", "ours", "theirs", "OpenAI")), path.name


def test_families_of_systems_are_known_by_settings_or_by_a_clear_name(tmp_path):
    study = of_families(tmp_path / "study", MoEL={"file": "x.txt"}, **{"Vicuna-7B": {"file": "y.txt"}})
    assert own_family(study, {"model": "llama"}) == {"Vicuna-7B": {"Llama"}}
    assert own_family(study, {"model": "scripted"}) == {}
    assert families_of_system("llama-like", RUN) == {"OpenAI"}, "what is recorded counts, not the name"
    assert families_of_system("llama-like", {"run": "x", "settings": {"model": "scripted"}}) == set()
    note = family_note("llama", {"a": frozenset({"Llama"}), "b": frozenset({"DeepSeek", "Llama"})})
    assert note.startswith("llama is of the same family as a, b (DeepSeek, Llama): ")


def test_a_study_without_its_key_is_judged_without_a_warning(tmp_path):
    study = of_families(tmp_path / "study", ours=RUN, theirs=RUN)
    (study.folder / "key.json").unlink()
    with server_of() as server, pytest.raises(Exception, match="key"):
        studies.judge(tmp_path / "study", model="gpt-4o", base_url=server.url)
    assert len((study.folder / "judges" / "gpt-4o" / VOTES).read_bytes().splitlines()) == 36
